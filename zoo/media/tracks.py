"""Which tracks of a container are read, and what is said of the choice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from av.stream import Disposition

from zoo.errors import MediaError

PICTURES = ("mjpeg", "png", "bmp", "gif", "webp", "tiff")  # codecs of thumbnails


def choose_video(path: Path, streams: Any, number: int | None) -> tuple[Any | None, list[str]]:
    """Pick the film: not a picture beside it; of several the default, else that of most frames.

    Phones and cameras put a thumbnail before the film, as a stream of one picture.

    Args:
        path: the clip.
        streams: its video streams.
        number: of the one that is asked for, from 1.

    Returns:
        The stream, and a note where there was a choice.

    Raises:
        MediaError: if there is no such track.
    """
    if number is not None:
        return _numbered(path, streams, number, "video"), []
    found = [s for s in _decodable(streams) if not s.disposition & Disposition.attached_pic]
    moving = [stream for stream in found if _num_frames(stream) > 1] or found
    films = [stream for stream in moving if stream.codec_context.name not in PICTURES] or moving
    marked = [stream for stream in films if stream.disposition & Disposition.default]
    film = max(marked or films, key=_num_frames, default=None)
    if len(films) < 2:
        return film, []
    why = "which is marked as the default" if len(marked) == 1 else "which has the most frames"
    if len({_num_frames(stream) for stream in marked or films}) == 1 != len(marked):
        why = "the first of equally long ones"
    return film, [
        f"video track {_number(film, streams)} of {len(streams)} is looked at, {why}; choose "
        "another with --video-track"
    ]


def choose_audio(path: Path, streams: Any, number: int | None) -> tuple[Any | None, list[str]]:
    """Pick the first track that can be decoded, or the one that is asked for; see `choose_video`.

    Raises:
        MediaError: if there is no such track, or it cannot be decoded.
    """
    if number is not None:
        return _numbered(path, streams, number, "audio"), []
    track = next(iter(_decodable(streams)), None)
    if track is None or track is streams[0]:
        return track, []
    number = _number(track, streams)
    return track, [f"audio track 1 cannot be decoded; track {number} is read"]


def seconds_of(tag: str) -> float | None:
    """Return a time as Matroska writes it in tags, seconds."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", tag)
    if found is None:
        return None
    hours, minutes, seconds = (float(part) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _decodable(streams: Any) -> list[Any]:
    return [stream for stream in streams if stream.codec_context is not None]


def _num_frames(stream: Any) -> float:
    """Return about how many frames a video has; its frames a second where no length is written."""
    if stream.frames:
        return float(stream.frames)
    length_s = seconds_of(stream.metadata.get("DURATION", "")) or 1.0
    if stream.duration:
        length_s = float(stream.duration * stream.time_base)
    return round(length_s * float(stream.average_rate or 0))


def _number(stream: Any, streams: Any) -> int:
    return 1 + [other.index for other in streams].index(stream.index)


def _numbered(path: Path, streams: Any, number: int, kind: str) -> Any:
    if not 1 <= number <= len(streams):
        have = {0: f"no {kind} track", 1: f"one {kind} track"}.get(
            len(streams), f"{len(streams)} {kind} tracks"
        )
        raise MediaError(f"{path} has {have}, so there is no track {number}")
    if streams[number - 1].codec_context is None:
        raise MediaError(f"{kind} track {number} of {path} cannot be decoded")
    return streams[number - 1]
