"""What a clip is made of, and how far its clock can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import MediaError
from zoo.media.apart import reads_clip
from zoo.media.container import Source, open_source

PACKETS_SEEN = 120  # video packets read to tell a variable frame rate from a constant one
MAX_REORDER = 20  # more than the 16 frames by which H.264 and H.265 may reorder
JITTER_S = 0.003  # Matroska rounds to 1 ms, so two neighbouring steps may differ by 2 ms


@dataclass(frozen=True)
class VideoInfo:
    """A video stream: width and height are as shown, after rotation; times are on the clip's clock.

    ``rotation_deg`` is how far the stored frame is turned counter-clockwise for display.
    """

    codec: str
    width: int
    height: int
    fps: float
    is_variable_rate: bool
    rotation_deg: int
    start_s: float
    duration_s: float

    @property
    def end_s(self) -> float:
        """End of the last frame, seconds."""
        return self.start_s + self.duration_s


@dataclass(frozen=True)
class AudioInfo:
    """An audio stream; times are on the clip's clock."""

    codec: str
    sample_rate_hz: int
    channels: int
    start_s: float
    duration_s: float

    @property
    def end_s(self) -> float:
        """End of the last sample, seconds."""
        return self.start_s + self.duration_s


@dataclass(frozen=True)
class ClipInfo:
    """A clip; ``low_confidence`` says why its clock cannot be trusted, and is None where it can."""

    path: Path
    container: str
    duration_s: float
    video: VideoInfo | None
    audio: AudioInfo | None
    low_confidence: str | None

    @property
    def common_s(self) -> float:
        """End of the stretch, from time 0, that every stream of the clip covers, seconds."""
        return min(stream.end_s for stream in (self.video, self.audio) if stream is not None)


@reads_clip
def probe(path: str | Path, audio_track: int | None = None) -> ClipInfo:
    """Describe a clip without decoding it.

    Args:
        path: the clip's file.
        audio_track: which audio track to describe, from 1; by default the first.

    Raises:
        MediaError: if the file is missing or is not media. A missing stream is no error here.
    """
    with open_source(path, audio_track) as source:
        return _describe(source)


def require_streams(info: ClipInfo) -> None:
    """Refuse a clip without video or without audio.

    Raises:
        MediaError: naming the missing stream.
    """
    for stream, name in ((info.video, "video"), (info.audio, "audio")):
        if stream is None:
            raise MediaError(f"{info.path.name} has no {name} stream")


def _describe(source: Source) -> ClipInfo:
    container = source.container
    audio = _describe_audio(source, source.audio) if source.audio is not None else None
    video = _describe_video(source, source.video) if source.video is not None else None
    return ClipInfo(
        path=source.path,
        container=container.format.name,
        duration_s=max(stream.end_s for stream in (video, audio) if stream is not None),
        video=video,
        audio=audio,
        low_confidence=source.low_confidence,
    )


def _describe_audio(source: Source, stream: Any) -> AudioInfo:
    source.rewind(stream)
    frame = next(source.frames(stream), None)
    start_s = source.start_of(stream) if frame is None else frame[0]
    return AudioInfo(
        codec=stream.codec_context.name,
        sample_rate_hz=stream.codec_context.sample_rate,
        channels=stream.codec_context.channels,
        start_s=start_s,
        duration_s=source.end_of(stream) - start_s,
    )


def _describe_video(source: Source, stream: Any) -> VideoInfo:
    stream.codec_context.thread_type = "NONE"
    source.rewind(stream)
    start_s, frame = next(source.frames(stream), (source.start_of(stream), None))
    rotation_deg = 0 if frame is None else int(frame.rotation)
    width, height = stream.codec_context.width, stream.codec_context.height
    if rotation_deg % 180:
        width, height = height, width
    steps_s = _frame_steps_s(source, stream)
    is_variable_rate = len(steps_s) > 1 and float(np.ptp(steps_s)) > JITTER_S
    rate = stream.average_rate or stream.guessed_rate or 25
    return VideoInfo(
        codec=stream.codec_context.name,
        width=width,
        height=height,
        fps=1 / float(np.mean(steps_s)) if is_variable_rate else float(rate),
        is_variable_rate=is_variable_rate,
        rotation_deg=rotation_deg,
        start_s=start_s,
        duration_s=source.end_of(stream) - start_s,
    )


def _frame_steps_s(source: Source, stream: Any) -> npt.NDArray[np.float64]:
    """Return the time from each of the first frames to the next, seconds."""
    source.rewind(stream)
    packets = list(islice(source.packets(stream), PACKETS_SEEN))
    pts = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(packets) == PACKETS_SEEN:
        pts = pts[:-MAX_REORDER]  # frames between the last ones may come in packets not read
    return np.diff(pts) * float(stream.time_base)
