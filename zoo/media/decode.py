"""A stretch of a clip, frames and audio, on one clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.contracts import Resize
from zoo.errors import MediaError
from zoo.media.apart import reads_clip
from zoo.media.audio import read_audio
from zoo.media.container import Source, open_source
from zoo.media.untrusted import require_packets
from zoo.media.video import WindowFrames, read_video

MAX_MISSING = 0.1  # a window may lack this part before the clip counts as damaged
MIN_MISSING_S = 0.25  # below this, a claimed duration is merely inexact


@dataclass(frozen=True)
class Window:
    """A decoded stretch: ``frames`` ``(Tv, H, W, 3)`` RGB, ``samples`` float32 mono ``(N,)``.

    Frames are uint8; ``bicubic_square`` gives float32 around 0 to 255.  Frame k shows time
    ``start_s + k / fps``, sample n is at ``start_s + n / sample_rate_hz``.  ``num_errors`` counts
    the packets that failed to decode.
    """

    start_s: float
    frames: npt.NDArray[Any] | None
    samples: npt.NDArray[np.float32] | None
    fps: float
    sample_rate_hz: int
    num_errors: int


@reads_clip
def decode(
    path: str | Path,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    fps: float = 25.0,
    short_side: int | None = None,
    sample_rate_hz: int = 16_000,
    video: bool = True,
    audio: bool = True,
    exact: bool = True,
    audio_track: int | None = None,
    resize: Resize = "ffmpeg",
) -> Window:
    """Decode a window of a clip, every frame and sample placed by its presentation time.

    Where the window reaches beyond a stream, the first or last frame is repeated and the audio
    is silent.

    Args:
        path: the clip's file.
        start_s: start of the window, seconds on the clip's clock.
        duration_s: length of the window, seconds; by default up to where a stream ends first.
        fps: frames per second of the answer; each is the source frame nearest in time.
        short_side: resize the shorter side to so many pixels; by default the native size.
        sample_rate_hz: audio samples per second of the answer.
        video: read the frames.
        audio: read the sound.
        exact: False averages areas instead of bicubic scaling, which takes half the time and
            changes the frames slightly, never their times.
        audio_track: which audio track to read, from 1; by default the first.
        resize: how frames are resized, if they are.

    Raises:
        MediaError: if the file cannot be read, lacks a stream that was asked for, is damaged in
            the window, or ends before it.
    """
    with open_source(path, audio_track) as source:
        streams = _streams(source, video, audio)
        end_s = _window_end(source, streams, start_s, duration_s, fps)
        duration_s = end_s - start_s if duration_s is None else duration_s
        for stream in streams:
            num_bytes = _bytes_per_s(stream, fps, short_side, sample_rate_hz) * duration_s
            require_packets(source.path, stream, num_bytes, duration_s)
        frames = samples = None
        if video:
            num_frames = max(1, round(duration_s * fps))
            scale = partial(read_video, short_side=short_side, exact=exact, resize=resize)
            frames = _read_frames(source, start_s, end_s, num_frames, fps, scale)
        if audio:
            num_samples = round(duration_s * sample_rate_hz)
            samples = _read_samples(source, start_s, end_s, num_samples, sample_rate_hz)
        return Window(
            start_s=start_s,
            frames=frames,
            samples=samples,
            fps=fps,
            sample_rate_hz=sample_rate_hz,
            num_errors=source.num_errors,
        )


def _bytes_per_s(stream: Any, fps: float, short_side: int | None, sample_rate_hz: int) -> float:
    """Return about how much memory a second of a stream takes while it is decoded."""
    codec = stream.codec_context
    if stream.type == "audio":
        return 5.0 * max(sample_rate_hz, codec.sample_rate)
    return 3 * fps * (codec.width * codec.height if short_side is None else 2 * short_side**2)


def _streams(source: Source, video: bool, audio: bool) -> list[Any]:
    if not video and not audio:
        raise MediaError("nothing to decode: ask for video, audio or both")
    wanted = [("video", source.video)] * video + [("audio", source.audio)] * audio
    for name, stream in wanted:
        if stream is None:
            raise MediaError(f"{source.path.name} has no {name} stream")
    return [stream for _, stream in wanted]


def _window_end(
    source: Source, streams: list[Any], start_s: float, duration_s: float | None, fps: float
) -> float:
    first_s = min(source.start_of(stream) for stream in streams)
    last_s = max(source.end_of(stream) for stream in streams)
    if duration_s is None:
        end_s = min(source.end_of(stream) for stream in streams)
    elif duration_s * fps >= 0.5:
        end_s = start_s + duration_s
    else:
        raise MediaError(f"a window of {duration_s:g} s is shorter than a frame at {fps:g} fps")
    if start_s > last_s + 1 / fps or end_s < first_s - 1 / fps or (end_s - start_s) * fps < 0.5:
        raise MediaError(
            f"{source.path.name} lasts from {first_s:.2f} to {last_s:.2f} s; "
            f"the window from {start_s:.2f} to {max(start_s, end_s):.2f} s lies outside"
        )
    return end_s


def _read_frames(
    source: Source,
    start_s: float,
    end_s: float,
    num_frames: int,
    fps: float,
    read: Callable[..., WindowFrames | None],
) -> npt.NDArray[Any]:
    """Read the frames, unless too many are repeats of what was decoded last."""
    stream = source.video
    assert stream is not None
    window = read(source, start_s=start_s, num_frames=num_frames, fps=fps)
    if window is None:
        raise MediaError(f"{source.path.name} is damaged: not one frame can be decoded")
    until_s = min(end_s, source.end_of(stream))
    rate = stream.average_rate or stream.guessed_rate or 25
    missing_s = max(0.0, until_s - window.end_s) + source.num_errors / float(rate)
    _refuse_damage(source, "video", missing_s, until_s - max(start_s, source.start_of(stream)))
    return window.frames


def _read_samples(
    source: Source, start_s: float, end_s: float, num_samples: int, sample_rate_hz: int
) -> npt.NDArray[np.float32]:
    """Read the samples, unless too many are silence for want of packets."""
    stream = source.audio
    assert stream is not None
    num_errors = source.num_errors
    sound = read_audio(
        source, start_s=start_s, num_samples=num_samples, sample_rate_hz=sample_rate_hz
    )
    until_s = min(end_s, source.end_of(stream))
    expected_s = until_s - max(start_s, source.start_of(stream))
    # Without errors, what is missing in the middle is a hole that its author left.
    has_errors = source.num_errors > num_errors
    missing_s = expected_s - sound.decoded_s if has_errors else until_s - sound.end_s
    _refuse_damage(source, "audio", missing_s, expected_s)
    return sound.samples


def _refuse_damage(source: Source, name: str, missing_s: float, expected_s: float) -> None:
    missing_s = min(missing_s, expected_s)
    if missing_s > max(MIN_MISSING_S, MAX_MISSING * expected_s):
        raise MediaError(
            f"{source.path.name} is damaged: {missing_s:.2f} of {expected_s:.2f} s of {name} "
            f"cannot be decoded; copy or download it again"
        )
