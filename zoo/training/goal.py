"""What stage II trains a head to answer: how far the sound is off, or whether that can be told."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from zoo.contracts import Task
from zoo.evaluation.metrics import OffsetScores, chance, scores_from, sums_of
from zoo.timeline import OffsetGrid

PLATEAU_MARGIN = 0.05  # nats below guessing at which a run counts as having left the plateau
MIN_DECISIONS = 10  # fewer validation draws than these say nothing


class Scores(Protocol):
    """Scores over a number of decisions, by name."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""

    @property
    def cross_entropy(self) -> float:
        """Mean negative log-likelihood, nats."""

    @property
    def num(self) -> int:
        """Number of decisions."""

    def as_dict(self) -> dict[str, float]:
        """Return the scores by name."""


class Goal(ABC):
    """What counts in stage II; sums come first, so that workers can add them up."""

    task: Task
    num_sums: int

    @property
    @abstractmethod
    def guess(self) -> Scores:
        """What guessing scores."""

    @abstractmethod
    def sums(self, logits: Float[Tensor, "B K"], targets: Int[Tensor, B]) -> list[float]:
        """Return ``num_sums`` numbers that `scores` divides by the last."""

    @abstractmethod
    def scores(self, sums: list[float]) -> Scores:
        """Turn sums into means."""

    @abstractmethod
    def loss(
        self, logits: Float[Tensor, "B K"], targets: Int[Tensor, B], sigma: float
    ) -> Float[Tensor, ""]:
        """Return the loss; ``sigma`` is the spread of soft targets, classes."""

    @abstractmethod
    def rank(self, scores: dict[str, float]) -> tuple[float, float]:
        """Return what makes one validation better than another."""

    @abstractmethod
    def has_left_plateau(self, scores: Scores) -> bool:
        """Say whether the head does better than guessing: it stays there for long, then drops."""


@dataclass(frozen=True)
class SyncScores:
    """Scores of a head that says whether a crop can be synchronized.

    Attributes:
        accuracy: share of right answers.
        cross_entropy: mean negative log-likelihood, nats.
        num: number of decisions.
    """

    accuracy: float
    cross_entropy: float
    num: int

    def as_dict(self) -> dict[str, float]:
        """Return the scores by name."""
        return asdict(self)


class OffsetGoal(Goal):
    """The class of the offset (paper section 3.3)."""

    task: Task = "offset"
    num_sums = 5

    def __init__(self, grid: OffsetGrid) -> None:
        self.grid = grid

    @property
    def guess(self) -> OffsetScores:
        """What guessing uniformly scores."""
        return chance(self.grid)

    def sums(self, logits: Tensor, targets: Tensor) -> list[float]:
        """Return the sums of `zoo.evaluation.metrics`."""
        return sums_of(logits, targets, self.grid)

    def scores(self, sums: list[float]) -> OffsetScores:
        """Turn sums into means."""
        return scores_from(sums)

    def loss(self, logits: Tensor, targets: Tensor, sigma: float) -> Tensor:
        """Return the cross-entropy, at first against neighbouring classes too."""
        return ordinal_loss(logits, targets, sigma)

    def rank(self, scores: dict[str, float]) -> tuple[float, float]:
        """Put +-1 class accuracy first, exact accuracy second."""
        return scores["within_one"], scores["accuracy"]

    def has_left_plateau(self, scores: Scores) -> bool:
        """Compare cross-entropy and +-1 class accuracy with guessing."""
        return scores.num >= MIN_DECISIONS and (
            scores.cross_entropy < self.guess.cross_entropy - PLATEAU_MARGIN
            or scores.as_dict()["within_one"] > 2 * self.guess.within_one
        )


class SyncGoal(Goal):
    """Whether the streams of a crop belong together at all (paper section 4.2)."""

    task: Task = "synchronizability"
    num_sums = 3

    @property
    def guess(self) -> SyncScores:
        """What a coin scores."""
        return SyncScores(0.5, math.log(2), 0)

    def sums(self, logits: Float[Tensor, "B 2"], targets: Int[Tensor, B]) -> list[float]:
        """Return right answers, summed cross-entropy, number."""
        right = float((logits.argmax(1) == targets).sum())
        entropy = float(cross_entropy(logits.float(), targets, reduction="sum"))
        return [right, entropy, float(len(targets))]

    def scores(self, sums: list[float]) -> SyncScores:
        """Turn sums into means."""
        right, entropy, num = sums
        return SyncScores(right / max(1.0, num), entropy / max(1.0, num), int(num))

    def loss(self, logits: Tensor, targets: Tensor, sigma: float) -> Tensor:
        """Return the cross-entropy of two classes, as published."""
        return cross_entropy(logits, targets)

    def rank(self, scores: dict[str, float]) -> tuple[float, float]:
        """Put accuracy first, the lower cross-entropy second."""
        return scores["accuracy"], -scores["cross_entropy"]

    def has_left_plateau(self, scores: Scores) -> bool:
        """Compare the cross-entropy with that of a coin."""
        is_better = scores.cross_entropy < self.guess.cross_entropy - PLATEAU_MARGIN
        return scores.num >= MIN_DECISIONS and is_better


def goal_of(task: Task, grid: OffsetGrid) -> Goal:
    """Return what counts for a task."""
    return OffsetGoal(grid) if task == "offset" else SyncGoal()


def ordinal_loss(
    logits: Float[Tensor, "B K"], targets: Int[Tensor, B], sigma: float
) -> Float[Tensor, ""]:
    """Cross-entropy against a Gaussian around the true class; sigma (classes) 0 is one-hot."""
    if sigma < 0.1:
        return cross_entropy(logits, targets)
    classes = torch.arange(logits.shape[1], device=logits.device)
    distance = classes - targets[:, None]  # (B, K)
    soft = torch.softmax(-0.5 * (distance / sigma) ** 2, dim=1)
    return -(soft * log_softmax(logits, dim=1)).sum(1).mean()
