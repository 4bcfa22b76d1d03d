"""The published metrics of a classifier, and the curves behind them.

They agree with scikit-learn's, which the published code calls, ties included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TOP = 5


def published_metrics(
    logits: Float[Tensor, "N K"], targets: Int[Tensor, N]
) -> dict[str, float | None]:
    """Score logits as the published code does (all rounds pooled).

    Returns:
        ``accuracy_1`` and ``accuracy_5``; ``within_one_1`` (the best class is at most one off) and
        ``within_one_5`` (one of the best five is); ``mean_average_precision`` and ``roc_auc``, the
        means of one class against the rest, and ``d_prime`` of the latter, None where it is
        infinite.  With fewer than five classes the 5 is their number.  If a class is missing among
        the targets the last three are 0, 0.5 and 0.
    """
    scores = logits.float().softmax(1).cpu()
    targets = targets.cpu()
    num, num_classes = scores.shape
    top = min(TOP, num_classes)
    best = scores.topk(top, dim=1).indices  # (N, top)
    distance = (best - targets[:, None]).abs()
    metrics: dict[str, float | None] = {}
    for k in (1, top):
        metrics[f"accuracy_{k}"] = float((distance[:, :k] == 0).any(1).double().mean())
        near = (distance[:, :k] <= 1).any(1).double().sum()
        metrics[f"within_one_{k}"] = float(near / (num + 1e-7))
    precision, auc = one_against_rest(scores.numpy(), targets.numpy())
    metrics["mean_average_precision"] = precision
    metrics["roc_auc"] = auc
    metrics["d_prime"] = d_prime(auc) if 0 < auc < 1 else None
    return metrics


def one_against_rest(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return mean average precision and mean ROC AUC of every class ``(N, K)`` against the rest."""
    classes = range(scores.shape[1])
    if len(np.unique(targets)) < len(classes):
        return 0.0, 0.5
    pairs = [(scores[:, k], targets == k) for k in classes]
    precision = np.mean([average_precision(*pair) for pair in pairs])
    return float(precision), float(np.mean([roc_auc(*pair) for pair in pairs]))


def count_confusion(outputs: Float[Tensor, "N K"], targets: Int[Tensor, N]) -> list[list[int]]:
    """Count predictions: row is the true class, column the predicted one."""
    k = outputs.shape[1]
    flat = targets * k + outputs.argmax(1)
    counts: list[list[int]] = torch.bincount(flat, minlength=k**2).view(k, k).tolist()
    return counts


def describe_published(metrics: Mapping[str, float | None], confusion: list[list[int]]) -> str:
    """Say the published metrics in a sentence."""
    text = "Published metrics over all samples: " + ", ".join(
        f"{name} {'infinite' if value is None else f'{value:.4f}'}"
        for name, value in metrics.items()
    )
    if any(sum(row) == 0 for row in confusion):
        text += ". The last three need samples of every class, which these are not."
    return text


def accuracy_of_first(scores: Float[Tensor, "N K"], is_class: Bool[Tensor, "N K"]) -> float:
    """Return how often the best class is the first of a sample's, as CAV-MAE counts it."""
    return float((scores.argmax(1) == is_class.int().argmax(1)).double().mean())


def d_prime(auc: float) -> float:
    """Return how far apart two normal distributions are that an AUC tells apart, at most 6.7."""
    return math.sqrt(2) * NormalDist().inv_cdf(min(max(auc, 1e-6), 1 - 1e-6))


def _cumulated(
    scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Count true and false positives above every distinct score, highest first."""
    distinct, group = np.unique(-scores, return_inverse=True)
    weights = np.ones(len(scores)) if weights is None else weights
    hits = np.bincount(group, weights * is_positive, len(distinct)).cumsum()
    misses = np.bincount(group, weights * ~is_positive, len(distinct)).cumsum()
    return hits, misses


def roc_curve(
    scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates from (0, 0) to (1, 1)."""
    hits, misses = _cumulated(scores, is_positive, weights)
    return (
        np.concatenate([[0.0], misses / max(misses[-1], 1e-12)]),
        np.concatenate([[0.0], hits / max(hits[-1], 1e-12)]),
    )


def roc_auc(
    scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative.

    Without a positive or a negative it is 0.5.
    """
    false_rate, true_rate = roc_curve(scores, is_positive, weights)
    if true_rate[-1] == 0 or false_rate[-1] == 0:
        return 0.5
    return float(np.trapezoid(true_rate, false_rate))


def average_precision(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Return the mean precision over the steps of recall."""
    hits, misses = _cumulated(scores, is_positive)
    steps = np.diff(hits, prepend=0.0) / hits[-1]
    return float((steps * hits / (hits + misses)).sum())
