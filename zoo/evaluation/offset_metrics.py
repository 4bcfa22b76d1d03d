"""Accuracy, +-1 class, error in seconds: sums first, so that workers can add them up."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from zoo.timeline import OffsetGrid


@dataclass(frozen=True)
class OffsetScores:
    """Scores over a number of decisions.

    Attributes:
        accuracy: share of right classes.
        within_one: share within one class of the truth (the paper's +-1 class accuracy).
        mean_abs_error_s: mean distance of the predicted offset from the true one, seconds.
        cross_entropy: mean negative log-likelihood, nats.
        num: number of decisions.
    """

    accuracy: float
    within_one: float
    mean_abs_error_s: float
    cross_entropy: float
    num: int

    def as_dict(self) -> dict[str, float]:
        """Return the scores by name."""
        return asdict(self)


def sums_of(logits: Float[Tensor, "B K"], targets: Int[Tensor, B], grid: OffsetGrid) -> list[float]:
    """Return what `scores_from` divides by the last entry."""
    offsets_s = torch.tensor(grid.offsets_s, device=logits.device)
    predicted = logits.argmax(1)
    distance = (predicted - targets).abs()
    error_s = (offsets_s[predicted] - offsets_s[targets]).abs()
    entropy = cross_entropy(logits.float(), targets, reduction="sum")
    counts = [(distance == 0).sum(), (distance <= 1).sum(), error_s.sum(), entropy]
    return [*(float(c) for c in counts), float(len(targets))]


def scores_from(sums: list[float]) -> OffsetScores:
    """Turn sums into means."""
    *totals, num = sums
    accuracy, within_one, error_s, entropy = (total / max(1.0, num) for total in totals)
    return OffsetScores(accuracy, within_one, error_s, entropy, int(num))


def score_logits(
    logits: Float[Tensor, "N K"], targets: Int[Tensor, N], grid: OffsetGrid
) -> OffsetScores:
    """Score a set of predictions."""
    return scores_from(sums_of(logits, targets, grid))


def chance(grid: OffsetGrid) -> OffsetScores:
    """Return what guessing uniformly scores against uniform targets: 4.8 %, 14 %, ln 21."""
    k = grid.num_classes
    offsets = torch.tensor(grid.offsets_s)
    error_s = float((offsets[:, None] - offsets).abs().mean())
    return OffsetScores(1 / k, (3 * k - 2) / k**2, error_s, math.log(k), 0)
