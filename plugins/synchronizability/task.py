"""The task synchronizability: samples, loss, scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from plugins.synchronizability import SynchronizabilityConfig
from zoo.evaluation.sliding import describe_sliding, sliding_check
from zoo.models.task import Need, Task
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
    from zoo.data.manifest import Clip
    from zoo.data.store import FeatureStore
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
        """Return right answers, summed cross-entropy, number."""
        right = float((outputs.argmax(1) == targets).sum())
        entropy = float(cross_entropy(outputs.float(), targets, reduction="sum"))
        return [right, entropy, float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into means."""
        right, entropy, num = sums
        total = max(1.0, num)
        return {"accuracy": right / total, "cross_entropy": entropy / total, "num": int(num)}

    @property
    def chance(self) -> dict[str, float]:
        """What a coin scores."""
        return {"accuracy": 0.5, "cross_entropy": math.log(2), "num": 0}

    @property
    def chance_words(self) -> str:
        """Say what the loss of a coin is."""
        return f"ln 2 = {math.log(2):.2f}"

    def check_features(self, model: Model, store: FeatureStore) -> dict[str, float]:
        """Slide the audio over the video: the training-free check of stage I."""
        return sliding_check(model, store, self.grid)

    def describe_features(self, scores: Mapping[str, float]) -> str:
        """Say what the sliding check found."""
        return describe_sliding(scores, self.grid)

    def values(
        self, outputs: Float[Tensor, "N 2"], targets: Int[Tensor, N]
    ) -> dict[str, np.ndarray]:
        """Return per sample whether the answer is right."""
        return {"accuracy": (outputs.argmax(1) == targets).double().numpy()}


def shortest_unsynchronizable_s(layout: SegmentLayout, hop_s: float) -> float:
    """Return the shortest clip that holds two crops without common content, seconds.

    Twice the crop, the first start rounded up to the lattice: 9.6 s for 14 published segments.
    """
    steps = math.ceil(layout.covered_s / hop_s - LATTICE_TOLERANCE)
    return round(steps * hop_s + layout.covered_s, 6)
