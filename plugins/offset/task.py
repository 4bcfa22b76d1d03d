"""The task offset: samples, loss, scores, report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from plugins.offset import OffsetConfig
from plugins.offset.confidence import confidence_table, plot_reliability
from plugins.offset.findings import find, plot
from plugins.offset.plots import plot_by_offset, plot_confusion
from plugins.offset.report import describe_offsets, further_rows
from zoo.data.published import crop_s, random_crop, require_length
from zoo.evaluation.calibration import ask, calibrate, measure
from zoo.evaluation.offset_metrics import chance, scores_from, sums_of
from zoo.evaluation.rule_control import score_rule
from zoo.evaluation.sample_sources import RandomSamples
from zoo.evaluation.sliding import describe_sliding, sliding_check
from zoo.models.task import MIN_DECISIONS, Need, Task
from zoo.timeline import OffsetGrid, Placement, Sample, SegmentLayout, place_crops, shortest_clip_s

if TYPE_CHECKING:
    import random

    from zoo.data.manifest import Clip
    from zoo.data.published import Crop, RawClip
    from zoo.data.samples import SampleSource
    from zoo.data.store import FeatureStore
    from zoo.evaluation.rounds import Outcome
    from zoo.evaluation.sample_sources import Samples
    from zoo.evaluation.tables import ReportTable
    from zoo.models.model import Model


log = logging.getLogger(__name__)


class Offset(Task):
    """The class of the offset (paper section 3.3)."""

    answers_offsets = True
    says = "says by how much the audio is off"
    num_sums = 5

    def __init__(self, config: OffsetConfig) -> None:
        self.config = config

    @property
    def grid(self) -> OffsetGrid:
        """The offset classes."""
        return self.config.grid

    @property
    def num_outputs(self) -> int:
        """K, one logit per offset class."""
        return self.grid.num_classes

    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """Return the length that every offset of the grid takes."""
        seconds = shortest_clip_s(layout, self.grid, hop_s)
        return Need(seconds, f"offsets up to {self.grid.reach_s:g} s")

    def sample(
        self, rng: np.random.Generator, index: int, clip: Clip, duration_s: float, place: Placement
    ) -> Sample:
        """Choose an offset, uniform over the classes, and crops that have it."""
        target = int(rng.integers(self.grid.num_classes))
        return place_crops(rng, index, duration_s, place, self.grid.offsets_s[target], target)

    def loss(
        self, outputs: Float[Tensor, "B K"], targets: Int[Tensor, B], sigma: float
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy, at first against neighbouring classes too."""
        return ordinal_loss(outputs, targets, sigma)

    def sums(self, outputs: Float[Tensor, "B K"], targets: Int[Tensor, B]) -> list[float]:
        """Return the sums of `zoo.evaluation.offset_metrics`."""
        return sums_of(outputs, targets, self.grid)

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into means."""
        return scores_from(list(sums)).as_dict()

    @property
    def chance(self) -> dict[str, float]:
        """What guessing uniformly scores."""
        return chance(self.grid).as_dict()

    @property
    def chance_words(self) -> str:
        """Say what the loss of guessing is: ``ln 21 = 3.04``."""
        return f"ln {self.num_outputs} = {self.chance['cross_entropy']:.2f}"

    def has_left_chance(self, scores: Mapping[str, float], margin: float = 0.05) -> bool:
        """Compare the loss with guessing, and the accuracy within one class."""
        is_near = scores["within_one"] > 2 * self.chance["within_one"]
        return super().has_left_chance(scores, margin) or (
            scores["num"] >= MIN_DECISIONS and is_near
        )

    def calibrate(self, model: Model, source: SampleSource) -> bool:
        """Fit temperatures, and learn which tokens are usual."""
        is_done = calibrate(model, source, self.grid)
        if not is_done:
            log.warning("too few validation clips to find out what its confidence is worth")
        return is_done

    def check_features(self, model: Model, store: FeatureStore) -> dict[str, float]:
        """Slide the audio over the video: the training-free check of stage I."""
        return sliding_check(model, store, self.grid)

    def describe_features(self, scores: Mapping[str, float]) -> str:
        """Say what the sliding check found."""
        return describe_sliding(scores, self.grid)

    def values(
        self, outputs: Float[Tensor, "N K"], targets: Int[Tensor, N]
    ) -> dict[str, np.ndarray]:
        """Return per sample: right class, at most one class off, error in seconds."""
        predicted = outputs.argmax(1)
        distance = (predicted - targets).abs()
        offsets_s = torch.tensor(self.grid.offsets_s, dtype=torch.float64)
        return {
            "accuracy": (distance == 0).double().numpy(),
            "within_one": (distance <= 1).double().numpy(),
            "mean_abs_error_s": (offsets_s[predicted] - offsets_s[targets]).abs().numpy(),
        }

    # --- what is shown ---

    def diagnose(
        self, outputs: Float[Tensor, "N K"], targets: Int[Tensor, N], examples: Sequence[Any]
    ) -> dict[str, Any]:
        """Return the confusion, and similarities and curves of a few examples."""
        return find(outputs, targets, examples, self.grid)

    def plot_diagnosis(self, findings: dict[str, Any]) -> dict[str, Any]:
        """Draw the confusion, similarities and curves."""
        return plot(findings)

    def report(self, outcome: Outcome, samples: Samples, seed: int) -> dict[str, Any]:
        """Return published metrics, confusion, the rule, and scores where crops share an event."""
        logits, targets = outcome.output(), self.collate(outcome.answers)
        found = describe_offsets(logits, targets, outcome.samples, samples, self.grid)
        known = None if outcome.model is None else outcome.model.calibration
        probabilities, answers = logits.softmax(1)[:, None], None
        if outcome.model is not None and outcome.store is not None:
            found["sliding"] = self.check_features(outcome.model, outcome.store)
            if isinstance(samples, RandomSamples):
                answers = ask(outcome.model, samples.source, self.grid, seed)
        if answers is not None:
            probabilities, targets = answers.probabilities, answers.targets
        found["confidence"] = measure(probabilities, targets, self.grid, known)
        if outcome.controls:
            found["rule"] = score_rule(outcome.samples, samples, self.grid)
        return found

    def report_rows(self, report: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
        """Return the scores where both crops share an event, of the sliding check, of the rule."""
        return further_rows(report)

    def report_tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return what confidence is worth."""
        return [confidence_table(report["confidence"], self.grid)]

    def plot_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the confusion, accuracy by offset, and what confidence is worth."""
        counts, offsets_s = report["confusion"], report["offset_classes_s"]
        return {
            "confusion": plot_confusion(counts, offsets_s, "samples"),
            "offsets": plot_by_offset(report),
            "reliability": plot_reliability(report["confidence"]),
        }

    def published_crop(self, raw: RawClip, layout: SegmentLayout, rng: random.Random) -> Crop:
        """Choose an offset and a start as the published code does."""
        length_s = crop_s(layout)
        require_length(raw, length_s + self.grid.reach_s)
        return random_crop(raw, self.grid, length_s, rng)


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
