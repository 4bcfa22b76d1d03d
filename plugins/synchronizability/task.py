"""The task synchronizability: samples, loss, scores, report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from plugins.synchronizability import SynchronizabilityConfig
from plugins.synchronizability.plots import plot_roc, plot_tiers
from plugins.synchronizability.published import synchronizability_crop, synchronizability_crop_s
from plugins.synchronizability.report import (
    COLUMNS,
    curve_of,
    require_both_kinds,
    score_binary,
    score_synchronizability,
    synchronizable,
    tier_table,
    tiers,
)
from zoo.contracts import Score
from zoo.data.published import require_length
from zoo.evaluation.ranking import count_confusion
from zoo.evaluation.scoring import score_task
from zoo.evaluation.sliding import describe_sliding, sliding_check
from zoo.inference.estimate import synchronizability
from zoo.inference.prediction import verdict_on
from zoo.models.task import Answer, Need, Task
from zoo.timeline import (
    LATTICE_TOLERANCE,
    OffsetGrid,
    Placement,
    Sample,
    SegmentLayout,
    place_crops,
    shortest_clip_s,
)

if TYPE_CHECKING:
    import random

    from zoo.data.manifest import Clip
    from zoo.data.published import Crop, RawClip
    from zoo.data.store import FeatureStore
    from zoo.evaluation.rounds import Outcome
    from zoo.evaluation.sample_sources import Samples
    from zoo.evaluation.tables import ReportTable
    from zoo.models.model import Model


class Synchronizability(Task):
    """Whether the streams of a crop belong together at all (paper section 4.2)."""

    tells_synchronizable = True
    says = "says whether audio and video can be synchronized"
    num_sums = 3

    def __init__(self, config: SynchronizabilityConfig) -> None:
        self.config = config

    @property
    def grid(self) -> OffsetGrid:
        """Offsets of the samples that can be synchronized."""
        return self.config.grid

    @property
    def num_outputs(self) -> int:
        """Two logits: (no, yes)."""
        return 2

    @property
    def output_names(self) -> tuple[str, str]:
        """No and yes."""
        return "cannot be synchronized", "can be synchronized"

    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """Return the length of two crops without common content, or what the offsets take."""
        needed_s = shortest_clip_s(layout, self.grid, hop_s)
        twice_s = shortest_unsynchronizable_s(layout, hop_s)
        if twice_s > needed_s:
            return Need(twice_s, "one as long beside it")
        return Need(needed_s, f"offsets up to {self.grid.reach_s:g} s")

    def sample(
        self, rng: np.random.Generator, index: int, clip: Clip, duration_s: float, place: Placement
    ) -> Sample:
        """Choose crops that can be synchronized, or that share no content.

        Half the time the offset is one of the grid (target 1); else it is the length of the crop,
        its sign at random (target 0).
        """
        target = int(rng.integers(2))
        if target:
            offset_s = self.grid.offsets_s[int(rng.integers(self.grid.num_classes))]
        else:
            offset_s = place.layout.covered_s * float(2 * rng.integers(2) - 1)
        return place_crops(rng, index, duration_s, place, offset_s, target)

    def layout_from(self, layout: SegmentLayout, start: Task | None) -> SegmentLayout:
        """Take one segment less than the model that finds offsets has, as published.

        Samples without an offset need clips of twice the crop.
        """
        if start is None or not start.answers_offsets or layout.num_segments == 1:
            return layout
        return layout.model_copy(update={"num_segments": layout.num_segments - 1})

    def loss(
        self, outputs: Float[Tensor, "B 2"], targets: Int[Tensor, B], sigma: float
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of two classes, as published."""
        return cross_entropy(outputs, targets)

    def sums(self, outputs: Float[Tensor, "B 2"], targets: Int[Tensor, B]) -> list[float]:
        """Return the number of right answers, summed cross-entropy, number of samples."""
        hits = float((outputs.argmax(1) == targets).sum())
        entropy = float(cross_entropy(outputs.float(), targets, reduction="sum"))
        return [hits, entropy, float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into means."""
        hits, entropy, num = sums
        total = max(1.0, num)
        return {"accuracy": hits / total, "cross_entropy": entropy / total, "num": int(num)}

    @property
    def chance(self) -> dict[str, float]:
        """What guessing scores."""
        return {"accuracy": 0.5, "cross_entropy": math.log(2), "num": 0}

    @property
    def chance_words(self) -> str:
        """Say what the loss of guessing is: ``ln 2 = 0.69``."""
        return f"ln 2 = {math.log(2):.2f}"

    def answer(
        self, outputs: Float[Tensor, "W 2"], starts_s: Sequence[float], crop_s: float
    ) -> Answer:
        """Average yes over the crops, each weighted by how far it is from undecided."""
        yes = synchronizability(outputs.softmax(1))
        words = f"{verdict_on(yes)} (probability that they can: {yes:.2f})"
        return Answer({"synchronizability": yes}, [words])

    def check_features(self, model: Model, store: FeatureStore) -> dict[str, float]:
        """Slide the audio over the video: the training-free check of stage I."""
        return sliding_check(model, store, self.grid)

    def describe_features(self, scores: Mapping[str, float]) -> str:
        """Say what the sliding check found."""
        return describe_sliding(scores, self.grid)

    def values(
        self, outputs: Float[Tensor, "N 2"], targets: Int[Tensor, N]
    ) -> dict[str, np.ndarray]:
        """Return per sample 1 where the answer is right."""
        return {"accuracy": (outputs.argmax(1) == targets).double().numpy()}

    # --- what is shown ---

    def diagnose(
        self, outputs: Float[Tensor, "N 2"], targets: Int[Tensor, N], examples: Sequence[Any]
    ) -> dict[str, Any]:
        """Return the confusion and the ROC curve."""
        false_rate, true_rate = (
            [round(float(value), 5) for value in rate] for rate in curve_of(outputs, targets)
        )
        return {
            "confusion": count_confusion(outputs, targets),
            "pooled": score_binary(outputs, targets),
            "roc": {"false_positive_rate": false_rate, "true_positive_rate": true_rate},
        }

    def plot_diagnosis(self, findings: dict[str, Any]) -> dict[str, Any]:
        """Draw the ROC curve."""
        return {"roc": plot_roc(findings)}

    def report(self, outcome: Outcome, samples: Samples, seed: int) -> dict[str, Any]:
        """Return accuracy and ROC AUC in place of the scores, and the ROC curve."""
        outputs, targets = outcome.output(), self.collate(outcome.answers)
        require_both_kinds(targets)
        controls = {name: score_binary(given, targets) for name, given in outcome.controls.items()}
        rounds, clips = outcome.rounds, outcome.clips
        scores = score_synchronizability(outputs, targets, rounds, clips, seed)
        return {**scores, "controls": controls}

    @property
    def report_columns(self) -> tuple[Score, ...]:
        """Accuracy and ROC AUC."""
        return COLUMNS

    def plot_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the ROC curve."""
        return {"roc": plot_roc(report)}

    def beside(self, first: Task) -> Task:
        """Return what samples ask of both models: is there an offset, and which?"""
        return SynchronizableOffsets(self, first)

    published_extra_segments = 1  # as published: 14 segments, of which 13 are read

    def published_crop(self, raw: RawClip, layout: SegmentLayout, rng: random.Random) -> Crop:
        """Choose an offset, or none, and a start as the published code does."""
        length_s = synchronizability_crop_s(layout)
        require_length(raw, 2 * length_s)
        crop, is_synchronizable = synchronizability_crop(raw, self.grid, length_s, rng)
        return replace(crop, target=int(is_synchronizable))


class SynchronizableOffsets(Synchronizability):
    """Which offsets of one model to believe, asked of a synchronizability model.

    Args:
        second: the task of the synchronizability model.
        first: the task of the model that predicts offsets; samples have its offsets.
    """

    all_samples = "samples that can be synchronized"

    def __init__(self, second: Synchronizability, first: Task) -> None:
        assert first.grid is not None
        super().__init__(second.config.model_copy(update={"grid": first.grid}))
        self.spec, self.first = second.spec, first

    def report(self, outcome: Outcome, samples: Samples, seed: int) -> dict[str, Any]:
        """Return the scores of both models, and of the first by what the second says."""
        targets = self.collate(outcome.answers)
        require_both_kinds(targets)
        beside, clips = torch.cat(outcome.beside), outcome.clips
        kept = synchronizable(outcome, self.grid)
        return {
            **score_task(self.first, kept, samples, seed),
            "synchronizability": score_synchronizability(
                beside, targets, outcome.rounds, clips, seed
            ),
            "tiers": tiers(outcome, self.first, self.grid, seed),
        }

    @property
    def report_columns(self) -> tuple[Score, ...]:
        """The scores of offsets."""
        return self.first.report_columns

    def report_rows(self, report: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
        """Return the further rows of offsets."""
        return self.first.report_rows(report)

    def report_tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return the offsets by probability that there is one."""
        return [tier_table(report)]

    def plot_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Draw both reports, and the offsets by probability that there is one."""
        return {
            **self.first.plot_report(report),
            "roc": plot_roc(report["synchronizability"]),
            "tiers": plot_tiers(report),
        }


def shortest_unsynchronizable_s(layout: SegmentLayout, hop_s: float) -> float:
    """Return the shortest clip that holds two crops without common content, seconds.

    Twice the crop, the first start rounded up to the lattice: 9.6 s for 14 published segments.
    """
    steps = math.ceil(layout.covered_s / hop_s - LATTICE_TOLERANCE)
    return round(steps * hop_s + layout.covered_s, 6)
