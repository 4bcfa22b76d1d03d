"""A stretch of a clip, pictures and sound, on one clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import MediaError
from zoo.media.audio import Sound, read_audio
from zoo.media.container import Source, open_source
from zoo.media.video import Pictures, read_video

MAX_MISSING = 0.1  # a window may lack this part before the clip counts as damaged
MIN_MISSING_S = 0.25  # below this, a claimed duration is merely inexact


@dataclass(frozen=True)
class Window:
    """A decoded stretch: ``frames`` uint8 ``(Tv, H, W, 3)`` RGB, ``samples`` float32 mono ``(N,)``.

    Frame k shows time ``start_s + k / fps``, sample n is at ``start_s + n / sample_rate_hz``.
    ``num_errors`` counts the packets that failed to decode.
    """

    start_s: float
    frames: npt.NDArray[np.uint8] | None
    samples: npt.NDArray[np.float32] | None
    fps: float
    sample_rate_hz: int
    num_errors: int


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
) -> Window:
    """Decode a window of a clip, every frame and sample placed by its presentation time.

    Where the window reaches beyond a stream, the first or last picture is repeated and the sound
    is silent.

    Args:
        path: the clip's file.
        start_s: start of the window, seconds on the clip's clock.
        duration_s: length of the window, seconds; by default up to where a stream ends first.
        fps: frames per second of the answer; each is the source frame nearest in time.
        short_side: resize the shorter side to so many pixels; by default the native size.
        sample_rate_hz: audio samples per second of the answer.
        video: read the pictures.
        audio: read the sound.
        exact: False skips the decoder's deblocking filter, which is faster and changes the
            pictures slightly, never their times.

    Raises:
        MediaError: if the file cannot be read, lacks a stream that was asked for, is damaged in
            the window, or ends before it.
    """
    with open_source(path) as source:
        streams = _streams(source, video, audio)
        end_s = _window_end(source, streams, start_s, duration_s, fps)
        duration_s = end_s - start_s
        pictures = sound = None
        if video:
            if not exact and source.video is not None:
                source.video.codec_context.options = {"skip_loop_filter": "all"}
            pictures = read_video(
                source,
                start_s=start_s,
                num_frames=round(duration_s * fps),
                fps=fps,
                short_side=short_side,
            )
            _check_pictures(source, pictures, start_s, end_s)
        if audio:
            sound = read_audio(
                source,
                start_s=start_s,
                num_samples=round(duration_s * sample_rate_hz),
                sample_rate_hz=sample_rate_hz,
            )
            _check_sound(source, sound, start_s, end_s)
        return Window(
            start_s=start_s,
            frames=pictures.frames if pictures else None,
            samples=sound.samples if sound else None,
            fps=fps,
            sample_rate_hz=sample_rate_hz,
            num_errors=source.num_errors,
        )


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
    ends_s = [source.end_of(stream) for stream in streams]
    first_s = min(source.start_of(stream) for stream in streams)
    end_s = min(ends_s) if duration_s is None else start_s + duration_s
    if start_s > max(ends_s) + 1 / fps or end_s < first_s - 1 / fps or end_s <= start_s:
        raise MediaError(
            f"{source.path.name} lasts from {first_s:.2f} to {max(ends_s):.2f} s; "
            f"the window from {start_s:.2f} to {end_s:.2f} s lies outside"
        )
    return end_s


def _check_pictures(source: Source, pictures: Pictures, start_s: float, end_s: float) -> None:
    stream = source.video
    assert stream is not None
    expected_s = min(end_s, source.end_of(stream)) - max(start_s, source.start_of(stream))
    missing_s = min(end_s, source.end_of(stream)) - pictures.last_s
    _refuse_damage(source, "video", missing_s, expected_s)


def _check_sound(source: Source, sound: Sound, start_s: float, end_s: float) -> None:
    stream = source.audio
    assert stream is not None
    expected_s = min(end_s, source.end_of(stream)) - max(start_s, source.start_of(stream))
    _refuse_damage(source, "audio", expected_s - sound.decoded_s, expected_s)


def _refuse_damage(source: Source, name: str, missing_s: float, expected_s: float) -> None:
    missing_s = min(missing_s, expected_s)
    if missing_s > max(MIN_MISSING_S, MAX_MISSING * expected_s):
        raise MediaError(
            f"{source.path.name} is damaged: {missing_s:.2f} of {expected_s:.2f} s of {name} "
            f"cannot be decoded; copy or download it again"
        )
