"""The abstract task: what fine-tuning (stage II) is about, and what its outputs mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.contracts import Score, TaskSpec
from zoo.errors import ConfigError, option
from zoo.timeline import OffsetGrid, Placement, Sample, SegmentLayout, SlotGrid

if TYPE_CHECKING:
    import random

    import numpy as np
    from matplotlib.axes import Axes

    from zoo.data.manifest import Clip
    from zoo.data.published import Crop, RawClip
    from zoo.data.samples import SampleSource
    from zoo.data.store import FeatureStore
    from zoo.evaluation.rounds import Outcome
    from zoo.evaluation.sample_sources import Samples
    from zoo.evaluation.tables import ReportTable
    from zoo.models.model import Model

MIN_DECISIONS = 10  # fewer validation samples than these say nothing about chance


@dataclass(frozen=True)
class Need:
    """How long a clip must be.

    Attributes:
        seconds: from time 0.
        words: what takes so long beside the crop itself: ``offsets up to 2 s``.
    """

    seconds: float
    words: str


@dataclass(frozen=True)
class Answer:
    """What a model says about a clip.

    Attributes:
        facts: as JSON types, by name.
        words: the same for people, a line each.
    """

    facts: dict[str, Any]
    words: list[str]


class Task(ABC):
    """What stage II trains a head to answer.

    Sums come before means, so that workers can add them up.  Outputs are ``(B, K)``.
    """

    spec: TaskSpec
    """Set by whoever builds it."""
    answers_offsets: ClassVar[bool] = False
    """Whether outputs are about the classes of ``grid``: what predict, fix and DeSync look for."""
    tells_synchronizable: ClassVar[bool] = False
    """Whether outputs say (no, yes) whether a crop can be synchronized: such a model may stand
    beside one that predicts offsets."""
    covers_clips: ClassVar[bool] = False
    """Whether an answer is about every moment of a clip: crops then reach its end."""
    draws_answers: ClassVar[bool] = False
    """Whether an answer can be drawn along the clip: see `draw_answer`."""
    has_labels: ClassVar[bool] = False
    """Whether targets are labels that can be mixed, smoothed and balanced: see `soften`."""
    answers_for_clip: ClassVar[bool] = False
    """Whether the right answer is the same wherever in a clip its crops start."""
    says: ClassVar[str] = "answers another question"
    """What a model of this task does, after its name: ``says which classes a clip shows``."""

    @property
    def grid(self) -> OffsetGrid | None:
        """Offset classes that the task is about, if any."""
        return None

    @property
    def slots(self) -> SlotGrid | None:
        """Slots of a crop that the task asks about one by one, if it does."""
        return None

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """K, outputs per clip."""

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """What each output stands for, in words; None where outputs have no names."""
        return None

    # --- what it is trained on ---

    @abstractmethod
    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """Return how long a clip must be.

        Args:
            layout: of the segments of a crop.
            hop_s: lattice of video starts, seconds.
        """

    @abstractmethod
    def sample(
        self,
        rng: np.random.Generator,
        index: int,
        clip: Clip,
        duration_s: float,
        place: Placement,
    ) -> Sample:
        """Choose at random where the crops of a clip start, and say what is to be answered.

        Args:
            rng: source of all randomness.
            index: of the clip in its split.
            clip: row of the manifest.
            duration_s: the part that both streams cover, seconds from time 0.
            place: layout and lattices.

        Raises:
            ConfigError: if the clip is too short.
        """

    def accepts(self, clip: Clip) -> bool:
        """Say whether a clip has what the task needs beside its length, such as a label."""
        return True

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """Return the targets of a batch as a tensor; by default classes ``(B,)``."""
        return torch.tensor(targets)

    def soften(self, target: Any, other: Any, share: float, smoothing: float) -> Any:
        """Return the target of a sample whose label is spread over classes; where `has_labels`.

        Args:
            target: of the sample.
            other: of the sample that is mixed into it; the same if none is.
            share: of the first one, 0 to 1.
            smoothing: share of a label that is spread over all classes.
        """
        raise NotImplementedError

    def labels_of(self, targets: Tensor) -> Float[Tensor, "B K"]:
        """Return the targets of `collate` as a number per class, for mixing batches of them.

        Only asked where `has_labels`; `loss` and `sums` take what it gives, and mixtures of it.

        Raises:
            ConfigError: if that cannot be done.
        """
        raise ConfigError(
            f"labels of the task '{self.spec.name}' cannot be mixed or smoothed by the batch",
            f"take {option('set')} stage2.mixup_by=clip",
        )

    def smooth(self, labels: Float[Tensor, "... K"], smoothing: float) -> Float[Tensor, "... K"]:
        """Spread a share of labels, as `labels_of` gives them, over all classes."""
        return labels * (1 - smoothing) + smoothing / labels.shape[-1]

    def clip_weights(self, clips: Sequence[Clip]) -> Sequence[float]:
        """Return how often each clip is sampled, relative to the others, to balance the classes.

        Only asked where `has_labels`.
        """
        raise NotImplementedError

    def average(self, outputs: Float[Tensor, "R N K"]) -> Float[Tensor, "N K"]:
        """Return the outputs of R readings of the same samples, taken together; by default means.

        They are outputs again: a task that averages probabilities returns what leads to them.
        """
        return outputs.mean(0)

    def layout_from(self, layout: SegmentLayout, start: Task | None) -> SegmentLayout:
        """Return the layout for a model that starts from one with this layout and another task."""
        return layout

    # --- what counts ---

    @abstractmethod
    def loss(self, outputs: Float[Tensor, "B K"], targets: Tensor, sigma: float) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            outputs: of the head.
            targets: of `collate`.
            sigma: spread of soft targets between neighbouring classes, where classes are ordered.
        """

    num_sums: int
    """How many numbers `sums` returns."""

    @abstractmethod
    def sums(self, outputs: Float[Tensor, "B K"], targets: Tensor) -> list[float]:
        """Return ``num_sums`` numbers that `scores` divides by the last, the number of samples."""

    @abstractmethod
    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into the scores of the spec, the loss (`loss_name`) and ``num``."""

    @property
    @abstractmethod
    def chance(self) -> dict[str, float]:
        """What guessing scores, under the same names."""

    @property
    def chance_words(self) -> str:
        """How the loss of guessing comes about: ``ln 21 = 3.04``."""
        return f"{self.chance[self.loss_name]:.2f}"

    loss_name: ClassVar[str] = "cross_entropy"
    """Which score is the loss."""

    def has_left_chance(self, scores: Mapping[str, float], margin: float = 0.05) -> bool:
        """Say whether a validation is better than guessing; a few samples say nothing.

        Args:
            scores: of the validation.
            margin: below the loss of guessing; at most a tenth of it, which is little where most of
                many classes are never there.
        """
        chance = self.chance[self.loss_name]
        is_better = scores[self.loss_name] < chance - min(margin, chance / 10)
        return scores["num"] >= MIN_DECISIONS and is_better

    # --- what is predicted ---

    def answer(
        self, outputs: Float[Tensor, "W K"], starts_s: Sequence[float], crop_s: float
    ) -> Answer:
        """Say what the outputs for the crops of a clip mean; by default their mean.

        Args:
            outputs: of the head, on the CPU.
            starts_s: where each of the W crops starts, seconds.
            crop_s: length of a crop, seconds.
        """
        mean = outputs.mean(0).tolist()
        words = ", ".join(f"{value:.4g}" for value in mean)
        return Answer({"outputs": mean}, [f"outputs: {words}"])

    def answer_clip(
        self,
        outputs: Float[Tensor, "W K"],
        starts_s: Sequence[float],
        crop_s: float,
        end_s: float,
    ) -> Answer:
        """Say what the outputs for the crops of a clip mean, where it matters where the clip ends.

        By default as `answer` does.

        Args:
            outputs: of the head, on the CPU.
            starts_s: where each of the W crops starts, seconds.
            crop_s: length of a crop, seconds; the last one may reach beyond the clip.
            end_s: of the clip, seconds.
        """
        return self.answer(outputs, starts_s, crop_s)

    def draw_answer(self, axis: Axes, facts: Mapping[str, Any]) -> None:
        """Draw an answer along the clip, below its film and its spectrogram; where `draws_answers`.

        Args:
            axis: whose x is the time in the clip, seconds.
            facts: of the answer.
        """
        raise NotImplementedError

    def calibrate(self, model: Model, source: SampleSource) -> bool:
        """Find out what a trained model's probabilities are worth; say if that could be done.

        By default it cannot.

        Args:
            model: in eval mode; keeps what is found.
            source: of clips that it was not trained on.
        """
        return False

    # --- what is shown ---

    def check_features(self, model: Model, store: FeatureStore) -> dict[str, float]:
        """Score the stored tokens without a head, where that can be done; else an empty answer."""
        return {}

    def describe_features(self, scores: Mapping[str, float]) -> str:
        """Say what `check_features` found, in one line."""
        return ""

    def diagnose(
        self, outputs: Float[Tensor, "N K"], targets: Tensor, examples: Sequence[Any]
    ) -> dict[str, Any]:
        """Return what the plots of a run are drawn from (see `plot_diagnosis`), as JSON."""
        return {}

    def plot_diagnosis(self, findings: dict[str, Any]) -> dict[str, Any]:
        """Return figures by file name, drawn from what `diagnose` returned."""
        return {}

    # --- how it is evaluated ---

    all_samples: ClassVar[str] = "all samples"
    """What a report calls its samples."""

    def values(self, outputs: Float[Tensor, "N K"], targets: Tensor) -> dict[str, np.ndarray]:
        """Return what the scores are means of, per sample, for intervals over clips."""
        return {}

    def report(self, outcome: Outcome, samples: Samples, seed: int) -> dict[str, Any]:
        """Return what a report says beyond the scores, as JSON.

        Every report has what `zoo.evaluation.scoring.score_task` finds; what is returned here is
        added to it, or replaces it.

        Raises:
            ConfigError: if the samples do not allow it.
        """
        return {}

    @property
    def report_columns(self) -> tuple[Score, ...]:
        """Scores that a report's table shows."""
        return self.spec.scores

    def report_rows(self, report: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
        """Return further rows of the table of scores, from the finished report."""
        return {}

    def report_tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return further tables, from the finished report."""
        return []

    def plot_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return figures by file name, drawn from the finished report."""
        return {}

    def beside(self, first: Task) -> Task:
        """Return what samples ask of a model of this task and of one that predicts offsets.

        Only for tasks that tell whether a crop can be synchronized.  `Outcome.beside` holds the
        outputs for this task, and `report` returns all that is to be said about both models.

        Args:
            first: the other model's task.
        """
        raise ConfigError(f"the task '{self.spec.name}' does not say what can be synchronized")

    published_extra_segments: ClassVar[int] = 0
    """Segments of a published crop beyond those that a model reads."""

    def published_crop(self, raw: RawClip, layout: SegmentLayout, rng: random.Random) -> Crop:
        """Choose a crop at random as the published code does (`zoo.data.published`).

        Args:
            raw: clip as the published code reads it.
            layout: of the segments in the crop.
            rng: source of all randomness.

        Raises:
            MediaError: if the clip is too short.
        """
        raise ConfigError(
            f"the published code does not know the task '{self.spec.name}'",
            f"leave out {option('as_published')}",
        )
