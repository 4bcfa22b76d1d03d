"""The task classification: samples, loss, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from plugins.classification import ClassificationConfig
from plugins.classification.report import (
    class_table,
    exact_means,
    plot_classes,
    precision_by_class,
)
from zoo.evaluation.confusion_plot import MOST_CLASSES, plot_confusion
from zoo.evaluation.ranking import accuracy_of_first, count_confusion, d_prime
from zoo.models.task import Answer, Need, Task
from zoo.timeline import Placement, Sample, SegmentLayout, place_crops

if TYPE_CHECKING:
    from zoo.data.manifest import Clip
    from zoo.evaluation.rounds import Outcome
    from zoo.evaluation.sample_sources import Samples
    from zoo.evaluation.tables import ReportTable

# Average precision from sums that workers can add: positives and all clips per class and bin of the
# score's logit.  Scores in one bin count as equal.
BINS, LARGEST_LOGIT = 384, 12.0
SHOWN, MOST_SHOWN = 0.3, 5  # classes that a prediction names


class Classification(Task):
    """Which of K classes a clip shows."""

    says = "says which classes a clip shows"
    has_labels = True

    def __init__(self, config: ClassificationConfig) -> None:
        self.config = config
        self.num_sums = 2 + 2 * self.num_outputs * BINS + 1
        self._index = {name: i for i, name in enumerate(config.classes)}

    @property
    def num_outputs(self) -> int:
        """K, one logit per class; 1 while the classes are not known."""
        return max(1, len(self.config.classes))

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """The classes."""
        return tuple(self.config.classes) or None

    @property
    def is_multi_label(self) -> bool:
        """Whether a clip may have several classes."""
        return bool(self.config.multi_label)

    @property
    def asks_each_class(self) -> bool:
        """Whether every class is a question of its own: binary cross-entropy and sigmoids."""
        return self.is_multi_label if self.config.loss is None else self.config.loss == "bce"

    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """Return the length of a crop; one of a single segment may reach beyond the end."""
        return Need(layout.shortest_s, "nothing else")

    def accepts(self, clip: Clip) -> bool:
        """Say whether a clip has a label, and no other than the classes where it has one only."""
        known = [name in self._index for name in clip.all_labels]
        return bool(known) and (any(known) if self.is_multi_label else known[0])

    def sample(
        self, rng: np.random.Generator, index: int, clip: Clip, duration_s: float, place: Placement
    ) -> Sample:
        """Choose a crop of both streams at the same time."""
        return place_crops(rng, index, duration_s, place, offset_s=0.0, target=self._target(clip))

    def _target(self, clip: Clip) -> Any:
        if not self.is_multi_label:
            return self._index[clip.all_labels[0]]
        return tuple(float(name in clip.all_labels) for name in self.config.classes)

    def soften(self, target: Any, other: Any, share: float, smoothing: float) -> Any:
        """Return the labels as a vector of K (Source: CAV-MAE's loader).

        A share of ``smoothing`` is spread over all classes.  Without a second clip the clip's own
        classes are set to the rest; with one, classes of either get their share of it.
        """
        labels = np.full(self.num_outputs, smoothing / self.num_outputs)
        if share == 1:
            labels[self._numbers(target)] = 1 - smoothing
        else:
            labels[self._numbers(target)] += share * (1 - smoothing)
            labels[self._numbers(other)] += (1 - share) * (1 - smoothing)
        return tuple(labels.tolist())

    def _numbers(self, target: Any) -> list[int]:
        """Return the numbers of the classes that a target says."""
        if not self.is_multi_label:
            return [target]
        return [k for k, is_class in enumerate(target) if is_class]

    def clip_weights(self, clips: Sequence[Clip]) -> list[float]:
        """Return the sum over a clip's classes of one over their number of clips (as CAV-MAE)."""
        numbers = [[self._index[n] for n in set(c.all_labels) & self._index.keys()] for c in clips]
        counts = Counter(k for classes in numbers for k in classes)
        return [sum(1000 / (counts[k] + 0.01) for k in classes) for classes in numbers]

    def average(self, outputs: Float[Tensor, "R N K"]) -> Float[Tensor, "N K"]:
        """Return what leads to the mean of the probabilities of R readings."""
        scores = outputs.float()
        if self.asks_each_class:
            return torch.logit(scores.sigmoid().mean(0), eps=1e-7)
        is_published = self.config.averaged == "sigmoid"
        return (scores.sigmoid() if is_published else scores.softmax(2)).mean(0).log()

    def loss(self, outputs: Float[Tensor, "B K"], targets: Tensor, sigma: float) -> Tensor:
        """Return the cross-entropy, or the binary one of each class by itself.

        Targets are classes ``(B,)`` or labels ``(B, K)``, which need not add up to 1.
        """
        if not self.asks_each_class:
            return cross_entropy(outputs, targets)
        labels = targets if targets.ndim == 2 else one_hot(targets, self.num_outputs)
        return binary_cross_entropy_with_logits(outputs, labels.to(outputs.dtype))

    def sums(self, outputs: Float[Tensor, "B K"], targets: Tensor) -> list[float]:
        """Return hits, summed loss, counts per class and bin, number of clips."""
        is_class = self._is_class(targets)  # (B, K)
        hits = is_class.gather(1, outputs.argmax(1, keepdim=True)).sum()
        total = float(self.loss(outputs.float(), targets, 0.0)) * len(targets)
        scale = BINS / (2 * LARGEST_LOGIT)
        bins = ((self._logits(outputs) + LARGEST_LOGIT) * scale).long().clamp(0, BINS - 1)  # (B, K)
        place = torch.arange(self.num_outputs, device=bins.device) * BINS + bins
        size = self.num_outputs * BINS
        positives = torch.bincount(place[is_class], minlength=size)
        everything = torch.bincount(place.flatten(), minlength=size)
        counts = torch.cat([positives, everything]).double().tolist()
        return [float(hits), total, *counts, float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into accuracy (the first class is right), mAP and mean loss."""
        hits, total, *counts, num = sums
        table = np.asarray(counts).reshape(2, self.num_outputs, BINS)[:, :, ::-1]
        number = max(1.0, num)
        return {
            "accuracy": hits / number,
            "mean_average_precision": _mean_average_precision(*table),
            "mean_auc": (auc := _mean_auc(*table)),
            "d_prime": d_prime(auc),
            "cross_entropy": total / number,
            "num": int(num),
        }

    def _is_class(self, targets: Tensor) -> Tensor:
        if self.is_multi_label:
            return targets > 0.5
        return one_hot(targets if targets.ndim == 1 else targets.argmax(1), self.num_outputs).bool()

    def _logits(self, outputs: Tensor) -> Tensor:
        """Return the logit of the probability of each class."""
        if self.asks_each_class:
            return outputs.float()
        return torch.logit(outputs.float().softmax(1), eps=1e-6)

    def probabilities(self, outputs: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Return the probability of each class."""
        return outputs.float().sigmoid() if self.asks_each_class else outputs.float().softmax(1)

    @property
    def chance(self) -> dict[str, float]:
        """What somebody scores who knows how frequent the classes are, and nothing of the clip."""
        shares = np.asarray(self.config.shares or [1 / self.num_outputs] * self.num_outputs)
        p = shares.clip(1e-6, 1 - 1e-6)
        entropy = -(p * np.log(p / p.sum())).sum()
        if self.asks_each_class:
            entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
        mean = float(shares.mean())
        return {
            "accuracy": mean,
            "mean_average_precision": mean,
            "mean_auc": 0.5,
            "d_prime": 0.0,
            "cross_entropy": float(entropy),
            "num": 0,
        }

    def values(self, outputs: Float[Tensor, "N K"], targets: Tensor) -> dict[str, np.ndarray]:
        """Return per clip whether its first class is right."""
        hits = self._is_class(targets).gather(1, outputs.argmax(1, keepdim=True))[:, 0]
        return {"accuracy": hits.double().numpy()}

    def report(self, outcome: Outcome, samples: Samples, seed: int) -> dict[str, Any]:
        """Return the average precision of every class, and which is taken for which."""
        outputs, targets = outcome.output(), self.collate(outcome.answers)
        found = self._examine(outputs, targets)
        pooled = self.scores(self.sums(outputs, targets))
        return {"pooled": {**pooled, **exact_means(found["classes"])}, **found}

    def _examine(self, outputs: Float[Tensor, "N K"], targets: Tensor) -> dict[str, Any]:
        is_class = self._is_class(targets)
        classes = self.config.classes
        found = precision_by_class(self.probabilities(outputs), is_class, classes)
        answer = {"classes": found, "classes_without_clips": len(classes) - len(found)}
        if self.is_multi_label:
            answer["accuracy_of_first"] = accuracy_of_first(outputs, is_class)
        elif len(classes) <= MOST_CLASSES:
            answer["confusion"] = count_confusion(outputs, targets)
        return answer

    def report_tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return the table of classes."""
        return [class_table(report)]

    def plot_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Draw classes and, where a clip has one only, their confusion."""
        figures = {"classes": plot_classes(report)}
        if "confusion" in report:
            figures["confusion"] = plot_confusion(report["confusion"], self.config.classes, "clips")
        return figures

    def diagnose(
        self, outputs: Float[Tensor, "N K"], targets: Tensor, examples: Sequence[Any]
    ) -> dict[str, Any]:
        """Return what a report says of the classes, for the validation samples."""
        return {
            "pooled": self.scores(self.sums(outputs, targets)),
            **self._examine(outputs, targets),
        }

    def plot_diagnosis(self, findings: dict[str, Any]) -> dict[str, Any]:
        """Draw it as a report does."""
        return self.plot_report(findings)

    def answer(
        self, outputs: Float[Tensor, "W K"], starts_s: Sequence[float], crop_s: float
    ) -> Answer:
        """Return the probability of every class, the mean over the crops of a clip."""
        mean = self.probabilities(outputs).mean(0)
        order = mean.argsort(descending=True).tolist()
        ranked = [{"label": self.config.classes[k], "probability": float(mean[k])} for k in order]
        shown = [c for c in ranked if not self.is_multi_label or c["probability"] >= SHOWN]
        lines = [f"{c['label']} (probability {c['probability']:.2f})" for c in shown[:MOST_SHOWN]]
        if not lines:
            first = ranked[0]
            lines = [
                f"no class is likely; the first: {first['label']} ({first['probability']:.2f})"
            ]
        return Answer({"classes": ranked}, lines)


def _mean_auc(positives: np.ndarray, everything: np.ndarray) -> float:
    """Return the mean over classes, from counts as above; equal scores count half."""
    negatives = everything - positives
    above = positives.cumsum(1) - positives / 2
    pairs = positives.sum(1) * negatives.sum(1)
    auc = (negatives * above).sum(1) / np.maximum(pairs, 1)
    return float(auc[pairs > 0].mean()) if (pairs > 0).any() else 0.5


def _mean_average_precision(positives: np.ndarray, everything: np.ndarray) -> float:
    """Return the mean over classes, from counts, the highest scores first; absent classes skip."""
    found, seen = positives.cumsum(1), everything.cumsum(1)
    total = found[:, -1]
    precision = found / np.maximum(seen, 1)
    average = (positives * precision).sum(1) / np.maximum(total, 1)
    return float(average[total > 0].mean()) if (total > 0).any() else 0.0
