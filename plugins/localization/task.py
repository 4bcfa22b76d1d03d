"""The task localization: samples, loss, scores, the timeline of a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from plugins.localization import BACKGROUND, LocalizationConfig
from plugins.localization.report import (
    class_table,
    draw_timeline,
    plot_classes,
    scores_by_class,
)
from plugins.localization.slots import IGNORED, join_crops, slot_labels
from zoo.evaluation.confusion_plot import MOST_CLASSES, plot_confusion
from zoo.evaluation.ranking import count_confusion
from zoo.models.task import Answer, Need, Task
from zoo.timeline import Placement, Sample, SegmentLayout, SlotGrid, place_crops

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo.data.manifest import Clip
    from zoo.evaluation.rounds import Outcome
    from zoo.evaluation.sample_sources import Samples
    from zoo.evaluation.tables import ReportTable

COUNTS = 4  # sums beside those of classes: right slots, slots, right event slots, event slots


class Localization(Task):
    """Which of K - 1 events happens in each slot of a crop, or none: the background.

    An event is what is audible and visible (Source: AVE, arXiv 1803.08842).  Outputs are those of
    the first slot, then of the next: ``(B, slots * K)``.
    """

    says = "says which event happens when"
    covers_clips = True
    draws_answers = True

    def __init__(self, config: LocalizationConfig) -> None:
        self.config, self.labels = config, config.labels
        self._known = set(config.classes)
        self.num_sums = COUNTS + 3 * len(self.labels) + 2

    @property
    def slots(self) -> SlotGrid:
        """The slots of a crop; one while the layout is not known."""
        return SlotGrid(slot_s=self.config.slot_s, num_slots=max(1, self.config.num_slots))

    @property
    def num_outputs(self) -> int:
        """A logit per slot and label."""
        return self.slots.num_slots * len(self.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Slots and labels: ``0-1 s: dog barking``."""
        return tuple(
            f"{start_s:g}-{end_s:g} s: {label}"
            for start_s, end_s in self.slots.spans_s
            for label in self.labels
        )

    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """Return the length of a crop; one of a single segment may reach beyond the end."""
        return Need(layout.shortest_s, "nothing else")

    def accepts(self, clip: Clip) -> bool:
        """Say whether it is known what happens in a clip, be it nothing, and every event is."""
        return clip.events is not None and all(e.label in self._known for e in clip.events)

    def sample(
        self, rng: np.random.Generator, index: int, clip: Clip, duration_s: float, place: Placement
    ) -> Sample:
        """Choose a crop of both streams at the same time, and label its slots."""
        sample = place_crops(rng, index, duration_s, place, offset_s=0.0, target=None)
        labels = slot_labels(
            clip.events or (), self.labels, self.slots, sample.vision_start_s, duration_s
        )
        return Sample(index, sample.vision_start_s, sample.audio_start_s, tuple(labels))

    def _per_slot(self, outputs: Float[Tensor, "B SxK"]) -> Float[Tensor, "B S K"]:
        return outputs.unflatten(1, (self.slots.num_slots, len(self.labels)))

    def _counted(
        self, outputs: Float[Tensor, "B SxK"], targets: Int[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "M K"], Int[Tensor, M]]:
        """Return logits and labels of the slots that lie in their clip."""
        is_counted = targets != IGNORED
        return self._per_slot(outputs)[is_counted], targets[is_counted]

    def average(self, outputs: Float[Tensor, "R N K"]) -> Float[Tensor, "N K"]:
        """Return what leads to the mean of the probabilities of R readings."""
        shape = (self.slots.num_slots, len(self.labels))
        probabilities = outputs.float().unflatten(2, shape).softmax(3)  # (R, N, slots, K)
        return probabilities.mean(0).clamp_min(1e-12).log().flatten(1)

    def loss(self, outputs: Float[Tensor, "B K"], targets: Tensor, sigma: float) -> Tensor:
        """Return the mean cross-entropy of a slot."""
        return cross_entropy(*self._counted(outputs, targets))

    def sums(self, outputs: Float[Tensor, "B K"], targets: Tensor) -> list[float]:
        """Return counts of slots, right, true and predicted ones per label, loss, samples."""
        logits, truth = self._counted(outputs.float(), targets)
        found, size = logits.argmax(1), len(self.labels)
        hits, is_event = found == truth, truth < size - 1
        right, events = int((hits & is_event).sum()), int(is_event.sum())
        counts = (int(hits.sum()), truth.numel(), right, events)
        per_label = [torch.bincount(x, minlength=size) for x in (truth[hits], truth, found)]
        total = float(cross_entropy(logits, truth, reduction="sum"))
        by_label = torch.cat(per_label).double().tolist()
        return [*map(float, counts), *by_label, total, float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into accuracy over all slots and over those with an event, F1 and mean loss."""
        hits, slots, event_hits, event_slots = sums[:COUNTS]
        right, truth, found = np.asarray(sums[COUNTS:-2]).reshape(3, -1)[:, :-1]  # events only
        f1 = 2 * right / np.maximum(truth + found, 1)
        return {
            "accuracy": hits / max(1.0, slots),
            "event_accuracy": event_hits / max(1.0, event_slots),
            "mean_f1": float(f1[truth > 0].mean()) if (truth > 0).any() else 0.0,
            "cross_entropy": sums[-2] / max(1.0, slots),
            "num": int(sums[-1]),
        }

    @property
    def chance(self) -> dict[str, float]:
        """What somebody scores who knows how frequent the labels are, and gives always the same.

        That is the label that is best for a score: the most frequent one, the most frequent event.
        """
        size = len(self.labels)
        shares = np.asarray(self.config.shares or [1 / size] * size)
        events, known = shares[:-1], shares[shares > 0]
        num_events = max(1, int((events > 0).sum()))
        most = float(events.max(initial=0.0))
        return {
            "accuracy": float(shares.max()),
            "event_accuracy": most / max(1e-9, float(events.sum())),
            "mean_f1": 2 * most / (1 + most) / num_events,
            "cross_entropy": float(-(known * np.log(known)).sum()),
            "num": 0,
        }

    def values(self, outputs: Float[Tensor, "N K"], targets: Tensor) -> dict[str, np.ndarray]:
        """Return per sample how many slots are right, over how many a sample has on average.

        So their mean is the accuracy over all slots, whatever the samples' lengths.
        """
        is_counted = targets != IGNORED
        hits = (self._per_slot(outputs).argmax(2) == targets) & is_counted  # (N, slots)
        return {"accuracy": (hits.sum(1) * len(targets) / is_counted.sum()).double().numpy()}

    # --- what is shown ---

    all_samples = "all slots"

    def report(self, outcome: Outcome, samples: Samples, seed: int) -> dict[str, Any]:
        """Return the scores of every label, and which is taken for which."""
        return self._examine(outcome.output(), self.collate(outcome.answers))

    def _examine(self, outputs: Float[Tensor, "N K"], targets: Tensor) -> dict[str, Any]:
        confusion = count_confusion(*self._counted(outputs, targets))
        answer: dict[str, Any] = {"classes": scores_by_class(confusion, self.labels)}
        if len(self.labels) <= MOST_CLASSES:
            answer["confusion"] = confusion
        return answer

    def report_tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return the table of labels."""
        return [class_table(report)]

    def plot_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the scores of the labels, and their confusion."""
        figures = {"classes": plot_classes(report)}
        if "confusion" in report:
            figures["confusion"] = plot_confusion(report["confusion"], self.labels, "slots")
        return figures

    def diagnose(
        self, outputs: Float[Tensor, "N K"], targets: Tensor, examples: Sequence[Any]
    ) -> dict[str, Any]:
        """Return what a report says of the labels, for the validation samples."""
        return self._examine(outputs, targets)

    def plot_diagnosis(self, findings: dict[str, Any]) -> dict[str, Any]:
        """Draw it as a report does."""
        return self.plot_report(findings)

    def answer(
        self, outputs: Float[Tensor, "W K"], starts_s: Sequence[float], crop_s: float
    ) -> Answer:
        """Return slots and events of a clip that ends with its last crop."""
        return self.answer_clip(outputs, starts_s, crop_s, max(starts_s) + crop_s)

    def answer_clip(
        self,
        outputs: Float[Tensor, "W K"],
        starts_s: Sequence[float],
        crop_s: float,
        end_s: float,
    ) -> Answer:
        """Return the label of every slot, and the events that neighbouring slots add up to."""
        probabilities = self._per_slot(outputs).softmax(2).double().numpy()
        timeline = join_crops(probabilities, starts_s, self.slots, end_s, self.labels)
        facts = {"slots": timeline.slots(), "events": timeline.events()}
        return Answer(facts, timeline.words())

    def draw_answer(self, axis: Axes, facts: Mapping[str, Any]) -> None:
        """Draw the events as bars, a row for each class."""
        draw_timeline(axis, facts["slots"], BACKGROUND)
