"""How the offset changes over a clip: stretches of one offset, jumps between them, or a drift."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from zoo.inference.drift import Drift, Line, Windows, find_line, seen_near, to_drift
from zoo.inference.estimate import certainty, combine
from zoo.timeline import clock_time

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.signedinteger]

OUTLIERS = 0.1  # share of windows that are taken to say nothing, or something wrong
JUMP_CROPS = 1.5  # sure crops, without overlap, that a jump must bring together
NEAR = 1.25  # classes of the model: a larger jump is no step of a drift on a coarse grid


@dataclass(frozen=True)
class Stretch:
    """A part of a clip with one offset; times and offset in seconds."""

    start_s: float
    end_s: float
    offset_s: float
    confidence: float


@dataclass(frozen=True)
class OverTime:
    """The offset over a clip: ``stretches`` without gaps, a ``drift`` if there is one, in words."""

    stretches: list[Stretch]
    drift: Drift | None
    meaning: str


def follow(
    starts_s: Array,
    probabilities: torch.Tensor,
    offsets_s: tuple[float, ...],
    *,
    window_s: float,
    end_s: float,
    class_step_s: float,
    start_s: float = 0.0,
    temperature: float = 1.0,
) -> OverTime:
    """Find where the offset of a clip changes, by steps or evenly.

    Steps: the most likely sequence of offsets is found by dynamic programming: a jump has a price,
    and a share of the windows may be wrong.  A crop that lies across a jump counts for the side
    that holds its centre.

    A drift: the most likely line, scored alike.  A slope costs as much as a jump, so a line takes
    the place of the steps where it explains the windows as well with fewer changes.  Where it
    leaves the offsets, nothing is known, or steps take over at the price of another jump.

    Args:
        starts_s: start of each window ``(W,)``, ascending.
        probabilities: distribution of each window over the offsets ``(W, O)``.
        offsets_s: the offsets ``(O,)``.
        window_s: length of a window.
        end_s: end of what sound and picture share.
        class_step_s: distance of the model's own classes.
        start_s: where that begins.
        temperature: of the confidence of a stretch (`zoo.models.calibration`).
    """
    centres_s = starts_s + window_s / 2
    scores, price = _score(starts_s, probabilities, offsets_s, window_s, class_step_s)
    drift = _find_drift(
        scores,
        price,
        centres_s,
        probabilities,
        np.asarray(offsets_s),
        class_step_s,
        (start_s, end_s),
    )
    path = _likeliest_path(scores, price) if drift is None else np.zeros(len(scores), np.int64)
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    stretches = []
    for first, last in pairwise(edges):
        estimate = combine(probabilities[first:last], offsets_s, class_step_s, temperature)
        begin = start_s if first == 0 else (centres_s[first - 1] + centres_s[first]) / 2
        end = end_s if last == len(path) else (centres_s[last - 1] + centres_s[last]) / 2
        stretches.append(
            Stretch(
                round(float(begin), 3),
                round(float(end), 3),
                estimate.refined_s,
                estimate.confidence,
            )
        )
    return OverTime(stretches, drift, _describe(stretches, drift, end_s))


def _score(
    starts_s: Array,
    probabilities: torch.Tensor,
    offsets_s: tuple[float, ...],
    window_s: float,
    class_step_s: float,
) -> tuple[Array, float]:
    """Return how well each offset fits each window ``(W, O)``, and the price of a jump."""
    p = probabilities.double().numpy()
    hops_s = np.diff(starts_s)
    hops_s = np.append(hops_s, hops_s[-1:] if len(hops_s) else window_s)
    # Crops that overlap see the same events: together they weigh as much as one.
    weights = np.clip(hops_s / window_s, 0.0, 1.0)[:, None]
    num = len(offsets_s)
    one_crop = np.log(OUTLIERS + (1 - OUTLIERS) * num) - np.log(OUTLIERS)
    return weights * np.log(OUTLIERS + (1 - OUTLIERS) * num * p), JUMP_CROPS * one_crop


def _likeliest_path(scores: Array, price: float) -> Indices:
    """Return the index of the offset of every window (Viterbi with one price for every jump)."""
    _, total, came_from = _totals(scores, price)
    path = np.empty(len(scores), np.int64)
    path[-1] = int(total.argmax())
    for i in range(len(scores) - 1, 0, -1):
        path[i - 1] = came_from[i, path[i]]
    return path


def _totals(scores: Array, price: float) -> tuple[Array, Array, Indices]:
    """Return the best score of the first 0, 1, ... windows, that of all, and how it came about."""
    total = scores[0].copy()
    best_until = np.zeros(len(scores) + 1)
    best_until[1] = total.max()
    came_from = np.empty(scores.shape, np.int32)
    stay = np.arange(scores.shape[1])
    for i in range(1, len(scores)):
        best = int(total.argmax())
        is_jump = total[best] - price > total
        came_from[i] = np.where(is_jump, best, stay)
        total = np.where(is_jump, total[best] - price, total) + scores[i]
        best_until[i + 1] = total.max()
    return best_until, total, came_from


def _find_drift(
    scores: Array,
    price: float,
    centres_s: Array,
    probabilities: torch.Tensor,
    offsets_s: Array,
    class_step_s: float,
    span_s: tuple[float, float],
) -> Drift | None:
    """Return the line that explains the windows better than steps do; None if there is none."""
    if len(scores) < 2:
        return None
    before, after = (_totals(part, price)[0] for part in (scores, scores[::-1]))
    windows = Windows(centres_s, scores, offsets_s, before, after[::-1], price)
    p, sureness = (x.double().numpy() for x in (probabilities, certainty(probabilities)))
    line = find_line(windows, p, sureness, class_step_s)
    if line is None:
        return None
    steps = max(before[-1], _totals(scores[line.inside], price)[0][-1] + line.outside)
    if line.score <= steps - price:
        return None
    if line.score <= steps:
        seen = seen_near(line, windows, p, sureness, NEAR * class_step_s)
        if not _is_even(
            line, offsets_s[_likeliest_path(scores, price)], centres_s, *seen, class_step_s
        ):
            return None
    return to_drift(line, centres_s, *span_s)


def _is_even(
    line: Line,
    steps_s: Array,
    centres_s: Array,
    times_s: Array,
    seen_s: Array,
    weights: Array,
    class_step_s: float,
) -> bool:
    """Say whether small steps in one direction are a line seen on a coarse grid.

    There a drift cannot but look like steps, and explains the windows no better; but what they say
    on average then moves evenly from one step to the next.
    """
    jumps_s = np.diff(steps_s)[np.diff(steps_s) != 0]
    is_staircase = len(jumps_s) > 0 and (np.all(jumps_s > 0) or np.all(jumps_s < 0))
    if not is_staircase or np.abs(jumps_s).max() > NEAR * class_step_s or len(times_s) < 2:
        return False
    step = np.cumsum(np.diff(steps_s, prepend=steps_s[0]) != 0)[np.searchsorted(centres_s, times_s)]
    mass = np.bincount(step, weights).clip(1e-12)
    level_s = np.bincount(step, weights * seen_s) / mass  # of every step
    from_steps, from_line = seen_s - level_s[step], seen_s - line.start_s - line.slope * times_s
    return bool(weights @ from_line**2 < weights @ from_steps**2)


def _describe(stretches: list[Stretch], drift: Drift | None, end_s: float) -> str:
    if drift is not None:
        digits = 3 if abs(drift.per_minute_s) >= 0.02 else 4  # 125 ppm are 0.0075
        words = (
            f"drifts from {seconds(drift.start_offset_s)} to {seconds(drift.end_offset_s)} at "
            f"{clock_time(end_s)}, {drift.per_minute_s:+.{digits}f} s per minute"
        )
        if drift.until_s < end_s:
            words += f"; from {clock_time(drift.until_s)} on it is further than was searched"
        elif drift.from_s > stretches[0].start_s:
            words += f"; until {clock_time(drift.from_s)} it is further than was searched"
        return words
    if len(stretches) == 1:
        return f"{seconds(stretches[0].offset_s)} throughout"
    parts = [f"{seconds(s.offset_s)} until {clock_time(s.end_s)}" for s in stretches[:-1]]
    return ", then ".join([*parts, seconds(stretches[-1].offset_s)])


def seconds(offset_s: float) -> str:
    """Write an offset as finely as it is known: 0.0 s, +0.4 s, -0.25 s."""
    text = f"{offset_s:+.2f}"
    text = text[:-1] if text.endswith("0") else text
    return f"{text if float(text) else '0.0'} s"
