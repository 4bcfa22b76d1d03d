"""The pictures of a window: seek, decode, scale, and show the right frame at the right time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from zoo.media.container import Source

TIME_TOLERANCE_S = 1e-6
RETREATS_S = (0.0, 1.0, 4.0, 16.0)  # how much earlier to seek when a seek landed too late


@dataclass(frozen=True)
class Pictures:
    """Frames of a window, and how much of it was really there, seconds."""

    frames: npt.NDArray[np.uint8]
    last_s: float


class Scaler:
    """Turns decoded frames into RGB arrays of one size, upright."""

    def __init__(self, short_side: int | None):
        self.short_side = short_side
        self.size: tuple[int, int] | None = None  # width and height before rotation
        self._reformatter = VideoReformatter()  # keeps its swscale context between frames

    def __call__(self, frame: Any) -> npt.NDArray[np.uint8]:
        """Return an upright ``(H, W, 3)`` picture."""
        if self.size is None:
            self.size = _target_size(frame.width, frame.height, self.short_side)
        width, height = self.size
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        picture = rows[:, : 3 * width].reshape(height, width, 3)
        return np.rot90(picture, round(frame.rotation / 90))


def _target_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


def read_video(
    source: Source, *, start_s: float, num_frames: int, fps: float, short_side: int | None
) -> Pictures:
    """Read the frames nearest to ``start_s + k / fps``."""
    stream = source.video
    assert stream is not None
    stream.codec_context.thread_type = "NONE"
    errors = source.num_errors
    first_s = source.start_of(stream)
    times_s = start_s + np.arange(num_frames) / fps
    for retreat_s in RETREATS_S:
        target_s = start_s - retreat_s
        if target_s <= first_s:
            break
        if source.seek(stream, target_s):
            pictures = _read_from_here(source, times_s, short_side, is_seek=True)
            if pictures is not None:
                return pictures
        source.num_errors = errors
    source.seek(stream, first_s - 1.0)
    pictures = _read_from_here(source, times_s, short_side, is_seek=False)
    assert pictures is not None
    return pictures


def _read_from_here(
    source: Source, times_s: npt.NDArray[np.float64], short_side: int | None, *, is_seek: bool
) -> Pictures | None:
    """Fill the window from the current position; None if that lies after the window's start.

    A frame is shown from the middle between its predecessor and itself to the middle between
    itself and its successor, so each is converted only once its successor is known.
    """
    num_frames = len(times_s)
    scaler = Scaler(short_side)
    out: npt.NDArray[np.uint8] | None = None
    filled = 0
    held: Any = None
    held_s = -np.inf

    def show(frame: Any, until: int) -> None:
        nonlocal out, filled
        if until > filled:
            picture = scaler(frame)
            if out is None:
                out = np.empty((num_frames, *picture.shape), np.uint8)
            out[filled:until] = picture
            filled = until

    for time_s, frame in source.frames(source.video):
        if held is None:
            if is_seek and not frame.key_frame:
                continue  # pictures before the first key frame may lack what they refer to
            if is_seek and time_s > times_s[0] + TIME_TOLERANCE_S:
                return None
        else:
            middle_s = (held_s + time_s) / 2 + TIME_TOLERANCE_S
            show(held, int(np.searchsorted(times_s, middle_s, side="right")))
            if filled == num_frames:
                break
        held, held_s = frame, time_s
    if held is None:
        if is_seek:
            return None
        return Pictures(np.zeros((0, 0, 0, 3), np.uint8), -np.inf)
    show(held, num_frames)
    assert out is not None
    return Pictures(out, held_s)
