"""The frames of a window: seek, decode, scale, and show the right frame at the right time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from zoo.contracts import Resize
from zoo.media.container import Source, UnsureError
from zoo.media.resize import fit_around, resize_frame
from zoo.media.times import BACK_S, JUMP_S

TIME_TOLERANCE_S = 1e-6
LEAD_S = 0.25  # from here before a window on, every frame is decoded
JITTER = 1.5  # frames: a frame that is on for longer stands until half a frame before the next
WALK_S = 1.0  # a gap that is decoded rather than jumped over, unless key frames are further apart
# How much earlier than the window to seek, and whether to skip frames that no other refers to on
# the way; the next is tried when a seek landed too late, or the frames lie too far apart.
ATTEMPTS = ((0.0, True), (0.0, False), (1.0, False), (4.0, False), (16.0, False))
Image = npt.NDArray[np.generic]


@dataclass(frozen=True)
class WindowFrames:
    """Frames of a window, and the end of the last frame that was decoded for it, seconds."""

    frames: Image
    end_s: float


class Scaler:
    """Turns decoded frames into RGB arrays of one short side, upright."""

    def __init__(self, short_side: int | None, *, exact: bool, resize: Resize = "ffmpeg"):
        self.short_side, self.resize = short_side, resize
        self.interpolation = Interpolation.BICUBIC if exact else Interpolation.AREA
        self._reformatter = VideoReformatter()  # keeps its swscale context between frames

    def __call__(self, frame: Any, short_side: int | None = None) -> Image:
        """Return an upright ``(H, W, 3)`` image; ``short_side`` is in place of its own."""
        short_side = short_side or self.short_side
        own = short_side if self.resize == "ffmpeg" else None
        width, height = _target_size(frame.width, frame.height, own)  # before rotation
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
        if short_side is None or self.resize == "ffmpeg":
            return image
        return resize_frame(image, short_side, self.resize)

    def like(self, frame: Any, shape: tuple[int, ...]) -> Image:
        """Return an image of another shape: scaled, and cut or filled up around its middle."""
        return fit_around(self(frame, short_side=min(shape[:2])), shape[0], shape[1])


def _target_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


class VideoReader:
    """Reads windows of a film; one that begins where the last one ended goes on there.

    Args:
        source: the clip, which nothing else reads from meanwhile.
        fps: frames per second of the answer.
        scaler: of the frames.
    """

    def __init__(self, source: Source, fps: float, scaler: Scaler) -> None:
        self.source, self.fps, self.scaler = source, fps, scaler
        self._film: _Film | None = None

    def read(self, start_s: float, num_frames: int) -> WindowFrames | None:
        """Read the frames at ``start_s + k / fps``; None if not one can be decoded.

        Raises:
            UnsureError: if the times of frames cannot be right.
        """
        source, frame_s = self.source, self.source.frame_s
        times_s = start_s + np.arange(num_frames) / self.fps
        errors = source.num_errors
        window = self._go_on(times_s)
        if window is not None:
            return window
        for retreat_s, skips in ATTEMPTS:
            target_s = start_s - retreat_s
            if target_s <= source.start_of(source.video):
                break
            source.num_errors = errors
            if source.seek(source.video, target_s):
                source.skip_until_s = start_s - LEAD_S if skips else -np.inf
                self._film = _Film(source, self.scaler, frame_s, is_seek=True)
                window = self._film.show(times_s)
                if window is not None:
                    return window
        source.num_errors = errors
        source.rewind(source.video)
        source.skip_until_s = -np.inf
        self._film = _Film(source, self.scaler, frame_s, is_seek=False)
        return self._film.show(times_s)

    def _go_on(self, times_s: npt.NDArray[np.float64]) -> WindowFrames | None:
        """Read on from where the last window ended, unless a key frame is likely to be nearer."""
        film, source = self._film, self.source
        if film is None or times_s[0] < film.known_from_s - TIME_TOLERANCE_S:
            return None
        gap_s = times_s[0] - film.last_s
        if source.can_seek and gap_s > max(WALK_S, film.last_s - film.last_key_s):
            return None
        is_far = gap_s > WALK_S and 2 * source.frame_s < LEAD_S
        source.skip_until_s = times_s[0] - LEAD_S if is_far else -np.inf
        return film.show(times_s)


class _Film:
    """Frames in the order of their times, from where a file is read on.

    A frame is shown from the middle between its predecessor and itself to the middle between
    itself and its successor, so each is converted only once its successor is known.  One that is
    on for longer than others, as where a screen stands still, is shown until half a frame before
    its successor.

    Attributes:
        known_from_s: from when on it is known what is on, seconds.
        last_s: time of the last frame that was decoded, seconds.
        last_key_s: time of the last key frame.
    """

    def __init__(self, source: Source, scaler: Scaler, frame_s: float, *, is_seek: bool) -> None:
        self._source, self._scaler, self._frame_s = source, scaler, frame_s
        self._is_seek = is_seek
        self._frames = source.frames(source.video)
        self._last: Any = None
        self.known_from_s = self.last_s = self.last_key_s = -np.inf
        # Until when frames were on before the last one, and their images if they were asked for.
        self._shown: list[tuple[float, Image | None]] = []

    def show(self, times_s: npt.NDArray[np.float64]) -> WindowFrames | None:
        """Return what is on at some times; None if that cannot be told from here."""
        if self._last is None and not self._take_first(times_s[0]):
            return None
        self._shown = [shown for shown in self._shown if shown[0] + TIME_TOLERANCE_S >= times_s[0]]
        frames: Image | None = None
        filled = 0
        for until_s, image in self._shown:
            until = _count(times_s, until_s)
            if until > filled:
                if image is None:
                    return None
                frames = _like(image, len(times_s)) if frames is None else frames
                frames[filled:until] = image
                filled = until
        while filled < len(times_s):
            time_s, frame = next(self._frames, (np.inf, None))
            until_s = self._last_until(time_s)
            until, image = _count(times_s, until_s), None
            if until > filled:
                if not filled and self.last_s < self._source.skip_until_s:
                    return None  # what is on may have been skipped
                frames, image = self._fill(frames, filled, until, len(times_s))
                filled = until
            if frame is None:
                break
            self._shown.append((until_s, image))
            self._set_last(time_s, frame)
        assert frames is not None
        self.known_from_s = times_s[0]
        length_s = float((self._last.duration or 0) * self._last.time_base)
        return WindowFrames(frames, self.last_s + length_s)

    def _take_first(self, start_s: float) -> bool:
        for time_s, frame in self._frames:
            if self._is_seek and not frame.key_frame:
                continue  # frames before the first key frame may lack what they refer to
            self._set_last(time_s, frame)
            return not self._is_seek or time_s <= start_s + TIME_TOLERANCE_S
        return False

    def _set_last(self, time_s: float, frame: Any) -> None:
        is_odd = self._last is not None and not (
            self.last_s - BACK_S <= time_s <= self.last_s + JUMP_S
        )
        if is_odd and self._source.times is None:
            raise UnsureError
        self._last, self.last_s = frame, time_s
        if frame.key_frame:
            self.last_key_s = time_s

    def _last_until(self, next_s: float) -> float:
        """Return until when the last frame is on, given the time of the next one."""
        gap_s = next_s - self.last_s
        return next_s - (gap_s if gap_s <= JITTER * self._frame_s else self._frame_s) / 2

    def _fill(
        self, frames: Image | None, begin: int, end: int, num_frames: int
    ) -> tuple[Image, Image | None]:
        """Show the last frame in a part of a window; return the window, and the image in it."""
        image = self._scaler(self._last)
        frames = _like(image, num_frames) if frames is None else frames
        if image.shape == frames.shape[1:]:
            frames[begin:end] = image
            return frames, frames[begin]
        frames[begin:end] = self._scaler.like(self._last, frames.shape[1:])
        return frames, None  # a window that begins here has another size


def _count(times_s: npt.NDArray[np.float64], until_s: float) -> int:
    return int(np.searchsorted(times_s, until_s + TIME_TOLERANCE_S, side="right"))


def _like(image: Image, num_frames: int) -> Image:
    return np.empty((num_frames, *image.shape), image.dtype)
