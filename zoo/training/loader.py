"""Batches decoded from files: contiguous segments for stage I, shifted crops for online stage II."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data.clips import ClipReader, whole_frames_s
from zoo.data.frontend import crop_square, cut_audio, cut_frames
from zoo.data.manifest import Clip
from zoo.data.sampling import clips_of_step, share_of_rank, slot_rng
from zoo.errors import MediaError, TrainingError
from zoo.timeline import Draw, OffsetGrid, SegmentLayout, draw_crop
from zoo.training.runlog import quarantine

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Augment:
    """What varies between two readings of a clip; all zero when validating."""

    jitter_s: float = 0.0
    flip: float = 0.0
    gain_db: float = 0.0
    random_crop: bool = False


def read_segments(
    reader: ClipReader,
    clip: Clip,
    draw: Draw,
    layout: SegmentLayout,
    augment: Augment,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Read a crop of both streams and cut it into segments ``(S, ...)``."""
    frames = reader.read_vision(clip.path, draw.vision_start_s, layout.covered_s)
    samples = reader.read_audio(clip.path, draw.audio_start_s, layout.covered_s)
    frames = crop_square(frames, reader.vision.size, rng if augment.random_crop else None)
    if rng.random() < augment.flip:
        frames = frames[:, :, ::-1]
    if augment.gain_db:
        samples = samples * np.float32(10 ** (rng.uniform(-1, 1) * augment.gain_db / 20))
    starts = layout.starts_s
    audio = cut_audio(samples, starts, layout.segment_s, reader.audio)
    vision = cut_frames(frames, starts, layout.segment_s, reader.vision)
    return audio, vision


@dataclass
class ClipSource:
    """The clips of a split as one worker reads them; broken ones are quarantined, not fatal."""

    clips: list[Clip]
    reader: ClipReader
    run: Path
    seed: int

    def __post_init__(self) -> None:
        self.broken: set[int] = set()

    def durations_s(self) -> list[float]:
        """Return what can be drawn from, per clip, seconds."""
        return [whole_frames_s(clip.duration_s, self.reader.vision.fps) for clip in self.clips]

    def first_readable(
        self,
        clip: int,
        rng: np.random.Generator,
        read: Callable[[int], T],
        among: Sequence[int] | None = None,
    ) -> T:
        """Read a clip, or another one in its place if it cannot be read.

        Args:
            clip: index of the clip.
            rng: picks the other one.
            read: reads the clip of an index.
            among: clips that may take its place, by default all.

        Raises:
            TrainingError: if not one clip can be read.
        """
        reason = "the manifest has none"
        candidates = [i for i in (among or range(len(self.clips))) if i not in self.broken]
        while candidates:
            if clip in candidates:
                try:
                    return read(clip)
                except MediaError as error:
                    reason = str(error)
                    log.warning("clip left out: %s", reason)
                    self.broken.add(clip)
                    quarantine(self.run, self.clips[clip].path, reason)
                    candidates.remove(clip)
                    if not candidates:
                        break
            clip = candidates[int(rng.integers(len(candidates)))]
        raise TrainingError(f"not one clip could be read; the last because: {reason}")


class Stage1Batches(Dataset[tuple[Tensor, Tensor]]):
    """Item ``step`` is this worker's share of that step's global batch."""

    def __init__(
        self,
        source: ClipSource,
        layout: SegmentLayout,
        clips: int,
        augment: Augment,
        rank: int,
        world_size: int,
    ) -> None:
        self.source, self.layout, self.clips, self.augment = source, layout, clips, augment
        self.rank, self.world_size = rank, world_size
        self.in_sync = OffsetGrid(min_s=0.0, max_s=1.0, num_classes=2)  # only class 0 is drawn

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return audio ``(B, S, F, Ta)`` and video ``(B, S, C, Tv, H, W)``."""
        source = self.source
        chosen = clips_of_step(step, self.clips, len(source.clips), source.seed)
        pairs = []
        for slot, clip in share_of_rank(chosen, self.rank, self.world_size):
            rng = slot_rng(source.seed, 1, step, slot)
            pairs.append(source.first_readable(clip, rng, lambda i, rng=rng: self._read(i, rng)))
        audio, vision = zip(*pairs, strict=True)
        return torch.stack(audio), torch.stack(vision)

    def _read(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        clip, reader = self.source.clips[index], self.source.reader
        hop_s = 1 / reader.vision.fps
        draw = draw_crop(
            rng,
            index,
            whole_frames_s(clip.duration_s, reader.vision.fps),
            self.layout,
            self.in_sync,
            vision_hop_s=hop_s,
            audio_hop_s=hop_s,
            jitter_s=self.augment.jitter_s,
            target=0,
        )
        return read_segments(reader, clip, draw, self.layout, self.augment, rng)


def batches(
    dataset: Dataset[T], first_step: int, last_step: int, loader_workers: int
) -> DataLoader[T]:
    """Load the batches of a range of steps in order, ahead of time if there are workers."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=loader_workers,
        multiprocessing_context="forkserver" if loader_workers else None,
        pin_memory=torch.cuda.is_available(),
    )
