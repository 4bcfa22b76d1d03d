"""From outputs to the numbers of a report that every task has."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from zoo.evaluation.bootstrap import mean_intervals
from zoo.evaluation.rounds import Outcome
from zoo.evaluation.sample_sources import Samples
from zoo.models.task import Task

ScoreOutputs = Callable[[Tensor, Tensor], Mapping[str, float]]
"""Takes outputs ``(N, K)`` and collated targets."""


def score_task(task: Task, outcome: Outcome, source: Samples, seed: int) -> dict[str, Any]:
    """Score the outputs of a model, with what its task has to add.

    Returns:
        ``pooled`` and ``per_round`` scores, their ``spread`` over rounds, the 95 % ``interval``
        over clips, ``chance`` and ``controls``, and what `Task.report` returns, which may replace
        some of it.
    """

    def score(outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return task.scores(task.sums(outputs, targets))

    targets, outputs = task.collate(outcome.answers), outcome.output()
    values = task.values(outputs, targets)
    return {
        **score_rounds(score, outputs, targets, outcome.rounds, [s.name for s in task.spec.scores]),
        "interval": mean_intervals(values, outcome.clips, seed) if values else None,
        "chance": task.chance,
        "controls": {name: score(given, targets) for name, given in outcome.controls.items()},
        **task.report(outcome, source, seed),
    }


def score_rounds(
    score: ScoreOutputs, outputs: Tensor, targets: Tensor, rounds: Sequence[int], names: list[str]
) -> dict[str, Any]:
    """Return scores of all rounds together, of each by itself, and their spread.

    Args:
        score: of outputs and targets.
        outputs: of all samples ``(N, K)``.
        targets: collated.
        rounds: the round of every sample.
        names: scores whose spread is wanted.
    """
    of_round = np.asarray(rounds)
    masks = [of_round == number for number in np.unique(of_round)]
    per_round = [dict(score(outputs[mask], targets[mask])) for mask in masks]
    return {
        "pooled": dict(score(outputs, targets)),
        "per_round": per_round,
        "spread": {name: statistics.pstdev(one[name] for one in per_round) for name in names},
    }
