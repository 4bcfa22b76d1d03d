"""Labels of slots from the events of a clip, and events from the labels of slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plugins.localization import BACKGROUND
from zoo.timeline import LATTICE_TOLERANCE, SlotGrid, clock_span, count_halves, overlap_s

if TYPE_CHECKING:
    from zoo.data.manifest import Clip, Event

IGNORED = -1  # label of a slot that lies beyond the clip
Span = tuple[float, float]


def slot_labels(
    events: Sequence[Event], labels: Sequence[str], slots: SlotGrid, start_s: float, end_s: float
) -> list[int]:
    """Return the number of the label of every slot of a crop.

    A slot has the label of the event that fills half of it or more; of several, the one that fills
    most.  Slots of which less than half lies in the clip are ignored, but for the first.

    Args:
        events: of the clip.
        labels: names of the events, and the background last.
        slots: of the crop.
        start_s: of the crop, seconds.
        end_s: of the clip, seconds.
    """
    numbers = {name: number for number, name in enumerate(labels)}
    counted = max(1, count_halves(end_s - start_s, slots.slot_s))
    half_s = slots.slot_s / 2 - LATTICE_TOLERANCE
    found = []
    for place, (first_s, last_s) in enumerate(slots.spans_s):
        span_s = (start_s + first_s, start_s + last_s)
        filled: dict[str, float] = {}
        for event in events:
            shared_s = overlap_s((event.start_s, event.end_s), span_s)
            filled[event.label] = filled.get(event.label, 0.0) + shared_s
        best = max(filled, key=lambda name: filled[name], default=BACKGROUND)
        name = best if filled.get(best, 0.0) >= half_s else BACKGROUND
        found.append(numbers[name] if place < counted else IGNORED)
    return found


def label_shares(clips: Sequence[Clip], labels: Sequence[str], slot_s: float) -> tuple[float, ...]:
    """Return the share of each label among the slots of some clips; unknown events do not count."""
    counts: Counter[int] = Counter()
    for clip in clips:
        known = [event for event in clip.events or () if event.label in labels]
        slots = SlotGrid.within(clip.duration_s, slot_s)
        counts.update(slot_labels(known, labels, slots, 0.0, clip.duration_s))
    total = max(1, counts.total())
    return tuple(round(counts[number] / total, 6) for number in range(len(labels)))


@dataclass(frozen=True)
class Timeline:
    """What a model says of every slot of a clip.

    Attributes:
        spans_s: start and end of each slot, seconds.
        probabilities: of the labels ``(slots, K)``.
        labels: K names, the background last.
    """

    spans_s: list[Span]
    probabilities: np.ndarray
    labels: Sequence[str]

    def slots(self) -> list[dict[str, Any]]:
        """Return the label of every slot, with its probability."""
        best = self.probabilities.argmax(1)
        return [
            _fact(span_s, self.labels[k], row[k])
            for span_s, k, row in zip(self.spans_s, best, self.probabilities, strict=True)
        ]

    def events(self) -> list[dict[str, Any]]:
        """Return the events: neighbouring slots of one label, joined; their mean probability."""
        return [stretch for stretch in self.stretches() if stretch["label"] != BACKGROUND]

    def stretches(self) -> list[dict[str, Any]]:
        """Return neighbouring slots of one label joined, stretches of background too."""
        groups: list[list[dict[str, Any]]] = []
        for slot in self.slots():
            last = groups[-1][-1] if groups else None
            if last and (last["label"], last["end_s"]) == (slot["label"], slot["start_s"]):
                groups[-1].append(slot)
            else:
                groups.append([slot])
        return [_joined(group) for group in groups]

    def words(self) -> list[str]:
        """Return a line for each event."""
        lines = [say_event(event) for event in self.events()]
        if lines:
            return lines
        span = clock_span(self.spans_s[0][0], self.spans_s[-1][1])
        sureness = float(self.probabilities[:, -1].mean())
        return [f"no event: {span} is {BACKGROUND} ({sureness:.2f})"]


def _fact(span_s: Span, label: str, probability: float) -> dict[str, Any]:
    start_s, end_s = span_s
    return {
        "start_s": start_s,
        "end_s": end_s,
        "label": label,
        "probability": round(float(probability), 6),
    }


def _joined(slots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    span_s = (slots[0]["start_s"], slots[-1]["end_s"])
    probability = float(np.mean([slot["probability"] for slot in slots]))
    return _fact(span_s, slots[0]["label"], probability)


def say_event(event: Mapping[str, Any]) -> str:
    """Say when an event happens: ``0:02-0:06 dog barking (0.93)``."""
    span = clock_span(event["start_s"], event["end_s"])
    return f"{span} {event['label']} ({event['probability']:.2f})"


def join_crops(
    probabilities: np.ndarray,
    starts_s: Sequence[float],
    slots: SlotGrid,
    end_s: float,
    labels: Sequence[str],
) -> Timeline:
    """Put the slots of crops, which may overlap, on one lattice of slots from time 0.

    Where several crops tell of a slot, their probabilities are averaged, each weighted by how much
    of the slot its own slot covers.  Slots that no crop tells of are left out.

    Args:
        probabilities: of the slots of W crops ``(W, slots, K)``.
        starts_s: of the crops, seconds.
        slots: of a crop.
        end_s: of the clip, seconds.
        labels: K names.
    """
    slot_s = slots.slot_s
    at = np.asarray(starts_s)[:, None] / slot_s + np.arange(slots.num_slots)  # (W, slots)
    first = np.floor(at + LATTICE_TOLERANCE).astype(int)
    later = np.clip(at - first, 0, None)  # share of a slot that lies in the next one
    num = max(1, count_halves(end_s, slot_s))
    sums, weights = np.zeros((num, probabilities.shape[2])), np.zeros(num)
    for places, share in ((first, 1 - later), (first + 1, later)):
        is_in = (places < num) & (share > LATTICE_TOLERANCE)
        np.add.at(sums, places[is_in], share[is_in][:, None] * probabilities[is_in])
        np.add.at(weights, places[is_in], share[is_in])
    told = np.flatnonzero(weights > 0)
    edges_s = [round(min(k * slot_s, end_s), 6) for k in range(num)] + [round(end_s, 6)]
    spans_s = [(edges_s[k], edges_s[k + 1]) for k in told]
    return Timeline(spans_s, sums[told] / weights[told, None], labels)
