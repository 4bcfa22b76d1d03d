"""Samples of a split: a task says where crops start; they are read from the store or files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from zoo.data.clip_source import Augment, ClipSource, read_sample
from zoo.data.sampling import slot_rng
from zoo.data.store import FeatureStore
from zoo.errors import TrainingError
from zoo.models.task import Task
from zoo.timeline import Placement, Sample, SegmentLayout

Item = tuple[Tensor, Tensor, Sample]


@dataclass
class SampleSource:
    """Samples of one split, read from the feature store or from files.

    The audio lattice and the video lattice are the same for both, so that both read the same sample
    alike.  The store flips and crops as far as it holds augmented copies.
    """

    clips: ClipSource
    layout: SegmentLayout
    task: Task
    seed: int
    split: Literal["train", "valid", "test"]
    store: FeatureStore | None = None
    hop_s: float | None = None
    """Lattice of video starts, seconds; by default the step of the segments."""

    def __post_init__(self) -> None:
        if self.store is not None:
            self.durations_s = [self.store.duration_s(i) for i in range(len(self.clips.clips))]
        else:
            self.durations_s = self.clips.durations_s()
        vision_hop_s = self.hop_s or self.layout.step_s
        audio_hop_s = round(1 / self.clips.reader.vision.fps, 9)
        self.place = Placement(self.layout, vision_hop_s, audio_hop_s)
        need = self.task.need(self.layout, vision_hop_s)
        self.needed_s = need.seconds
        self.usable = [
            i
            for i, (t, clip) in enumerate(zip(self.durations_s, self.clips.clips, strict=True))
            if t >= self.needed_s and self.task.accepts(clip)
        ]
        self.num_refused = sum(not self.task.accepts(clip) for clip in self.clips.clips)
        self.num_short = sum(0 < t < self.needed_s for t in self.durations_s)
        if not self.usable and self.num_refused == len(self.clips.clips):
            raise TrainingError(
                f"not one {self.split} clip can be used for the task '{self.task.spec.name}': it "
                f"needs {' and '.join(self.task.spec.columns) or 'something'} that they lack"
            )
        if not self.usable:
            raise TrainingError(
                too_short(self.split, self.layout, need.words, need.seconds, self.durations_s)
            )

    def item(self, clip: int, key: tuple[int, int, int], augment: Augment) -> Item:
        """Sample a clip and read what was chosen.

        Args:
            clip: index of the clip; online, a clip that breaks gives way to another.
            key: (stage, step, slot), which decides all that is random.
            augment: what varies; a store has copies to choose from, or none.

        Returns:
            Audio and video, and the sample: tokens ``(S, T*P, D)`` from the store, or from files
            spectrograms ``(S, F, Ta)`` and frames ``(T, H, W, C)`` (see `cut_crops`).
        """
        rng = slot_rng(self.seed, *key)
        if self.store is None:
            return self.clips.first_readable(
                clip, rng, lambda i: self._read_files(i, rng, augment), self.usable
            )
        sample = self.sample(clip, rng, augment)
        copy = int(rng.integers(1 + self.store.config.copies)) if augment.random_crop else 0
        return *self.store.tokens(sample, self.layout, copy), sample

    def _read_files(self, clip: int, rng: np.random.Generator, augment: Augment) -> Item:
        sample = self.sample(clip, rng, augment)
        source = self.clips
        pair = read_sample(source.reader, source.clips[clip], sample, self.layout, augment, rng)
        return *pair, sample

    def sample(self, clip: int, rng: np.random.Generator, augment: Augment) -> Sample:
        """Choose where the crops of a clip start, without reading it."""
        place = replace(self.place, jitter_s=augment.jitter_s)
        return self.task.sample(rng, clip, self.clips.clips[clip], self.durations_s[clip], place)


def too_short(
    split: str, layout: SegmentLayout, words: str, needed_s: float, durations_s: list[float]
) -> str:
    """Say that not one clip of a split is long enough."""
    longest_s = max(durations_s, default=0.0)
    return (
        f"not one {split} clip is long enough: a crop of {layout.covered_s:g} s and {words} need "
        f"{needed_s:g} s, the longest clip has {longest_s:.2f} s"
    )
