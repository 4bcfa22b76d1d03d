"""Offsets and crops drawn from a split, read from the feature store or from files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from zoo.contracts import Task
from zoo.data.clip_source import Augment, ClipSource, read_sample
from zoo.data.sampling import slot_rng
from zoo.data.store import FeatureStore
from zoo.errors import TrainingError
from zoo.timeline import (
    Draw,
    OffsetGrid,
    SegmentLayout,
    draw_crop,
    draw_synchronizability,
    shortest_clip_s,
    shortest_unsynchronizable_s,
)

Item = tuple[Tensor, Tensor, Draw]


@dataclass
class DrawSource:
    """Offsets and crops drawn from one split, read from the feature store or from files.

    The audio lattice and the video lattice are the same for both, so that both read the same draw
    alike.  The store flips and crops as far as it holds augmented copies.
    """

    clips: ClipSource
    layout: SegmentLayout
    grid: OffsetGrid
    seed: int
    split: Literal["train", "valid", "test"]
    store: FeatureStore | None = None
    task: Task = "offset"
    hop_s: float | None = None
    """Lattice of video starts, seconds; by default the step of the segments."""

    def __post_init__(self) -> None:
        layout, grid = self.layout, self.grid
        if self.store is not None:
            self.durations_s = [self.store.duration_s(i) for i in range(len(self.clips.clips))]
        else:
            self.durations_s = self.clips.durations_s()
        self.vision_hop_s = self.hop_s or layout.step_s
        self.audio_hop_s = round(1 / self.clips.reader.vision.fps, 9)
        self.needed_s = shortest_clip_s(layout, grid, self.vision_hop_s)
        wanted = f"offsets up to {grid.reach_s:g} s"
        if self.task == "synchronizability":
            twice_s = shortest_unsynchronizable_s(layout, self.vision_hop_s)
            self.needed_s = max(self.needed_s, twice_s)
            wanted = "one as long beside it"
        self.usable = [i for i, t in enumerate(self.durations_s) if t >= self.needed_s]
        self.num_short = sum(0 < t < self.needed_s for t in self.durations_s)
        if not self.usable:
            longest_s = max(self.durations_s, default=0.0)
            raise TrainingError(
                f"not one {self.split} clip is long enough: a crop of {layout.covered_s:g} s and "
                f"{wanted} need {self.needed_s:g} s, the longest clip has {longest_s:.2f} s"
            )

    def item(self, clip: int, key: tuple[int, int, int], augment: Augment) -> Item:
        """Draw an offset and a crop of a clip and read them.

        Args:
            clip: index of the clip; online, a clip that breaks gives way to another.
            key: (stage, step, slot), which decides all that is random.
            augment: what varies; a store has copies to choose from, or none.

        Returns:
            Audio and video, and what was drawn: tokens ``(S*T, D)`` from the store, or from files
            spectrograms ``(S, F, Ta)`` and frames ``(T, H, W, C)`` (see `cut_crops`).
        """
        rng = slot_rng(self.seed, *key)
        if self.store is None:
            return self.clips.first_readable(
                clip, rng, lambda i: self._read_files(i, rng, augment), self.usable
            )
        draw = self.draw(clip, rng, augment)
        copy = int(rng.integers(1 + self.store.config.copies)) if augment.random_crop else 0
        audio, vision = self.store.tokens([draw], self.layout, copy)
        return audio[0], vision[0], draw

    def _read_files(self, clip: int, rng: np.random.Generator, augment: Augment) -> Item:
        draw = self.draw(clip, rng, augment)
        source = self.clips
        pair = read_sample(source.reader, source.clips[clip], draw, self.layout, augment, rng)
        return *pair, draw

    def draw(self, clip: int, rng: np.random.Generator, augment: Augment) -> Draw:
        """Draw where the crops of a clip start, without reading it."""
        place = draw_crop if self.task == "offset" else draw_synchronizability
        return place(
            rng,
            clip,
            self.durations_s[clip],
            self.layout,
            self.grid,
            vision_hop_s=self.vision_hop_s,
            audio_hop_s=self.audio_hop_s,
            jitter_s=augment.jitter_s,
        )
