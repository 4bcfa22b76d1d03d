"""How the offset changes over a clip: stretches of one offset, jumps between them, or a drift."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from zoo.inference.estimate import certainty, combine
from zoo.timeline import clock_time

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

OUTLIERS = 0.1  # share of windows that are taken to say nothing, or something wrong
JUMP_CROPS = 1.5  # sure crops, without overlap, that a jump must bring together
DRIFT_STEP = 1.25  # steps of a drift are smaller than this, in classes of the model
SMALLEST_DRIFT_S = 0.1
MIN_EVEN_STEPS = 3


@dataclass(frozen=True)
class Stretch:
    """A part of a clip with one offset; times and offset in seconds."""

    start_s: float
    end_s: float
    offset_s: float
    confidence: float


@dataclass(frozen=True)
class Drift:
    """An offset that changes evenly from the start of a clip to its end."""

    start_offset_s: float
    end_offset_s: float
    per_minute_s: float


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
) -> OverTime:
    """Find where the offset of a clip changes.

    The most likely sequence of offsets is found by dynamic programming: a jump has a price, and a
    share of the windows may be wrong.  A crop that lies across a jump counts for the side that
    holds its centre.

    Args:
        starts_s: start of each window ``(W,)``, ascending.
        probabilities: distribution of each window over the offsets ``(W, O)``.
        offsets_s: the offsets ``(O,)``.
        window_s: length of a window.
        end_s: end of what sound and picture share.
        class_step_s: distance of the model's own classes.
        start_s: where that begins.
    """
    path = _likeliest_path(starts_s, probabilities, window_s)
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    centres_s = starts_s + window_s / 2
    stretches = []
    for first, last in pairwise(edges):
        estimate = combine(probabilities[first:last], offsets_s, class_step_s)
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
    drift = _find_drift(
        stretches, centres_s, path, probabilities, np.asarray(offsets_s), class_step_s, end_s
    )
    return OverTime(stretches, drift, _describe(stretches, drift, end_s))


def _likeliest_path(starts_s: Array, probabilities: torch.Tensor, window_s: float) -> Indices:
    """Return the index of the offset of every window (Viterbi with one price for every jump)."""
    p = probabilities.double().numpy()
    num_windows, num_offsets = p.shape
    hops_s = np.diff(starts_s)
    hops_s = np.append(hops_s, hops_s[-1:] if len(hops_s) else window_s)
    # Crops that overlap see the same events: together they weigh as much as one.
    weights = np.clip(hops_s / window_s, 0.0, 1.0)[:, None]
    one_crop = np.log(OUTLIERS + (1 - OUTLIERS) * num_offsets) - np.log(OUTLIERS)
    jump_cost = JUMP_CROPS * one_crop
    scores = weights * np.log(OUTLIERS + (1 - OUTLIERS) * num_offsets * p)  # (W, O)
    total = scores[0].copy()
    came_from = np.empty((num_windows, num_offsets), np.int32)
    stay = np.arange(num_offsets)
    for i in range(1, num_windows):
        best = int(total.argmax())
        is_jump = total[best] - jump_cost > total
        came_from[i] = np.where(is_jump, best, stay)
        total = np.where(is_jump, total[best] - jump_cost, total) + scores[i]
    path = np.empty(num_windows, np.int64)
    path[-1] = int(total.argmax())
    for i in range(num_windows - 1, 0, -1):
        path[i - 1] = came_from[i, path[i]]
    return path


def _find_drift(
    stretches: list[Stretch],
    centres_s: Array,
    path: Indices,
    probabilities: torch.Tensor,
    offsets_s: Array,
    class_step_s: float,
    end_s: float,
) -> Drift | None:
    """Return the line that explains a staircase of small steps better than its steps do."""
    steps_s = np.diff([stretch.offset_s for stretch in stretches])
    is_staircase = len(steps_s) and (np.all(steps_s > 0) or np.all(steps_s < 0))
    if not is_staircase or np.abs(steps_s).max() > DRIFT_STEP * class_step_s:
        return None
    p = probabilities.double().numpy()
    near = np.abs(offsets_s - offsets_s[path][:, None]) <= DRIFT_STEP * class_step_s  # (W, O)
    mass = np.where(near, p, 0.0)
    seen_s = (mass * offsets_s).sum(1) / mass.sum(1).clip(1e-12)  # (W,)
    weights = certainty(probabilities).double().numpy() * mass.sum(1)
    slope, start_s = np.polyfit(centres_s, seen_s, 1, w=np.sqrt(weights))
    number = np.searchsorted([stretch.end_s for stretch in stretches[:-1]], centres_s, "right")
    step_misfit = weights @ (seen_s - np.asarray([s.offset_s for s in stretches])[number]) ** 2
    line_misfit = weights @ (seen_s - start_s - slope * centres_s) ** 2
    if abs(slope * end_s) < SMALLEST_DRIFT_S:
        return None
    # On a coarse grid a drift cannot but look like steps.
    grid_misfit = weights.sum() * (offsets_s[1] - offsets_s[0]) ** 2 / 4
    is_even = len(stretches) >= MIN_EVEN_STEPS and line_misfit < grid_misfit
    if line_misfit >= step_misfit and not is_even:
        return None
    last_s = start_s + slope * end_s
    return Drift(round(start_s, 3), round(last_s, 3), round(60 * slope, 4))


def _describe(stretches: list[Stretch], drift: Drift | None, end_s: float) -> str:
    if drift is not None:
        return (
            f"drifts from {_seconds(drift.start_offset_s)} to {_seconds(drift.end_offset_s)} at "
            f"{clock_time(end_s)}, {drift.per_minute_s:+.3f} s per minute"
        )
    if len(stretches) == 1:
        return f"{_seconds(stretches[0].offset_s)} throughout"
    parts = [f"{_seconds(s.offset_s)} until {clock_time(s.end_s)}" for s in stretches[:-1]]
    return ", then ".join([*parts, _seconds(stretches[-1].offset_s)])


def _seconds(offset_s: float) -> str:
    """Write an offset as finely as it is known: 0.0 s, +0.4 s, -0.25 s."""
    text = f"{offset_s:+.2f}"
    text = text[:-1] if text.endswith("0") else text
    return f"{text if float(text) else '0.0'} s"
