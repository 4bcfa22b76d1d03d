"""From the distributions of many windows to one offset, how sure it is, and where it changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.models.calibration import tempered


@dataclass(frozen=True)
class Estimate:
    """What the windows of a clip say together.

    Attributes:
        best: index of the most probable offset.
        refined_s: mean of the offsets around it, weighted by their probability, seconds: finer
            than the grid.
        confidence: probability that the offset lies within one class of the model of ``refined_s``.
        distribution: probability of every offset ``(O,)``.
    """

    best: int
    refined_s: float
    confidence: float
    distribution: Float[Tensor, O]


def combine(
    probabilities: Float[Tensor, "W O"],
    offsets_s: tuple[float, ...],
    class_step_s: float,
    temperature: float = 1.0,
) -> Estimate:
    """Average the windows' distributions, each weighted by how far it is from uniform.

    A window without an event has nothing to say.

    Args:
        probabilities: distribution of each window over the offsets.
        offsets_s: the offsets, seconds, ascending.
        class_step_s: distance of the model's own classes, seconds.
        temperature: of the mean distribution (`zoo.models.calibration`).
    """
    raw = average(probabilities)  # (O,)
    best, refined_s, _ = conclude(raw, offsets_s, class_step_s)  # which temperatures do not move
    mean = tempered(raw, temperature)
    _, _, confidence = conclude(mean, offsets_s, class_step_s)
    return Estimate(
        best=int(best),
        refined_s=round(float(refined_s), 6),
        confidence=float(confidence),
        distribution=mean,
    )


def average(probabilities: Float[Tensor, "W O"]) -> Float[Tensor, O]:
    """Average distributions, each weighted by how far it is from uniform."""
    weights = certainty(probabilities)
    return (weights[:, None] * probabilities).sum(0) / weights.sum()


def conclude(
    distribution: Float[Tensor, "... O"], offsets_s: tuple[float, ...], class_step_s: float
) -> tuple[Int[Tensor, ...], Float[Tensor, ...], Float[Tensor, ...]]:
    """Return the most probable offset, the mean of what is near it, and the probability of that.

    Returns:
        An index, seconds, and a probability, for each distribution.
    """
    offsets = torch.tensor(offsets_s, dtype=torch.float64)
    best = distribution.argmax(-1)
    near = (offsets - offsets[best][..., None]).abs() <= class_step_s + 1e-6  # (..., O)
    mass = distribution.double() * near
    confidence = mass.sum(-1)
    return best, (offsets * mass).sum(-1) / confidence, confidence.clamp(max=1.0)


def certainty(probabilities: Float[Tensor, "W O"]) -> Float[Tensor, W]:
    """Return 1 for a sure window, nearly 0 for a uniform one."""
    entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(1)
    return (1 - entropy / np.log(probabilities.shape[1])).clamp_min(1e-3)


def synchronizability(probabilities: Float[Tensor, "W 2"]) -> float:
    """Return the probability that a clip can be synchronized, from that of its crops.

    Args:
        probabilities: of (no, yes) for every crop, weighted by how far it is from undecided.
    """
    weights = certainty(probabilities)
    return float((weights * probabilities[:, 1]).sum() / weights.sum())
