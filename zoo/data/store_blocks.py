"""The blocks in which clips are read and encoded for a feature store.

Memory depends on the size of a block, never on the length of a clip.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from zoo.contracts import Modality
from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.frontend import crop_square, cut_audio, cut_frames, segments_at_once
from zoo.data.manifest import Clip
from zoo.data.store import StoreConfig
from zoo.errors import MediaError
from zoo.models.model import Model
from zoo.models.modules import MOST_SEGMENTS
from zoo.timeline import count_steps

MOST_AT_ONCE = 4 * MOST_SEGMENTS  # in a block: whole batches of the encoder
Decoded = tuple[Tensor] | str  # what a block reads, or why it cannot be read


class Block(NamedTuple):
    """Segments of one modality of a clip that are read and encoded at a time.

    Attributes:
        clip: its index.
        modality: what is read.
        first: number of the first segment on the lattice of the modality.
        num: how many segments.
        start_s: of what is read, seconds.
        length_s: of what is read, seconds.
    """

    clip: int
    modality: Modality
    first: int
    num: int
    start_s: float
    length_s: float


class BlockPlan:
    """Which blocks a store reads of a clip, and what becomes of them.

    Args:
        model: whose separable encoder is stored.
        reader: of the clips.
        config: the lattices.
    """

    def __init__(self, model: Model, reader: ClipReader, config: StoreConfig) -> None:
        self.model, self.reader, self.config = model, reader, config

    def counts(self, clip: Clip) -> dict[Modality, int]:
        """Return how many segments of each modality a clip has.

        Raises:
            MediaError: if it is shorter than a segment.
        """
        fps, rate_hz = self.reader.vision.fps, self.reader.audio.sample_rate_hz
        whole_s = whole_frames_s(clip.duration_s, fps)
        length_s = min(round(whole_s * fps) / fps, round(whole_s * rate_hz) / rate_hz)
        segment_s = self.config.segment_s
        counts: dict[Modality, int] = {
            "audio": count_steps(length_s, segment_s, self.config.audio_hop_s),
            "vision": count_steps(length_s, segment_s, self.config.vision_hop_s),
        }
        if not all(counts.values()):
            raise MediaError(f"{clip.path} is shorter than one segment of {segment_s:g} s")
        return counts

    def rows(self, clip: Clip) -> dict[Modality, int]:
        """Return how many rows a clip has; those of augmented copies follow those as it is."""
        counts = self.counts(clip)
        return {"audio": counts["audio"], "vision": (1 + self.config.copies) * counts["vision"]}

    def blocks(self, index: int, clip: Clip) -> list[Block]:
        """Return the blocks of a clip; none if it is shorter than a segment."""
        try:
            counts = self.counts(clip)
        except MediaError:
            return []
        return [block for modality in counts for block in self._of(index, modality, counts)]

    def _of(self, index: int, modality: Modality, counts: dict[Modality, int]) -> Iterator[Block]:
        io = self.model.io.modality(modality)
        at_once = min(MOST_AT_ONCE, segments_at_once(io.frontend, io.segment_s))
        for first in range(0, counts[modality], at_once):
            num = min(at_once, counts[modality] - first)
            starts_s = self._starts(modality, first, num)
            length_s = round(starts_s[-1] - starts_s[0] + io.segment_s, 6)
            yield Block(index, modality, first, num, starts_s[0], length_s)

    def _starts(self, modality: Modality, first: int, num: int) -> list[float]:
        """Return where the modality reads so many segments, seconds."""
        hop_s = self.config.vision_hop_s if modality == "vision" else self.config.audio_hop_s
        lead_s = self.model.io.modality(modality).lead_s(self.config.segment_s)
        return [round(round(i * hop_s, 6) + lead_s, 6) for i in range(first, first + num)]

    def encode(
        self, block: Block, clip: Clip, decoded: np.ndarray, device: torch.device
    ) -> Iterator[tuple[int, Float[Tensor, "N TxP D"]]]:
        """Yield rows of a block, each with the row of the clip at which they begin.

        Args:
            block: what was read.
            clip: it belongs to.
            decoded: frames ``(F, H, W, 3)`` or samples ``(N,)`` of the block.
            device: where to compute.
        """
        io, part = self.model.io.modality(block.modality), self.model.separable
        starts_s = self._starts(block.modality, block.first, block.num)
        places = [round(start_s - block.start_s, 6) for start_s in starts_s], io.segment_s
        if block.modality == "audio":
            segments = cut_audio(decoded, *places, self.reader.audio)
            yield block.first, part.audio.encode(segments.to(device)).cpu()
            return
        num = self.counts(clip)["vision"]
        for copy in range(1 + self.config.copies):
            frames = self._crop(decoded, clip, copy)
            segments = cut_frames(frames, *places, self.reader.vision)
            yield copy * num + block.first, part.vision.encode(segments.to(device)).cpu()

    def _crop(self, frames: np.ndarray, clip: Clip, copy: int) -> np.ndarray:
        """Cut the middle out of a clip's frames, or a random part for an augmented copy."""
        size = self.reader.vision.size
        if not copy:
            return crop_square(frames, size, None)
        rng = np.random.default_rng([copy, zlib.crc32(str(clip.path).encode())])
        cut = crop_square(frames, size, rng)
        return cut[:, :, ::-1] if rng.random() < self.config.flip else cut


class DecodedBlocks(Dataset[Decoded]):
    """Item ``i`` is what block ``i`` reads: frames ``(F, H, W, 3)``, samples ``(N,)`` or a reason.

    A clip stays open from one of its blocks to the next.
    """

    def __init__(self, clips: Sequence[Clip], reader: ClipReader, blocks: Sequence[Block]) -> None:
        self.clips, self.reader, self.blocks = clips, reader, blocks
        self._open: tuple[int, ClipReader] | None = None

    def __getitem__(self, index: int) -> Decoded:
        """Return what is decoded, or a sentence."""
        block = self.blocks[index]
        if self._open is None or self._open[0] != block.clip:
            self._open = block.clip, self.reader.going_on()
        reader = self._open[1]
        read = reader.read_audio if block.modality == "audio" else reader.read_vision
        try:
            decoded = read(self.clips[block.clip].path, block.start_s, block.length_s)
        except MediaError as error:
            return str(error)
        return (torch.from_numpy(np.array(decoded)),)
