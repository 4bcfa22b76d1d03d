"""Which tracks of a container are read, and what is said of the choice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from zoo.errors import MediaError
from zoo.timeline import clock_tenths

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


class Change:
    """Finds out whether the frames of a stream go on with another rate, channels or size.

    Two alike make a stretch: HE-AAC tells its rate with the second frame, and where streams are
    joined, one frame may be of both.
    """

    def __init__(self) -> None:
        self._usual: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None
        self._since_s = 0.0

    def see(self, frame: Any, time_s: float) -> str | None:
        """Take the next frame; say what has changed, and when."""
        is_audio = isinstance(frame, av.AudioFrame)
        if is_audio:
            now = frame.sample_rate, frame.layout.nb_channels
        else:
            now = frame.width, frame.height
        if now != self._last:
            self._last, self._since_s = now, time_s
            return None
        before, self._usual = self._usual or now, now
        if before == now:
            return None
        kind = "audio" if is_audio else "video"
        one, other = (_in_words(kind, *size) for size in (before, now))
        return f"the {kind} changes from {one} to {other} at {clock_tenths(self._since_s)}"


def _in_words(kind: str, first: int, second: int) -> str:
    if kind == "video":
        return f"{first}x{second} pixels"
    return f"{first} Hz and {second} channel{'s' * (second != 1)}"
