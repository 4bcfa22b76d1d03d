"""The sound of a window: samples placed by time, mixed to mono, resampled on a fixed lattice."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import format_dtypes
from av.audio.plane import AudioPlane
from av.audio.resampler import AudioResampler

from zoo.errors import MediaError
from zoo.media.container import Source, UnsureError
from zoo.media.times import BACK_S, JUMP_S

Samples = npt.NDArray[np.float32]

HOLE_S = 0.002  # larger disagreement between count and timestamp is a hole, smaller is rounding
PRE_ROLL_S = 0.25  # decoders need some packets before their output is right (Opus 80 ms, MP3 more)
NEEDED_S = 0.12  # the part of it that must be there
MOST_FRAMES = 64  # placed together: 1.5 s of AAC
MOST_AT_ONCE = 1 << 20  # samples that are resampled together
MARGIN_S = 0.02  # more than the resampler's filter reaches
MOST_RATES = 4  # of a stream within a window
WALK_S = 1.0  # a gap that is decoded rather than jumped over
RETREATS_S = (0.0, 1.0, 4.0)
# Of the power that the loudest channel alone would leave in the mix: less is left of channels that
# cancel each other. What AAC adds to them at 32 kbit/s each was 0.03.
CANCELS = 0.1
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

    first: int = 0
    step: int = 0  # 0 where times are exact, or the stream is too short to tell
    tolerance: float = 0.0

    @classmethod
    def of(cls, beginning: Sequence[tuple[float, Any]], tick_s: float) -> PacketGrid:
        """Find the grid where a tick of the container is longer than a sample.

        Args:
            beginning: times and frames of the first packets.
            tick_s: by which the container counts.
        """
        if len(beginning) < 3:
            return cls()
        (first_s, first), (_, second), _ = beginning
        tick = tick_s * first.sample_rate
        index = round(first_s * first.sample_rate) + first.samples
        return cls(index, second.samples, tick + 1) if tick > 1 else cls()

    def snap(self, index: int, num_samples: int) -> int:
        """Return the grid point that a rounded time stands for, or the time itself."""
        if not self.step or num_samples != self.step:
            return index
        on_grid = self.first + round((index - self.first) / self.step) * self.step
        return on_grid if abs(on_grid - index) <= self.tolerance else index


class Line:
    """A stretch of the stream's own samples; index 0 is ``first`` samples after time 0.

    Frames that follow each other are mixed and placed together: a frame of AAC lasts 23 ms, and
    handling each by itself took a quarter of the time of reading 10 s.
    """

    def __init__(self, first: int, last: int, rate_hz: int, grid: PacketGrid | None, mix: Mix):
        self.first, self._mix = first, mix
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
        index, mono = self._run_start, self._mix(self._run)
        self._run = []
        begin = max(index, self.first)
        end = min(index + len(mono), self.first + len(self.samples))
        if begin < end:
            self.samples[begin - self.first : end - self.first] = mono[begin - index : end - index]
            self.covered[begin - self.first : end - self.first] = True


class AudioReader:
    """Reads windows of a sound; one that begins where the last one ended goes on there.

    Args:
        source: the clip, which nothing else reads from meanwhile.
        sample_rate_hz: of the answer.
    """

    def __init__(self, source: Source, sample_rate_hz: int) -> None:
        self.source, self.sample_rate_hz = source, sample_rate_hz
        self.mix = Mix()
        self._frames: Iterator[tuple[float, Any]] = iter(())
        self._held: deque[tuple[float, Any]] = deque()  # since shortly before the last window
        self._known_from_s = math.inf
        self._grid: PacketGrid | None = None

    def read(self, start_s: float, num_samples: int) -> Sound:
        """Read mono samples from a time on; silence where the stream has none.

        Raises:
            UnsureError: if the times of frames cannot be right.
        """
        source = self.source
        window = _WindowTimes(start_s, num_samples, self.sample_rate_hz)
        if self._can_go_on(window):
            return self._read_from_here(window)
        errors = source.num_errors
        for retreat_s in RETREATS_S:
            target_s = start_s - PRE_ROLL_S - retreat_s
            if target_s <= source.start_of(source.audio):
                break
            if self._grid is None and self._is_coarse:
                self._read_beginning()
            if source.seek(source.audio, target_s) and self._begin(window):
                return self._read_from_here(window)
            source.num_errors = errors
        self._read_beginning()
        return self._read_from_here(window)

    @property
    def _is_coarse(self) -> bool:
        """Whether a tick of the container is longer than a sample."""
        stream = self.source.audio
        return float(stream.time_base) * stream.codec_context.sample_rate > 1

    def _can_go_on(self, window: _WindowTimes) -> bool:
        if self._known_from_s > window.start_s - NEEDED_S:
            return False
        position_s = self._held[-1][0] if self._held else -math.inf
        return not self.source.can_seek or window.start_s - position_s <= WALK_S

    def _begin(self, window: _WindowTimes) -> bool:
        """Take the first frame behind a seek; False if that lies too late for the window."""
        self._frames, self._known_from_s = self.source.frames(self.source.audio), math.inf
        self._held = deque(islice(self._frames, 1))
        if self._held and self._held[0][0] > window.start_s - NEEDED_S:
            return False
        self._known_from_s = self._held[0][0] if self._held else math.inf
        return bool(self._held)

    def _read_beginning(self) -> None:
        """Take the first frames; they tell where packets lie in the stream's own samples."""
        self._frames = self.source.frames(self.source.rewind(self.source.audio))
        self._held = deque(islice(self._frames, 3))
        self._known_from_s = -math.inf
        if self._grid is None:
            self._grid = PacketGrid.of(self._held, float(self.source.audio.time_base))

    def _read_from_here(self, window: _WindowTimes) -> Sound:
        """Read the window from what is held, and on from there."""
        begin_s = window.start_s - PRE_ROLL_S
        self._let_go(begin_s)
        grid = self._grid if self._known_from_s > -math.inf else None
        lines: dict[int, Line] = {}
        num_held = len(self._held)
        for number, (time_s, frame) in enumerate(chain(list(self._held), self._frames)):
            if number >= num_held:
                self._hold(time_s, frame, begin_s)
            rate_hz = frame.sample_rate
            if rate_hz not in lines:
                if len(lines) == MOST_RATES:
                    name = self.source.path.name
                    raise MediaError(
                        f"{name} is damaged: the rate of its audio changes all the time"
                    )
                lines[rate_hz] = window.line(rate_hz, grid, self.mix)
            lines[rate_hz].place(time_s, frame)
            if time_s >= window.end_s + MARGIN_S:
                break
        for line in lines.values():
            line.flush()
        return window.cut(list(lines.values()))

    def _let_go(self, begin_s: float) -> None:
        """Forget the frames that end before a time."""
        while len(self._held) > 1 and self._held[1][0] <= begin_s:
            self._held.popleft()
            self._known_from_s = self._held[0][0]

    def _hold(self, time_s: float, frame: Any, begin_s: float) -> None:
        self._let_go(begin_s)
        last_s = self._held[-1][0] if self._held else time_s
        is_odd = not last_s - BACK_S <= time_s <= last_s + JUMP_S
        if is_odd and self.source.times is None:
            raise UnsureError
        self._held.append((time_s, frame))


@dataclass(frozen=True)
class _WindowTimes:
    start_s: float
    num_samples: int
    sample_rate_hz: int

    @property
    def end_s(self) -> float:
        return self.start_s + self.num_samples / self.sample_rate_hz

    def line(self, rate_hz: int, grid: PacketGrid | None, mix: Mix) -> Line:
        """Start where both rates have a sample, so that resampling never depends on the window."""
        step, _ = _steps(rate_hz, self.sample_rate_hz)
        first = math.floor((self.start_s - MARGIN_S) * rate_hz / step) * step
        last = math.ceil((self.end_s + MARGIN_S) * rate_hz / step) * step
        return Line(first, last, rate_hz, grid, mix)

    def cut(self, lines: list[Line]) -> Sound:
        """Resample the lines, one per rate of the stream, and cut the window out of them."""
        samples = np.zeros(self.num_samples, np.float32)
        decoded_s, last_s = 0.0, -math.inf
        for line in lines:
            begin = round(self.start_s * line.rate_hz) - line.first
            covered = line.covered[begin : round(self.end_s * line.rate_hz) - line.first]
            where = np.flatnonzero(covered)
            if not len(where):
                continue
            decoded_s += len(where) / line.rate_hz
            last_s = max(last_s, float(where[-1] + 1) / line.rate_hz)
            step_in, step_out = _steps(line.rate_hz, self.sample_rate_hz)
            resampled = resample(line.samples, line.rate_hz, self.sample_rate_hz)
            offset = round(self.start_s * self.sample_rate_hz) - line.first // step_in * step_out
            resampled = resampled[offset : offset + self.num_samples]
            if len(lines) == 1:
                samples = resampled
                break
            heard = np.arange(self.num_samples) * step_in // step_out
            is_here = covered[np.minimum(heard, len(covered) - 1)]
            samples[is_here] = resampled[is_here]
        return Sound(samples, decoded_s, self.start_s + last_s)


def _steps(rate_hz: int, sample_rate_hz: int) -> tuple[int, int]:
    """Return the shortest time that is whole in both rates, in samples of each."""
    common = math.gcd(rate_hz, sample_rate_hz)
    return rate_hz // common, sample_rate_hz // common


def to_mono(frames: Sequence[Any]) -> Samples:
    """Average all channels of frames of one format, as float32 with full scale 1; see `Mix`."""
    return Mix()(frames)


class Mix:
    """Averages all channels of frames of one format, as float32 with full scale 1.

    Channels that cancel each other, such as a left one that is the right one turned over, would
    leave silence: there it is the loudest channel alone.
    """

    def __init__(self) -> None:
        self._mixed = self._alone = 0.0

    def __call__(self, frames: Sequence[Any]) -> Samples:
        """Return the mixed samples ``(n,)``."""
        values = in_full_scale(frames)
        if len(values) == 1:
            return values[0]
        mono = values.mean(0)
        loudest = max(values, key=_power)
        mixed, alone = _power(mono), _power(loudest) / len(values) ** 2
        self._mixed, self._alone = self._mixed + mixed, self._alone + alone
        return loudest if mixed < CANCELS * alone else mono

    @property
    def notes(self) -> list[str]:
        """What one should know about what was mixed."""
        if self._mixed >= CANCELS * self._alone:
            return []
        return ["the channels cancel each other when mixed; the loudest one is read"]


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
    resampler = AudioResampler(format="fltp", layout="mono", rate=sample_rate_hz)
    parts = []
    for begin in range(0, len(samples), MOST_AT_ONCE):  # it holds several copies of what it takes
        block = samples[None, begin : begin + MOST_AT_ONCE]
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(parts)
