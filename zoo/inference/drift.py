"""An offset that changes evenly along a clip: the line through its windows, if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STEEPEST = 0.1  # seconds per second: 48 kHz taken for 44.1 kHz is 0.088, PAL speed-up 0.043
SMALLEST_DRIFT_S = 0.05  # from start to end: below, one offset serves the whole clip
END_STEP_S = 0.05  # by which the ends of neighbouring candidates differ
MOST_WINDOWS = 400  # that are looked at for a candidate
ROUNDS = 5  # of fitting the line to what the windows say near it


@dataclass(frozen=True)
class Drift:
    """An offset that changes evenly from the start of a clip to its end.

    Attributes:
        start_offset_s: at the start of the clip, seconds.
        end_offset_s: at its end, seconds; beyond what was searched, if the drift leaves that.
        per_minute_s: change per minute, seconds.
        from_s: where the offset lies within what was searched, seconds.
        until_s: up to where it does, seconds.
    """

    start_offset_s: float
    end_offset_s: float
    per_minute_s: float
    from_s: float
    until_s: float


@dataclass(frozen=True)
class Line:
    """``offset_s = start_s + slope * time``, with the windows inside the grid and its score.

    ``outside`` is the part of the score that is from windows outside the grid.
    """

    start_s: float
    slope: float
    inside: slice
    score: float
    outside: float


@dataclass(frozen=True)
class Windows:
    """What all windows of a clip say.

    Attributes:
        times_s: centre of each window ``(W,)``.
        scores: logarithm of how well each offset fits each window ``(W, O)``.
        offsets_s: the offsets, evenly spaced ``(O,)``.
        before: best score of all windows before each by steps ``(W + 1,)``.
        after: the same from each window on ``(W + 1,)``.
        price: of a jump, of a slope, and of a change from one to the other.
    """

    times_s: Array
    scores: Array
    offsets_s: Array
    before: Array
    after: Array
    price: float

    def line(self, start_s: float, slope: float) -> Line | None:
        """Score a line at the price of its slope.

        Where it leaves the grid nothing is known, unless steps are worth the price of a change.
        """
        places = self._places(start_s + slope * self.times_s)
        is_inside = (places >= 0) & (places <= len(self.offsets_s) - 1)
        if not is_inside.any():
            return None
        first, last = int(is_inside.argmax()), len(places) - int(is_inside[::-1].argmax())
        rows = np.arange(first, last)
        score = self.scores[rows, np.round(places[rows]).astype(int)].sum() - self.price
        outside = sum(
            max(0.0, part - self.price) for part in (self.before[first], self.after[last])
        )
        return Line(start_s, slope, slice(first, last), float(score + outside), float(outside))

    def _places(self, offsets_s: Array) -> Array:
        step_s = self.offsets_s[1] - self.offsets_s[0]
        return np.asarray((offsets_s - self.offsets_s[0]) / step_s)

    def candidates(self) -> Iterator[Line]:
        """Yield, for every slope, the best line that is inside the grid at an end of the clip."""
        for slope in _slopes(self.times_s[-1] - self.times_s[0], np.ptp(self.offsets_s)):
            for anchor_s in (self.times_s[0], self.times_s[-1]):
                at_zero_s = self.offsets_s - slope * anchor_s
                reach_s = np.ptp(self.offsets_s) / abs(slope)
                near = np.flatnonzero(np.abs(self.times_s - anchor_s) <= reach_s)
                rows = near[:: -(-len(near) // MOST_WINDOWS)]
                lines_s = at_zero_s[:, None] + slope * self.times_s[rows]  # (O, W')
                places = np.round(self._places(lines_s)).astype(int)
                is_inside = (places >= 0) & (places < len(self.offsets_s))
                found = self.scores[rows, places.clip(0, len(self.offsets_s) - 1)]
                best = int(np.where(is_inside, found, 0.0).sum(axis=1).argmax())
                line = self.line(float(at_zero_s[best]), float(slope))
                if line is not None:
                    yield line


def _slopes(length_s: float, reach_s: float) -> Array:
    """Return slopes both ways, as close as the ends of their lines need."""
    slowest = END_STEP_S / max(length_s, 1e-9)
    evenly = slowest * np.arange(1, int(min(reach_s / length_s, STEEPEST) / slowest) + 1)
    growth = 1 + END_STEP_S / reach_s
    count = int(np.log(max(1.0, STEEPEST / evenly[-1])) / np.log(growth)) if len(evenly) else 0
    faster = evenly[-1:] * growth ** np.arange(1, count + 1)
    slopes = np.concatenate([evenly, faster])
    return np.concatenate([slopes, -slopes])


def find_line(windows: Windows, probabilities: Array, weights: Array, near_s: float) -> Line | None:
    """Return the line that fits the windows best, refined between the points of the grid.

    Args:
        windows: of the clip.
        probabilities: of the windows ``(W, O)``.
        weights: how sure each window is ``(W,)``.
        near_s: how far from the line an offset still belongs to it, seconds.
    """
    best = max(windows.candidates(), key=lambda line: line.score, default=None)
    for _ in range(ROUNDS if best is not None else 0):
        assert best is not None
        refined = _refit(best, windows, probabilities, weights, near_s)
        if refined is None or refined.score < best.score - windows.price / 2:
            break
        best = refined
    return best


def _refit(
    line: Line, windows: Windows, probabilities: Array, weights: Array, near_s: float
) -> Line | None:
    """Fit a line, by least squares, to what the windows say near another one."""
    times_s, seen_s, trust = seen_near(line, windows, probabilities, weights, near_s)
    if len(times_s) < 2 or not trust.any():
        return None
    slope, start_s = np.polyfit(times_s, seen_s, 1, w=np.sqrt(trust))
    return windows.line(float(start_s), float(slope))


def seen_near(
    line: Line, windows: Windows, probabilities: Array, weights: Array, near_s: float
) -> tuple[Array, Array, Array]:
    """Return what windows say near a line: their times, mean offsets there, and weights ``(V,)``.

    Windows where part of that lies outside the grid are left out: their means would be biased.
    """
    middle_s = line.start_s + line.slope * windows.times_s
    low_s, high_s = windows.offsets_s[0] + near_s, windows.offsets_s[-1] - near_s
    is_whole = (middle_s >= low_s) & (middle_s <= high_s)
    is_near = np.abs(windows.offsets_s - middle_s[is_whole, None]) <= near_s
    mass = np.where(is_near, probabilities[is_whole], 0.0)  # (V, O)
    seen_s = (mass * windows.offsets_s).sum(axis=1) / mass.sum(axis=1).clip(1e-12)
    return windows.times_s[is_whole], seen_s, weights[is_whole] * mass.sum(axis=1)


def to_drift(line: Line, times_s: Array, start_s: float, end_s: float) -> Drift | None:
    """Return a line as a drift; None if it is too small to matter.

    Args:
        line: that explains the windows.
        times_s: centre of each window.
        start_s: start of the clip, seconds.
        end_s: its end, seconds.
    """
    if abs(line.slope * (end_s - start_s)) < SMALLEST_DRIFT_S:
        return None
    inside = times_s[line.inside]
    return Drift(
        start_offset_s=round(line.start_s + line.slope * start_s, 3),
        end_offset_s=round(line.start_s + line.slope * end_s, 3),
        per_minute_s=round(60 * line.slope, 4),
        from_s=start_s if line.inside.start == 0 else round(float(inside[0]), 3),
        until_s=end_s if line.inside.stop == len(times_s) else round(float(inside[-1]), 3),
    )
