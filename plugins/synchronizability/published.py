"""Crops as the published code chooses them (see `zoo.data.published`)."""

from __future__ import annotations

import random

import numpy as np

from zoo.data.published import Crop, RawClip, class_grid, jitter, random_start, step_in_segments
from zoo.timeline import OffsetGrid, SegmentLayout


def synchronizability_crop_s(layout: SegmentLayout) -> float:
    """Return the length of the crop: exactly the segments (4.48 s for 13)."""
    n, q = layout.num_segments, step_in_segments(layout)
    return round((n - (1 - q) * (n - 1)) * layout.segment_s, 2)


def synchronizability_crop(
    clip: RawClip, grid: OffsetGrid, length_s: float, rng: random.Random, jitter_s: float = 0.0
) -> tuple[Crop, bool]:
    """Choose an offset of the grid half the time, else one as long as the crop.

    Returns:
        The crop, and whether it can be synchronized.

    Raises:
        MediaError: if the clip cannot hold two crops without common content.
    """
    is_synchronizable = rng.random() < 0.5
    offsets = class_grid(grid) if is_synchronizable else np.array([-length_s, length_s], np.float32)
    offset_s = round(float(rng.choice(offsets)), 2)
    crop = random_start(clip, grid, length_s, offset_s, rng)
    return jitter(crop, clip, rng, jitter_s), is_synchronizable
