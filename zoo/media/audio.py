"""The sound of a window: samples placed by time, mixed to mono, resampled on a fixed lattice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler

from zoo.errors import MediaError
from zoo.media.container import Source

Samples = npt.NDArray[np.float32]

HOLE_S = 0.002  # larger disagreement between count and timestamp is a hole, smaller is rounding
PRE_ROLL_S = 0.25  # decoders need some packets before their output is right (Opus 80 ms, MP3 more)
NEEDED_S = 0.12  # the part of it that must be there
MARGIN_S = 0.02  # more than the resampler's filter reaches
RETREATS_S = (0.0, 1.0, 4.0)
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


@dataclass(frozen=True)
class Sound:
    """Samples of a window, and which part of it was decoded, seconds."""

    samples: Samples
    decoded_s: float


class Line:
    """A stretch of the stream's own samples; index 0 is ``first`` samples after time 0."""

    def __init__(self, first: int, last: int, rate_hz: int):
        self.first = first
        self.rate_hz = rate_hz
        self.samples = np.zeros(last - first, np.float32)
        self.covered = np.zeros(last - first, np.bool_)
        self._expected: int | None = None

    def place(self, time_s: float, mono: Samples) -> None:
        """Put samples where their time says, or right behind the last ones if it nearly does."""
        index = round(time_s * self.rate_hz)
        if self._expected is not None and abs(index - self._expected) <= HOLE_S * self.rate_hz:
            index = self._expected
        self._expected = index + len(mono)
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
    errors = source.num_errors
    first_s = source.start_of(stream)
    for retreat_s in RETREATS_S:
        target_s = start_s - PRE_ROLL_S - retreat_s
        if target_s <= first_s:
            break
        if source.seek(stream, target_s):
            sound = _read_from_here(source, start_s, num_samples, sample_rate_hz, True)
            if sound is not None:
                return sound
        source.num_errors = errors
    source.seek(stream, first_s - 1.0)
    sound = _read_from_here(source, start_s, num_samples, sample_rate_hz, False)
    assert sound is not None
    return sound


def _read_from_here(
    source: Source, start_s: float, num_samples: int, sample_rate_hz: int, is_seek: bool
) -> Sound | None:
    """Read from the current position; None if that lies too late for the window."""
    end_s = start_s + num_samples / sample_rate_hz
    line: Line | None = None
    for time_s, frame in source.frames(source.audio):
        if line is None:
            if is_seek and time_s > start_s - NEEDED_S:
                return None
            line = _line_for(frame.sample_rate, sample_rate_hz, start_s, end_s)
        if frame.sample_rate != line.rate_hz:
            raise MediaError(
                f"{source.path} changes its audio rate from {line.rate_hz} to "
                f"{frame.sample_rate} Hz; re-encode it first"
            )
        line.place(time_s, to_mono(frame))
        if time_s >= end_s + MARGIN_S:
            break
    if line is None:
        return None if is_seek else Sound(np.zeros(num_samples, np.float32), 0.0)
    begin = round(start_s * line.rate_hz) - line.first
    covered = line.covered[begin : begin + round((end_s - start_s) * line.rate_hz)]
    step_in, step_out = _steps(line.rate_hz, sample_rate_hz)
    samples = resample(line.samples, line.rate_hz, sample_rate_hz)
    offset = round(start_s * sample_rate_hz) - line.first // step_in * step_out
    out = np.ascontiguousarray(samples[offset : offset + num_samples])
    return Sound(out, float(covered.sum()) / line.rate_hz)


def _steps(rate_hz: int, sample_rate_hz: int) -> tuple[int, int]:
    """Return the shortest time that is whole in both rates, in samples of each."""
    common = math.gcd(rate_hz, sample_rate_hz)
    return rate_hz // common, sample_rate_hz // common


def _line_for(rate_hz: int, sample_rate_hz: int, start_s: float, end_s: float) -> Line:
    """Start where both rates have a sample, so that resampling never depends on the window."""
    step, _ = _steps(rate_hz, sample_rate_hz)
    first = math.floor((start_s - MARGIN_S) * rate_hz / step) * step
    last = math.ceil((end_s + MARGIN_S) * rate_hz / step) * step
    return Line(first, last, rate_hz)


def to_mono(frame: Any) -> Samples:
    """Average all channels of an audio frame, as float32 with full scale 1."""
    channels = frame.layout.nb_channels
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, channels).T
    mono = data.astype(np.float32).mean(0) if channels > 1 else data[0].astype(np.float32)
    name = frame.format.name.removesuffix("p")
    if name == "u8":
        mono = mono - 128.0
    return np.asarray(mono / FULL_SCALE.get(name, 1.0), np.float32)


def resample(samples: Samples, rate_hz: int, sample_rate_hz: int) -> Samples:
    """Resample mono audio; output sample n lies at time n / ``sample_rate_hz`` of the input."""
    if rate_hz == sample_rate_hz:
        return samples
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate_hz
    resampler = AudioResampler(format="fltp", layout="mono", rate=sample_rate_hz)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
