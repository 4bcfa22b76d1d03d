"""The training-free check of stage I: slide the audio over the video and add up similarities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from zoo.data.store import FeatureStore
from zoo.evaluation.offset_metrics import chance, scores_from, sums_of
from zoo.models.model import Model
from zoo.timeline import LATTICE_TOLERANCE, OffsetGrid


@torch.no_grad()
def sliding_check(
    model: Model, store: FeatureStore, grid: OffsetGrid, *, other_audio: bool = False
) -> dict[str, float]:
    """Place the video crop in the middle and score every offset of the grid against it.

    The score of an offset is the mean cosine similarity of the segment pairs it brings together; a
    clip too short for half of them at some offset is passed over.  Clips are in sync, so the truth
    is offset 0.  It sees audio up to 2 s beyond the crop, which stage II does not, and is therefore
    no yardstick for heads but one for features.  Without an objective that compares segments,
    ``num`` is 0.

    Args:
        model: gives the layout, and the objective that compares segments.
        store: features of the clips to check.
        grid: offsets to tell apart.
        other_audio: control: take the audio of another clip, so that only chance is left.
    """
    objective = model.objective
    if objective is None or not objective.can_compare:
        return {"num": 0}
    layout = model.config.layout
    hop_s, device = store.config.vision_hop_s, next(model.parameters()).device
    logits, targets = [], []
    usable = [i for i in range(len(store.clips)) if i not in store.skipped]
    partner = dict(zip(usable, np.roll(usable, 1), strict=True))
    for clip in usable:
        source = int(partner[clip]) if other_audio else clip
        length_s = min(store.duration_s(clip), store.duration_s(source))
        start_s = round(round((length_s - layout.covered_s) / 2 / hop_s) * hop_s, 6)
        times = np.round(np.asarray(layout.starts_s) + start_s, 6)
        tokens = store.segments(clip, "vision", list(times)).to(device)
        vision = objective.embed("vision", tokens)  # (S, D)
        scores = []
        for offset_s in grid.offsets_s:
            at = np.round(times + offset_s, 6)
            inside = (at >= 0) & (at + layout.segment_s <= length_s + LATTICE_TOLERANCE)
            if inside.sum() < layout.num_segments / 2:
                break
            audio = store.segments(source, "audio", list(at[inside])).to(device)  # (S', T, D)
            similarity = vision[torch.from_numpy(inside)] * objective.embed(
                "audio", audio
            )  # (S', D)
            scores.append(float(similarity.sum(1).mean()))
        if len(scores) < grid.num_classes:
            continue
        logits.append(torch.tensor(scores))
        targets.append(grid.class_of(0.0))
    if not logits:
        return {"num": 0}
    return scores_from(sums_of(torch.stack(logits), torch.tensor(targets), grid)).as_dict()


def describe_sliding(scores: Mapping[str, float | int], grid: OffsetGrid) -> str:
    """Say in one line what the check found, beside chance."""
    guess = chance(grid)
    return (
        f"sliding check of the features, no head: accuracy {scores['accuracy']:.1%}, within 1 "
        f"class {scores['within_one']:.1%}, mean error {scores['mean_abs_error_s']:.2f} s "
        f"(chance {guess.accuracy:.1%}, {guess.within_one:.1%})"
    )
