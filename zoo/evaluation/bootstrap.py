"""How sure a score is: intervals from resampling the clips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
Interval = tuple[float, float]


def mean_intervals(
    values: dict[str, np.ndarray], clips: np.ndarray, seed: int
) -> dict[str, Interval] | None:
    """Return the 95 % interval of means over samples, the clips resampled with replacement.

    Clips are the unit, not samples: every round takes the same clips again.

    Args:
        values: per sample ``(N,)``, by name.
        clips: the clip of every sample ``(N,)``.
        seed: of the resampling.

    Returns:
        Lower and upper end by name; None if there are fewer than two clips.
    """
    _, group = np.unique(clips, return_inverse=True)
    weights = _weights(group, seed)
    if weights is None:
        return None
    counts = np.bincount(group)
    return {
        name: _ends(weights @ np.bincount(group, value) / (weights @ counts))
        for name, value in values.items()
    }


def interval(score: Callable[[np.ndarray], float], clips: np.ndarray, seed: int) -> Interval | None:
    """Return the 95 % interval of any score of weighted samples.

    Args:
        score: takes a weight per sample ``(N,)``.
        clips: the clip of every sample ``(N,)``.
        seed: of the resampling.
    """
    _, group = np.unique(clips, return_inverse=True)
    weights = _weights(group, seed)
    return None if weights is None else _ends(np.array([score(row[group]) for row in weights]))


def _weights(group: np.ndarray, seed: int) -> np.ndarray | None:
    """Count how often each resample holds each clip ``(R, C)``."""
    num = int(group.max()) + 1 if len(group) else 0
    if num < 2:
        return None
    rng = np.random.default_rng([seed, num])
    return rng.multinomial(num, np.full(num, 1 / num), RESAMPLES)


def _ends(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
