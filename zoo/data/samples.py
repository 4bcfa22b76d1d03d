"""Samples of a split: a task says where crops start; they are read from the store or files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from zoo.data.augment import Augment, Softening
from zoo.data.clip_source import (
    ClipSource,
    Cut,
    finish_cut,
    mix,
    move_sample,
    read_cut,
)
from zoo.data.sampling import slot_rng, spread_share
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
    share: float = 1.0
    """Of the clips that can be used; others are not even mixed in, or take a broken one's place."""

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
        if self.share < 1:
            labels = [" ".join(self.clips.clips[i].all_labels) for i in self.usable]
            places = spread_share(labels, self.share, self.seed)
            self.usable = [self.usable[place] for place in places]
        self.num_refused = sum(not self.task.accepts(clip) for clip in self.clips.clips)
        self.num_short = sum(0 < t < self.needed_s for t in self.durations_s)
        if not self.usable and self.num_refused == len(self.clips.clips):
            raise TrainingError(self._nothing_accepted())
        if not self.usable:
            raise TrainingError(
                too_short(self.split, self.layout, need.words, need.seconds, self.durations_s)
            )

    def _nothing_accepted(self) -> str:
        """Say what all clips lack, or which labels nobody knows."""
        task, told = self.task, [label for c in self.clips.clips for label in c.all_labels]
        told_not = f"not one {self.split} clip can be used for the task '{task.spec.name}': "
        if "labels" in task.spec.columns and told and task.output_names:
            known = ", ".join(f"'{name}'" for name in task.output_names[:3])
            return (
                f"{told_not}their labels, such as '{told[0]}', are none of the model's "
                f"{len(task.output_names)} classes ({known}, ...)"
            )
        events = [event.label for clip in self.clips.clips for event in clip.events or ()]
        if "events" in task.spec.columns and events:
            return f"{told_not}their events, such as '{events[0]}', are not all known to the model"
        return f"{told_not}it needs {' and '.join(task.spec.columns) or 'something'} that they lack"

    def item(
        self,
        clip: int,
        key: tuple[int, int, int],
        augment: Augment,
        softening: Softening | None = None,
    ) -> Item:
        """Sample a clip and read what was chosen.

        Args:
            clip: index of the clip; online, a clip that breaks gives way to another.
            key: (stage, step, slot), which decides all that is random.
            augment: what varies; a store has copies to choose from, or none.
            softening: how labels, and clips, are mixed; only in training.

        Returns:
            Audio and video, and the sample: tokens ``(S, T*P, D)`` from the store, or from files
            spectrograms ``(S, F, Ta)`` and frames ``(T, H, W, C)`` (see `cut_crops`).
        """
        rng = slot_rng(self.seed, *key)
        if self.store is None:
            return self._read_files(clip, rng, augment, softening)
        sample = self.sample(clip, rng, augment)
        copy = int(rng.integers(1 + self.store.config.copies)) if augment.random_crop else 0
        sample = self._softened(sample, softening, sample, 1.0)
        return *self.store.tokens(sample, self.layout, copy), sample

    def _read_files(
        self, clip: int, rng: np.random.Generator, augment: Augment, softening: Softening | None
    ) -> Item:
        def read(i: int) -> tuple[Cut, Sample]:
            sample, source = self.sample(i, rng, augment), self.clips
            clip = source.clips[i]
            return read_cut(source.reader, clip, sample, self.layout, augment, rng), sample

        cut, sample = self.clips.first_readable(clip, rng, read, self.usable)
        other, share = sample, 1.0
        if softening is not None and softening.mixup and rng.random() < softening.mixup:
            partner = self.usable[int(rng.integers(len(self.usable)))]
            share = float(rng.beta(softening.mixup_alpha, softening.mixup_alpha))
            share_of_frames = share if softening.mixup_frames == "same" else float(rng.random())
            second, other = self.clips.first_readable(partner, rng, read, self.usable)
            cut = mix(cut, second, share, share_of_frames)
        sample = self._softened(sample, softening, other, share)
        return *finish_cut(cut, self.clips.reader, self.layout, augment, rng), sample

    def _softened(
        self, sample: Sample, softening: Softening | None, other: Sample, share: float
    ) -> Sample:
        if softening is None:
            return sample
        target = self.task.soften(sample.target, other.target, share, softening.label_smoothing)
        return replace(sample, target=target)

    def sample(
        self, clip: int, rng: np.random.Generator, augment: Augment, frame_choice: int | None = None
    ) -> Sample:
        """Choose where the crops of a clip start, without reading it.

        Args:
            clip: index of the clip.
            rng: source of all randomness.
            augment: what varies.
            frame_choice: which of `Augment.frame_choices` to take; by default a random one.
        """
        place = replace(self.place, jitter_s=augment.jitter_s)
        duration_s = self.durations_s[clip]
        sample = self.task.sample(rng, clip, self.clips.clips[clip], duration_s, place)
        return move_sample(
            sample, self.clips.reader, self.layout, duration_s, augment, rng, frame_choice
        )


def too_short(
    split: str, layout: SegmentLayout, words: str, needed_s: float, durations_s: list[float]
) -> str:
    """Say that not one clip of a split is long enough."""
    longest_s = max(durations_s, default=0.0)
    return (
        f"not one {split} clip is long enough: a crop of {layout.covered_s:g} s and {words} need "
        f"{needed_s:g} s, the longest clip has {longest_s:.2f} s"
    )
