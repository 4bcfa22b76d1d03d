"""Stage I's batches: contiguous stretches of both streams, the audio cut into segments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data.augment import Augment
from zoo.data.clip_reader import whole_frames_s
from zoo.data.clip_source import ClipSource, move_sample, read_sample
from zoo.data.sampling import ClipOrder, share_of_rank, slot_rng
from zoo.errors import MediaError
from zoo.media.apart import read_apart_from_now_on
from zoo.timeline import Placement, SegmentLayout, place_crops

T = TypeVar("T")


class Stage1Batches(Dataset[tuple[Tensor, Tensor]]):
    """Item ``step`` is this worker's share of that step's global batch."""

    def __init__(
        self,
        source: ClipSource,
        layout: SegmentLayout,
        clips: int,
        augment: Augment,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.source, self.layout, self.clips, self.augment = source, layout, clips, augment
        self.seed, self.order = seed, ClipOrder(len(source.clips), seed)
        self.rank, self.world_size = rank, world_size

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return audio ``(B, S, F, Ta)`` and frames ``(B, T, H, W, C)`` for `cut_crops`."""
        source = self.source
        chosen = self.order.of_step(step, self.clips)
        pairs = []
        for slot, clip in share_of_rank(chosen, self.rank, self.world_size):
            rng = slot_rng(self.seed, 1, step, slot)
            pairs.append(source.first_readable(clip, rng, partial(self.read, rng=rng)))
        audio, vision = zip(*pairs, strict=True)
        return torch.stack(audio), torch.stack(vision)

    def read(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Read a random stretch of one clip, in sync."""
        clip, reader = self.source.clips[index], self.source.reader
        hop_s = 1 / reader.vision.fps
        duration_s = whole_frames_s(clip.duration_s, reader.vision.fps)
        if duration_s < self.layout.shortest_s:
            raise MediaError(
                f"{clip.path} lasts {duration_s:.2f} s, stage 1 needs {self.layout.shortest_s:g} s"
            )
        place = Placement(self.layout, hop_s, hop_s, self.augment.jitter_s)
        sample = place_crops(rng, index, duration_s, place, offset_s=0.0, target=0)
        sample = move_sample(sample, reader, self.layout, duration_s, self.augment, rng)
        return read_sample(reader, clip, sample, self.layout, self.augment, rng)


def _prepare(worker: int) -> None:
    read_apart_from_now_on()


def in_order(dataset: Dataset[T], items: Sequence[int], loader_workers: int) -> DataLoader[T]:
    """Load items in order, ahead of time if there are workers."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=items,
        num_workers=loader_workers,
        multiprocessing_context="forkserver" if loader_workers else None,
        worker_init_fn=_prepare,
        pin_memory=torch.cuda.is_available(),
    )
