"""The sound of a window: samples placed by time, mixed to mono, resampled on a fixed lattice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import format_dtypes
from av.audio.plane import AudioPlane
from av.audio.resampler import AudioResampler

from zoo.errors import MediaError
from zoo.media.apart import reads_clip
from zoo.media.container import Source, open_source

Samples = npt.NDArray[np.float32]

HOLE_S = 0.002  # larger disagreement between count and timestamp is a hole, smaller is rounding
PRE_ROLL_S = 0.25  # decoders need some packets before their output is right (Opus 80 ms, MP3 more)
NEEDED_S = 0.12  # the part of it that must be there
MOST_FRAMES = 64  # placed together: 1.5 s of AAC
MARGIN_S = 0.02  # more than the resampler's filter reaches
RETREATS_S = (0.0, 1.0, 4.0)
CANCELS = 1e-3  # of the power of the loudest channel: less is left when its channels are mixed
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


@dataclass(frozen=True)
class Sound:
    """Samples of a window, how much of it was decoded and where that ends, seconds."""

    samples: Samples
    decoded_s: float
    end_s: float


@dataclass(frozen=True)
class PacketGrid:
    """Where the packets of a stream lie when counted from its start: ``first + j * step`` samples.

    Matroska rounds times to 1 ms. Counting makes a window that was reached by seeking land on the
    same sample as a decode of the whole stream.
    """

    first: int
    step: int
    tolerance: float

    def snap(self, index: int, num_samples: int) -> int:
        """Return the grid point that a rounded time stands for, or the time itself."""
        if num_samples != self.step:
            return index
        on_grid = self.first + round((index - self.first) / self.step) * self.step
        return on_grid if abs(on_grid - index) <= self.tolerance else index


class Line:
    """A stretch of the stream's own samples; index 0 is ``first`` samples after time 0.

    Frames that follow each other are mixed and placed together: a frame of AAC lasts 23 ms, and
    handling each by itself took a quarter of the time of reading 10 s.
    """

    def __init__(self, first: int, last: int, rate_hz: int, grid: PacketGrid | None):
        self.first = first
        self.rate_hz = rate_hz
        self.samples = np.zeros(last - first, np.float32)
        self.covered = np.zeros(last - first, np.bool_)
        self._grid = grid
        self._expected: int | None = None
        self._run: list[Any] = []
        self._run_start = 0

    def place(self, time_s: float, frame: Any) -> None:
        """Put a frame where its time says, or right behind the last one if it nearly does."""
        index = round(time_s * self.rate_hz)
        if self._expected is None:
            index = self._grid.snap(index, frame.samples) if self._grid else index
        elif abs(index - self._expected) <= HOLE_S * self.rate_hz:
            index = self._expected
        if index != self._expected or len(self._run) >= MOST_FRAMES or not self._fits(frame):
            self.flush()
            self._run_start = index
        self._run.append(frame)
        self._expected = index + frame.samples

    def _fits(self, frame: Any) -> bool:
        last = self._run[-1] if self._run else frame
        return bool(frame.format.name == last.format.name and frame.layout == last.layout)

    def flush(self) -> None:
        """Write the frames that wait."""
        if not self._run:
            return
        index, mono = self._run_start, to_mono(self._run)
        self._run = []
        begin = max(index, self.first)
        end = min(index + len(mono), self.first + len(self.samples))
        if begin < end:
            self.samples[begin - self.first : end - self.first] = mono[begin - index : end - index]
            self.covered[begin - self.first : end - self.first] = True


def read_audio(source: Source, *, start_s: float, num_samples: int, sample_rate_hz: int) -> Sound:
    """Read ``num_samples`` mono samples from ``start_s``; silence where the stream has none.

    Raises:
        MediaError: if the stream changes its sample rate.
    """
    stream = source.audio
    assert stream is not None
    window = _WindowTimes(start_s, num_samples, sample_rate_hz)
    errors = source.num_errors
    grid: PacketGrid | None = None
    for retreat_s in RETREATS_S:
        target_s = start_s - PRE_ROLL_S - retreat_s
        if target_s <= source.start_of(stream):
            break
        grid = grid or _packet_grid(source)
        if source.seek(stream, target_s):
            line = _read_from_here(source, window, grid, is_seek=True)
            if line is not None:
                return window.cut(line)
        source.num_errors = errors
    source.rewind(stream)
    return window.cut(_read_from_here(source, window, None, is_seek=False))


@dataclass(frozen=True)
class _WindowTimes:
    start_s: float
    num_samples: int
    sample_rate_hz: int

    @property
    def end_s(self) -> float:
        return self.start_s + self.num_samples / self.sample_rate_hz

    def line(self, rate_hz: int, grid: PacketGrid | None) -> Line:
        """Start where both rates have a sample, so that resampling never depends on the window."""
        step, _ = _steps(rate_hz, self.sample_rate_hz)
        first = math.floor((self.start_s - MARGIN_S) * rate_hz / step) * step
        last = math.ceil((self.end_s + MARGIN_S) * rate_hz / step) * step
        return Line(first, last, rate_hz, grid)

    def cut(self, line: Line | None) -> Sound:
        """Resample the line and cut the window out of it."""
        if line is None:
            return Sound(np.zeros(self.num_samples, np.float32), 0.0, -math.inf)
        begin = round(self.start_s * line.rate_hz) - line.first
        covered = line.covered[begin : round(self.end_s * line.rate_hz) - line.first]
        where = np.flatnonzero(covered)
        last = float(where[-1] + 1) / line.rate_hz if len(where) else -math.inf
        step_in, step_out = _steps(line.rate_hz, self.sample_rate_hz)
        samples = resample(line.samples, line.rate_hz, self.sample_rate_hz)
        offset = round(self.start_s * self.sample_rate_hz) - line.first // step_in * step_out
        return Sound(
            np.ascontiguousarray(samples[offset : offset + self.num_samples]),
            decoded_s=len(where) / line.rate_hz,
            end_s=self.start_s + last,
        )


def _packet_grid(source: Source) -> PacketGrid | None:
    """Read the first packets where a tick of the container is longer than a sample."""
    stream = source.audio
    assert stream is not None
    tick = float(stream.time_base) * stream.codec_context.sample_rate
    if tick <= 1:
        return None
    source.rewind(stream)
    frames = list(islice(source.frames(stream), 3))
    if len(frames) < 3:
        return None
    (first_s, first), (_, second), _ = frames
    index = round(first_s * first.sample_rate) + first.samples
    return PacketGrid(index, second.samples, tolerance=tick + 1)


def _read_from_here(
    source: Source, window: _WindowTimes, grid: PacketGrid | None, *, is_seek: bool
) -> Line | None:
    """Read from the current position; None if that lies too late for the window."""
    line: Line | None = None
    for time_s, frame in source.frames(source.audio):
        if line is None:
            if is_seek and time_s > window.start_s - NEEDED_S:
                return None
            line = window.line(frame.sample_rate, grid)
        if frame.sample_rate != line.rate_hz:
            raise MediaError(
                f"{source.path.name} changes its audio rate from {line.rate_hz} to "
                f"{frame.sample_rate} Hz; re-encode it first"
            )
        line.place(time_s, frame)
        if time_s >= window.end_s + MARGIN_S:
            break
    if line is not None:
        line.flush()
    return line


def _steps(rate_hz: int, sample_rate_hz: int) -> tuple[int, int]:
    """Return the shortest time that is whole in both rates, in samples of each."""
    common = math.gcd(rate_hz, sample_rate_hz)
    return rate_hz // common, sample_rate_hz // common


def to_mono(frames: Sequence[Any]) -> Samples:
    """Average all channels of frames of one format, as float32 with full scale 1.

    Channels that cancel each other, such as a left one that is the right one turned over, would
    leave silence: there it is the loudest channel alone.
    """
    values = in_full_scale(frames)
    if len(values) == 1:
        return values[0]
    mono = values.mean(0)
    loudest = max(values, key=_power)
    return loudest if _power(mono) < CANCELS * _power(loudest) else mono


@reads_clip
def channels_cancel(path: Path, length_s: float = 20.0) -> bool:
    """Say whether next to nothing is left when the channels of a clip's audio are mixed.

    Args:
        path: the clip.
        length_s: how much of its beginning to listen to, seconds.

    Raises:
        MediaError: if the clip cannot be read.
    """
    mixed, loudest = 0.0, 0.0
    with open_source(path) as source:
        for time_s, frame in source.frames(source.audio) if source.audio is not None else ():
            if time_s > length_s:
                break
            values = in_full_scale([frame])
            mixed += _power(values.mean(0))
            loudest += max(map(_power, values))
    return mixed < CANCELS * loudest


def _power(samples: Samples) -> float:
    return float(samples @ samples)


def in_full_scale(frames: Sequence[Any]) -> Samples:
    """Return the values of frames ``(C, n)``, float32 in -1..1."""
    first = frames[0]
    values = _values(frames, first.layout.nb_channels).astype(np.float32)
    name = first.format.name.removesuffix("p")
    if name == "u8":
        values = values - 128.0
    return np.asarray(values / FULL_SCALE.get(name, 1.0), np.float32)


def _values(frames: Sequence[Any], channels: int) -> npt.NDArray[Any]:
    """Return the values of frames ``(C, n)``, read from their planes without a copy of each."""
    dtype = np.dtype(format_dtypes[frames[0].format.name])
    ends = [0, *accumulate(frame.samples for frame in frames)]
    if not frames[0].format.is_planar:
        packed = np.empty((ends[-1], channels), dtype)
        for frame, (begin, end) in zip(frames, pairwise(ends), strict=True):
            plane = _plane(frame, 0, dtype, (end - begin) * channels)
            packed[begin:end] = plane.reshape(-1, channels)
        return packed.T
    values = np.empty((channels, ends[-1]), dtype)
    for frame, (begin, end) in zip(frames, pairwise(ends), strict=True):
        for channel, row in enumerate(values):
            row[begin:end] = _plane(frame, channel, dtype, end - begin)
    return values


def _plane(frame: Any, index: int, dtype: Any, count: int) -> npt.NDArray[Any]:
    """Return values of a plane; `frame.planes` reads beyond its list from eight channels on."""
    plane: Any = AudioPlane(frame, index)
    return np.frombuffer(plane, dtype, count)


def resample(samples: Samples, rate_hz: int, sample_rate_hz: int) -> Samples:
    """Resample mono audio; output sample n lies at time n / ``sample_rate_hz`` of the input."""
    if rate_hz == sample_rate_hz:
        return samples
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate_hz
    resampler = AudioResampler(format="fltp", layout="mono", rate=sample_rate_hz)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
