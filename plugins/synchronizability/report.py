"""Scores of synchronizability models, by themselves and beside one that predicts offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.contracts import Score
from zoo.errors import ConfigError, option
from zoo.evaluation.bootstrap import interval, mean_intervals
from zoo.evaluation.ranking import count_confusion, published_metrics, roc_auc, roc_curve
from zoo.evaluation.rounds import Outcome
from zoo.evaluation.scoring import score_rounds
from zoo.evaluation.tables import MISSING, ReportTable, show_interval
from zoo.models.task import Task
from zoo.timeline import OffsetGrid

TIERS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
WRONG_BY = 5  # classes by which the target of a sample without common content is made wrong
CURVE_POINTS = 200
COLUMNS = (
    Score(name="accuracy", title="accuracy"),
    Score(name="roc_auc", title="ROC AUC", unit="number"),
)


def probability(outputs: Float[Tensor, "N 2"]) -> np.ndarray:
    """Return the probability that a sample can be synchronized."""
    yes: np.ndarray = outputs.softmax(1)[:, 1].double().numpy()
    return yes


def score_binary(outputs: Float[Tensor, "N 2"], targets: Int[Tensor, N]) -> dict[str, float]:
    """Return accuracy, the area under the ROC curve, and the number of samples."""
    accuracy = float((outputs.argmax(1) == targets).double().mean())
    area = roc_auc(probability(outputs), targets.numpy() == 1)
    return {"accuracy": accuracy, "roc_auc": area, "num": len(targets)}


def curve_of(
    outputs: Float[Tensor, "N 2"], targets: Int[Tensor, N]
) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates."""
    return roc_curve(probability(outputs), targets.numpy() == 1)


def require_both_kinds(targets: Int[Tensor, N]) -> None:
    """Refuse samples of which all or none can be synchronized.

    Raises:
        ConfigError: if there is nothing to tell apart.
    """
    kinds = set(targets.tolist())
    if len(kinds) < 2:
        raise ConfigError(
            f"every one of the {len(targets)} samples {'can' if 1 in kinds else 'cannot'} be "
            "synchronized, so there is nothing to tell apart",
            f"ask for more {option('rounds')}",
        )


def score_synchronizability(
    outputs: Float[Tensor, "N 2"],
    targets: Int[Tensor, N],
    rounds: Sequence[int],
    clips: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    """Score synchronizability (paper section 4.2): accuracy, ROC AUC and the ROC curve.

    Args:
        outputs: (no, yes) of every sample.
        targets: 1 where a sample can be synchronized.
        rounds: the round of every sample.
        clips: the clip of every sample.
        seed: of the intervals.
    """
    yes, truth = probability(outputs), targets.numpy() == 1
    hits = (outputs.argmax(1) == targets).double().numpy()
    ends = mean_intervals({"accuracy": hits}, clips, seed)
    area = interval(lambda weights: roc_auc(yes, truth, weights), clips, seed)
    false_rate, true_rate = curve_of(outputs, targets)
    shown = np.unique(np.linspace(0, len(false_rate) - 1, CURVE_POINTS).round().astype(int))
    return {
        **score_rounds(score_binary, outputs, targets, rounds, ["accuracy", "roc_auc"]),
        "interval": None if ends is None else {**ends, "roc_auc": area},
        "published_metrics": published_metrics(outputs, targets),
        "chance": {"accuracy": 0.5, "roc_auc": 0.5},
        "confusion": count_confusion(outputs, targets),
        "roc": {
            "false_positive_rate": false_rate[shown].tolist(),
            "true_positive_rate": true_rate[shown].tolist(),
        },
    }


def synchronizable(outcome: Outcome, grid: OffsetGrid) -> Outcome:
    """Return the samples that can be synchronized, with the classes of their offsets."""
    kept = [i for i, sample in enumerate(outcome.samples) if sample.target == 1]
    samples = [outcome.samples[i] for i in kept]
    return Outcome(
        [replace(sample, target=grid.class_of(sample.offset_s)) for sample in samples],
        [outcome.rounds[i] for i in kept],
        {name: [torch.cat(parts)[kept]] for name, parts in outcome.outputs.items()},
    )


def tiers(outcome: Outcome, first: Task, grid: OffsetGrid, seed: int) -> list[dict[str, Any]]:
    """Score offsets on the samples that probably can be synchronized (paper Figure 4).

    A sample that is kept although its streams share nothing counts as wrong: as published, its
    target is five classes beside the prediction.

    Args:
        outcome: of both models.
        first: task of the model that predicts offsets.
        grid: its classes.
        seed: of the intervals.

    Returns:
        For every threshold: the share of samples above it, how many of those share nothing, and
        accuracy, accuracy within one class and their interval over clips; None where no sample is
        kept.
    """
    offsets, yes = outcome.output(), torch.cat(outcome.beside).softmax(1)[:, 1]
    is_apart = torch.tensor(outcome.answers) == 0
    true = torch.tensor([grid.class_of(sample.offset_s) for sample in outcome.samples])
    wrong = (offsets.argmax(1) + WRONG_BY) % grid.num_classes
    targets = torch.where(is_apart, wrong, true)
    answer = []
    for threshold in TIERS:
        kept = yes > threshold
        scores: dict[str, Any] = {"accuracy": None, "within_one": None, "interval": None}
        if kept.any():
            values = first.values(offsets[kept], targets[kept])
            scores = {name: float(values[name].mean()) for name in ("accuracy", "within_one")}
            scores["interval"] = mean_intervals(values, outcome.clips[kept.numpy()], seed)
        answer.append(
            {
                "threshold": threshold,
                "num": int(kept.sum()),
                "share": float(kept.double().mean()),
                "num_unsynchronizable": int((kept & is_apart).sum()),
                **scores,
            }
        )
    return answer


def tier_table(report: Mapping[str, Any]) -> ReportTable:
    """Return the table of offsets on the samples that probably can be synchronized."""
    rows = []
    for tier in report["tiers"]:
        shown = [MISSING] * 3
        if tier["accuracy"] is not None:
            ends = tier["interval"]
            told = show_interval(COLUMNS[0], None if ends is None else ends["accuracy"])
            shown = [f"{tier['accuracy']:.1%}", told, f"{tier['within_one']:.1%}"]
        kept = f"{tier['share']:.1%}"
        rows.append(
            [f"above {tier['threshold']:g}", kept, str(tier["num_unsynchronizable"]), *shown]
        )
    own = report["synchronizability"]["pooled"]
    header = ["synchronizability", "samples kept", "of them apart"]
    header += ["accuracy", "95 % interval", "within 1 class"]
    return ReportTable(
        f"Offsets of samples that {report['trust']} calls synchronizable (itself: accuracy "
        f"{own['accuracy']:.1%}, ROC AUC {own['roc_auc']:.3f})",
        header,
        rows,
        "Samples that are kept and share no content (apart) count as wrong.",
    )
