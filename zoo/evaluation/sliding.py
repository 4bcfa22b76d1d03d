"""The training-free check of stage I: slide the audio over the video and add up similarities."""

from __future__ import annotations

import numpy as np
import torch

from zoo.data.store import FeatureStore
from zoo.evaluation.metrics import scores_from, sums_of
from zoo.model import SyncModel


@torch.no_grad()
def sliding_check(
    model: SyncModel, store: FeatureStore, *, other_audio: bool = False
) -> dict[str, float]:
    """Place the video crop in the middle and score every offset of the grid against it.

    The score of an offset is the sum of the cosine similarities of the segment pairs it brings
    together.  Clips are in sync, so the truth is offset 0.  It sees audio up to 2 s beyond the
    crop, which stage II does not, and is therefore no yardstick for heads but one for features.

    Args:
        model: gives the layout and the grid.
        store: features of the clips to check.
        other_audio: control: take the audio of another clip, so that only chance is left.
    """
    layout, grid = model.config.layout, model.config.grid
    hop_s = store.config.vision_hop_s
    logits, targets = [], []
    usable = [i for i in range(len(store.clips)) if i not in store.skipped]
    partner = dict(zip(usable, np.roll(usable, 1), strict=True))
    for clip in usable:
        source = int(partner[clip]) if other_audio else clip
        spare_s = min(store.duration_s(clip), store.duration_s(source)) - layout.covered_s
        start_s = round(round(spare_s / 2 / hop_s) * hop_s, 6)
        if start_s < grid.reach_s or spare_s - start_s < grid.reach_s:
            continue
        times = np.round(np.asarray(layout.starts_s) + start_s, 6)
        vision = model.vision.embed(store.segments(clip, "vision", list(times)))  # (S, D)
        scores = [
            float((vision * model.audio.embed(store.segments(source, "audio", list(times + o)))).sum())
            for o in grid.offsets_s
        ]
        logits.append(torch.tensor(scores))
        targets.append(grid.class_of(0.0))
    if not logits:
        return {"num": 0}
    return scores_from(sums_of(torch.stack(logits), torch.tensor(targets), grid)).as_dict()
