"""Ranks of the right clip among all, recall, and how the published code counts ties."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

CUTS = (1, 5, 10)


def count_before(
    similarity: Float[np.ndarray, "N N"],
) -> tuple[Int[np.ndarray, N], Int[np.ndarray, N]]:
    """Count the clips that come before the right one of every query, and those on a level with it.

    Args:
        similarity: queries in rows; the right clip of query i is column i.
    """
    right = np.diag(similarity)[:, None]
    return (similarity > right).sum(1), (similarity == right).sum(1) - 1


def recall(before: Int[np.ndarray, N], level: Int[np.ndarray, N], k: int) -> Float[np.ndarray, N]:
    """Return the chance that the right clip is among the first k, level ones in random order.

    Without ties that is 0 or 1.
    """
    return np.clip((k - before) / (level + 1), 0.0, 1.0)


def mean_ranks(before: Int[np.ndarray, N], level: Int[np.ndarray, N]) -> Float[np.ndarray, N]:
    """Return the rank of the right clip, from 1; the mean over the orders of level ones."""
    return 1 + before + level / 2


def score_ranks(before: Int[np.ndarray, N], level: Int[np.ndarray, N]) -> dict[str, float]:
    """Return R@1, R@5, R@10 (``r1``, ``r5``, ``r10``) and the median rank (``median``).

    Args:
        before: clips before the right one.
        level: clips on a level with it.
    """
    scores = {f"r{k}": float(recall(before, level, k).mean()) for k in CUTS}
    return {**scores, "median": float(np.median(mean_ranks(before, level)))}


def chance_of(num: int) -> dict[str, float]:
    """Return what a random order of so many clips scores."""
    return {**{f"r{k}": min(1.0, k / num) for k in CUTS}, "median": (num + 1) / 2}


def published_scores(
    before: Int[np.ndarray, N], level: Int[np.ndarray, N]
) -> tuple[dict[str, float], int]:
    """Score as the published code counts: every position of a tie is an entry of its own.

    Returns:
        The scores, and the number of entries: more than queries where there are ties.
    """
    entries = np.concatenate(
        [np.arange(first, first + ties + 1) for first, ties in zip(before, level, strict=True)]
    )
    return score_ranks(entries, np.zeros_like(entries)), len(entries)
