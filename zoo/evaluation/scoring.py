"""From logits to the numbers of a report: offsets, synchronizability, and offsets one can trust."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.evaluation.bootstrap import interval, mean_intervals
from zoo.evaluation.offset_metrics import chance, score_logits
from zoo.evaluation.ranking import published_metrics, roc_auc, roc_curve
from zoo.evaluation.rounds import Outcome
from zoo.evaluation.sample_sources import Draws
from zoo.timeline import OffsetGrid, Sample

TIERS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
WRONG_BY = 5  # classes by which the target of a draw without common content is made wrong
CURVE_POINTS = 200
SPREAD = ("accuracy", "within_one", "mean_abs_error_s")


def offset_scores(outcome: Outcome, source: Draws, grid: OffsetGrid, seed: int) -> dict[str, Any]:
    """Score predicted offsets.

    Returns:
        ``pooled`` and ``per_round`` scores, their ``spread`` over rounds, the 95 % ``interval``
        over clips, ``published_metrics``, ``chance``, ``confusion`` counts, scores
        ``with_common_event`` where event times are known, and ``controls``.
    """
    targets = outcome.targets
    logits = {name: torch.cat(parts) for name, parts in outcome.logits.items()}
    right, rounds = logits.pop(""), np.array(outcome.rounds)
    per_round = [
        score_logits(right[rounds == number], targets[rounds == number], grid)
        for number in np.unique(rounds)
    ]
    report: dict[str, Any] = {
        "pooled": score_logits(right, targets, grid).as_dict(),
        "per_round": [scores.as_dict() for scores in per_round],
        "spread": {n: statistics.pstdev(getattr(x, n) for x in per_round) for n in SPREAD},
        "interval": mean_intervals(_offset_values(right, targets, grid), outcome.clips, seed),
        "published_metrics": published_metrics(right, targets),
        "chance": chance(grid).as_dict(),
        "confusion": confusion(right, targets),
        "controls": {n: score_logits(x, targets, grid).as_dict() for n, x in logits.items()},
    }
    shared = [has_common_event(source, draw) for draw in outcome.draws]
    if None not in shared:
        mask = torch.tensor(shared)
        report["common_event_share"] = float(mask.float().mean())
        report["with_common_event"] = score_logits(right[mask], targets[mask], grid).as_dict()
    return report


def _offset_values(logits: Tensor, targets: Tensor, grid: OffsetGrid) -> dict[str, np.ndarray]:
    """Return what the offset scores are means of, per draw."""
    predicted = logits.argmax(1)
    distance = (predicted - targets).abs()
    offsets_s = torch.tensor(grid.offsets_s, dtype=torch.float64)
    return {
        "accuracy": (distance == 0).double().numpy(),
        "within_one": (distance <= 1).double().numpy(),
        "mean_abs_error_s": (offsets_s[predicted] - offsets_s[targets]).abs().numpy(),
    }


def confusion(logits: Tensor, targets: Tensor) -> list[list[int]]:
    """Count predictions: row is the true class, column the predicted one."""
    k = logits.shape[1]
    flat = targets * k + logits.argmax(1)
    return torch.bincount(flat, minlength=k**2).view(k, k).tolist()


def has_common_event(source: Draws, draw: Sample) -> bool | None:
    """Say whether some event's onset lies in both crops; None where events are not known.

    Without one the two crops share nothing that could tell the offset.
    """
    events_s = source.clips[draw.clip].events_s
    if events_s is None:
        return None
    first_s = max(draw.vision_start_s, draw.audio_start_s)
    last_s = min(draw.vision_start_s, draw.audio_start_s) + source.layout.covered_s
    return any(first_s <= t < last_s for t in events_s)


@dataclass(frozen=True)
class BinaryScores:
    """How well a model tells draws that can be synchronized from those that cannot."""

    accuracy: float
    roc_auc: float
    num: int


def synchronizability_scores(logits: Tensor, outcome: Outcome, seed: int) -> dict[str, Any]:
    """Score synchronizability (paper section 4.2): accuracy, ROC AUC and the ROC curve.

    Args:
        logits: (no, yes) of every draw ``(N, 2)``.
        outcome: whose targets are 1 where the draw can be synchronized.
        seed: of the intervals.
    """
    targets, rounds = outcome.targets, np.array(outcome.rounds)
    scores, truth = logits.softmax(1)[:, 1].double().numpy(), targets.numpy() == 1
    right = (logits.argmax(1) == targets).double().numpy()
    per_round = [
        BinaryScores(float(right[mask].mean()), roc_auc(scores[mask], truth[mask]), int(mask.sum()))
        for mask in (rounds == number for number in np.unique(rounds))
    ]
    ends = mean_intervals({"accuracy": right}, outcome.clips, seed)
    area = interval(lambda w: roc_auc(scores, truth, w), outcome.clips, seed)
    false_rate, true_rate = roc_curve(scores, truth)
    shown = np.unique(np.linspace(0, len(false_rate) - 1, CURVE_POINTS).round().astype(int))
    return {
        "pooled": vars(BinaryScores(float(right.mean()), roc_auc(scores, truth), len(right))),
        "per_round": [vars(one) for one in per_round],
        "spread": {
            name: statistics.pstdev(getattr(one, name) for one in per_round)
            for name in ("accuracy", "roc_auc")
        },
        "interval": None if ends is None else {**ends, "roc_auc": area},
        "published_metrics": published_metrics(logits, targets),
        "chance": {"accuracy": 0.5, "roc_auc": 0.5},
        "confusion": confusion(logits, targets),
        "roc": {
            "false_positive_rate": false_rate[shown].tolist(),
            "true_positive_rate": true_rate[shown].tolist(),
        },
    }


def control_scores(outcome: Outcome) -> dict[str, Any]:
    """Score synchronizability where a stream is wrong or blank."""
    targets = outcome.targets
    truth, answers = targets.numpy() == 1, {}
    for name, parts in outcome.logits.items():
        if name:
            logits = torch.cat(parts)
            accuracy = float((logits.argmax(1) == targets).double().mean())
            area = roc_auc(logits.softmax(1)[:, 1].double().numpy(), truth)
            answers[name] = vars(BinaryScores(accuracy, area, len(targets)))
    return answers


def tiers(
    offset_logits: Tensor, sync_logits: Tensor, outcome: Outcome, grid: OffsetGrid, seed: int
) -> list[dict[str, Any]]:
    """Score offsets on the draws that a synchronizability model trusts (paper Figure 4).

    A draw that is trusted although its streams share nothing counts as wrong: as published, its
    target is five classes beside the prediction.

    Returns:
        For every threshold: the share of draws above it, how many of those share nothing, and
        accuracy, +-1 class accuracy and their interval over clips; None where no draw is kept.
    """
    trust = sync_logits.softmax(1)[:, 1]
    is_apart = outcome.targets == 0
    true = torch.tensor([grid.class_of(draw.offset_s) for draw in outcome.draws])
    wrong = (offset_logits.argmax(1) + WRONG_BY) % grid.num_classes
    targets = torch.where(is_apart, wrong, true)
    answer = []
    for threshold in TIERS:
        kept = trust > threshold
        scores: dict[str, Any] = {"accuracy": None, "within_one": None, "interval": None}
        if kept.any():
            values = _offset_values(offset_logits[kept], targets[kept], grid)
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
