"""What a clip is made of, and how far its clock can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.errors import MediaError
from zoo.media.apart import reads_clip
from zoo.media.container import MAX_FPS, Source, open_source

MAX_INEXACT = 0.001  # of a rate that a container states
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
    """A clip.

    ``low_confidence`` says why its clock cannot be trusted, and is None where it can; ``notes`` say
    what was assumed in reading it, or left out.
    """

    path: Path
    container: str
    duration_s: float
    video: VideoInfo | None
    audio: AudioInfo | None
    low_confidence: str | None
    notes: tuple[str, ...] = ()

    @property
    def common_s(self) -> float:
        """End of the stretch, from time 0, that every stream of the clip covers, seconds."""
        return min(stream.end_s for stream in (self.video, self.audio) if stream is not None)


@reads_clip
def probe(
    path: str | Path, audio_track: int | None = None, video_track: int | None = None
) -> ClipInfo:
    """Describe a clip without decoding more than its beginning.

    Args:
        path: the clip's file.
        audio_track: which audio track to describe, from 1; by default the first that can be
            decoded.
        video_track: which video track to describe, from 1; by default the film.

    Raises:
        MediaError: if the file is missing or is not media. A missing stream is no error here.
    """
    with open_source(path, audio_track, video_track) as source:
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
    source.check_ends()
    audio = _describe_audio(source) if source.audio is not None else None
    video = _describe_video(source) if source.video is not None else None
    return ClipInfo(
        path=source.path,
        container=source.container.format.name,
        duration_s=max(stream.end_s for stream in (video, audio) if stream is not None),
        video=video,
        audio=audio,
        low_confidence=source.low_confidence,
        notes=tuple(source.notes),
    )


def _describe_audio(source: Source) -> AudioInfo:
    stream = source.rewind(source.audio)
    frame = next(source.frames(stream), None)
    start_s = source.start_of(stream) if frame is None else frame[0]
    return AudioInfo(
        codec=stream.codec_context.name,
        sample_rate_hz=stream.codec_context.sample_rate,
        channels=stream.codec_context.channels,
        start_s=start_s,
        duration_s=source.end_of(stream) - start_s,
    )


def _describe_video(source: Source) -> VideoInfo:
    stream = source.rewind(source.video)
    start_s, frame = next(source.frames(stream), (source.start_of(stream), None))
    rotation_deg = 0 if frame is None else int(frame.rotation)
    width, height = stream.codec_context.width, stream.codec_context.height
    if rotation_deg % 180:
        width, height = height, width
    steps_s = source.first_steps_s()
    spread_s = float(np.ptp(steps_s)) if len(steps_s) > 1 else 0.0
    fps = float(stream.average_rate or stream.guessed_rate or 25)
    if len(steps_s) > 1 and MAX_FPS * float(np.mean(steps_s)) >= 1:
        found = 1 / float(np.mean(steps_s))
        is_other = spread_s == 0 and abs(found - fps) > MAX_INEXACT * fps
        fps = found if is_other or spread_s > JITTER_S or fps > MAX_FPS else fps
    return VideoInfo(
        codec=stream.codec_context.name,
        width=width,
        height=height,
        fps=fps,
        is_variable_rate=spread_s > JITTER_S,
        rotation_deg=rotation_deg,
        start_s=start_s,
        duration_s=source.end_of(stream) - start_s,
    )
