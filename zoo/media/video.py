"""The frames of a window: seek, decode, scale, and show the right frame at the right time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from zoo.contracts import Resize
from zoo.media.container import Source
from zoo.media.resize import resize_frame

TIME_TOLERANCE_S = 1e-6
LEAD_S = 0.25  # from here before a window on, every frame is decoded
# How much earlier than the window to seek, and whether to skip frames that no other refers to on
# the way; the next is tried when a seek landed too late, or the frames lie too far apart.
ATTEMPTS = ((0.0, True), (0.0, False), (1.0, False), (4.0, False), (16.0, False))


@dataclass(frozen=True)
class WindowFrames:
    """Frames of a window, and the end of the last frame that was decoded for it, seconds."""

    frames: npt.NDArray[np.generic]
    end_s: float


class Scaler:
    """Turns decoded frames into RGB arrays of one size, upright."""

    def __init__(self, short_side: int | None, *, exact: bool, resize: Resize = "ffmpeg"):
        self.short_side, self.resize = short_side, resize
        self.interpolation = Interpolation.BICUBIC if exact else Interpolation.AREA
        self.size: tuple[int, int] | None = None  # width and height before rotation
        self._reformatter = VideoReformatter()  # keeps its swscale context between frames

    def __call__(self, frame: Any) -> npt.NDArray[np.generic]:
        """Return an upright ``(H, W, 3)`` image."""
        if self.size is None:
            short_side = self.short_side if self.resize == "ffmpeg" else None
            self.size = _target_size(frame.width, frame.height, short_side)
        width, height = self.size
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=self.interpolation,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        image = rows[:, : 3 * width].reshape(height, width, 3)
        image = np.rot90(image, round(frame.rotation / 90))
        if self.short_side is None or self.resize == "ffmpeg":
            return image
        return resize_frame(image, self.short_side, self.resize)


def _target_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


def read_video(
    source: Source,
    *,
    start_s: float,
    num_frames: int,
    fps: float,
    short_side: int | None,
    exact: bool,
    resize: Resize = "ffmpeg",
) -> WindowFrames | None:
    """Read the frames nearest to ``start_s + k / fps``; None if not one can be decoded."""
    stream = source.video
    assert stream is not None
    stream.codec_context.thread_type = "NONE"
    errors = source.num_errors
    times_s = start_s + np.arange(num_frames) / fps
    for retreat_s, skips in ATTEMPTS:
        target_s = start_s - retreat_s
        if target_s <= source.start_of(stream):
            break
        if source.seek(stream, target_s):
            window = _Window(times_s, Scaler(short_side, exact=exact, resize=resize))
            skip_until_s = start_s - LEAD_S if skips else -np.inf
            if _read_from_here(source, window, skip_until_s, is_seek=True):
                return window.finish()
        source.num_errors = errors
    source.rewind(stream)
    window = _Window(times_s, Scaler(short_side, exact=exact, resize=resize))
    _read_from_here(source, window, -np.inf, is_seek=False)
    return window.finish()


def _read_from_here(source: Source, window: _Window, skip_until_s: float, *, is_seek: bool) -> bool:
    """Fill the window from the current position; False if that does not show its start."""
    start_s = window.times_s[0]
    is_start_sure = skip_until_s == -np.inf
    for time_s, frame in source.frames(source.video, skip_until_s):
        if is_seek and window.is_empty:
            if not frame.key_frame:
                continue  # frames before the first key frame may lack what they refer to
            if time_s > start_s + TIME_TOLERANCE_S:
                return False
        # Whatever was skipped lies further away from the start than this frame.
        is_start_sure |= abs(time_s - start_s) <= LEAD_S
        window.add(time_s, frame)
        if window.is_full:
            break
    return is_start_sure and not window.is_empty


class _Window:
    """The output array, filled as frames arrive in the order of their times.

    A frame is shown from the middle between its predecessor and itself to the middle between
    itself and its successor, so each is converted only once its successor is known.
    """

    def __init__(self, times_s: npt.NDArray[np.float64], scaler: Scaler):
        self.times_s = times_s
        self._scaler = scaler
        self._frames: npt.NDArray[np.generic] | None = None
        self._filled = 0
        self._last: Any = None
        self._last_s = -np.inf

    @property
    def is_empty(self) -> bool:
        return self._last is None

    @property
    def is_full(self) -> bool:
        return self._filled == len(self.times_s)

    def add(self, time_s: float, frame: Any) -> None:
        """Take the next frame, which settles where the one before it is shown."""
        if self._last is not None:
            middle_s = (self._last_s + time_s) / 2 + TIME_TOLERANCE_S
            self._show_last(int(np.searchsorted(self.times_s, middle_s, side="right")))
        self._last, self._last_s = frame, time_s

    def finish(self) -> WindowFrames | None:
        """Repeat the last frame to the end of the window."""
        if self._last is None:
            return None
        self._show_last(len(self.times_s))
        assert self._frames is not None
        length_s = float((self._last.duration or 0) * self._last.time_base)
        return WindowFrames(self._frames, self._last_s + length_s)

    def _show_last(self, until: int) -> None:
        if until <= self._filled:
            return
        image = self._scaler(self._last)
        if self._frames is None:
            self._frames = np.empty((len(self.times_s), *image.shape), image.dtype)
        self._frames[self._filled : until] = image
        self._filled = until
