"""What a report says of an offset model beyond its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.evaluation.offset_metrics import score_logits
from zoo.evaluation.ranking import count_confusion, published_metrics
from zoo.evaluation.sample_sources import Samples
from zoo.timeline import OffsetGrid, Sample


def describe_offsets(
    logits: Float[Tensor, "N K"],
    targets: Int[Tensor, N],
    samples: list[Sample],
    source: Samples,
    grid: OffsetGrid,
) -> dict[str, Any]:
    """Return the published metrics, the confusion, and scores where both crops share an event."""
    found: dict[str, Any] = {
        "published_metrics": published_metrics(logits, targets),
        "confusion": count_confusion(logits, targets),
    }
    shared = [has_common_event(source, sample) for sample in samples]
    if None not in shared:
        mask = torch.tensor(shared)
        found["common_event_share"] = float(mask.float().mean())
        found["with_common_event"] = score_logits(logits[mask], targets[mask], grid).as_dict()
    return found


def has_common_event(source: Samples, sample: Sample) -> bool | None:
    """Say whether some event's onset lies in both crops; None where events are not known.

    Without one the two crops share nothing that could tell the offset.
    """
    events_s = source.clips[sample.clip].events_s
    if events_s is None:
        return None
    first_s = max(sample.vision_start_s, sample.audio_start_s)
    last_s = min(sample.vision_start_s, sample.audio_start_s) + source.layout.covered_s
    return any(first_s <= t < last_s for t in events_s)


def further_rows(report: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Return the rows of the table that only offset models have."""
    rows: dict[str, Mapping[str, float]] = {}
    if "with_common_event" in report:
        share = report["common_event_share"]
        rows[f"crops that share an event ({share:.1%})"] = report["with_common_event"]
    if report.get("sliding", {}).get("num"):
        rows["sliding check of the features"] = report["sliding"]
    if "rule" in report:
        rows["rule without learning"] = report["rule"]
    return rows
