"""Computing a feature store: clips are decoded ahead, encoded here, and written shard by shard."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from zoo.contracts import ModalityIO
from zoo.data.clip_reader import ClipReader
from zoo.data.frontend import crop_square, cut_audio, cut_frames, segments_at_once
from zoo.data.manifest import Clip
from zoo.data.store import INDEX, StoreConfig, shard_folder, shards_of
from zoo.errors import MediaError
from zoo.files import remove_quietly
from zoo.models.model import Model
from zoo.models.modules import ModalityEncoder
from zoo.timeline import count_steps

log = logging.getLogger(__name__)
Decoded = tuple[Tensor, Tensor] | str
Load = Callable[[Dataset[Decoded], Sequence[int]], Iterator[Decoded]]


def map_items(dataset: Dataset[Decoded], items: Sequence[int]) -> Iterator[Decoded]:
    """Read items one after the other, here."""
    return (dataset[item] for item in items)


@torch.no_grad()
def build_store(
    folder: Path,
    model: Model,
    reader: ClipReader,
    clips: list[Clip],
    config: StoreConfig,
    device: torch.device,
    *,
    rank: int = 0,
    world_size: int = 1,
    load: Load = map_items,
) -> Iterator[int]:
    """Compute this worker's shards and yield the number of clips done after each clip.

    Finished shards are kept, so an interrupted build goes on where it was.  A clip that cannot be
    read is left out and its reason is kept in the shard's index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    mine = list(enumerate(shards_of(len(clips))))[rank::world_size]
    missing = [(n, shard) for n, shard in mine if not (shard_folder(folder, n) / INDEX).exists()]
    wanted = [index for _, shard in missing for index in shard]
    done = sum(len(shard) for _, shard in mine) - len(wanted)
    if done:
        yield done
    decoded = load(WholeClips(clips, reader), wanted)
    for number, shard in missing:
        with _unfinished(folder, number) as temporary:
            writer = _ShardWriter(temporary, config.dtype)
            for index in shard:
                given = next(decoded)
                try:
                    writer.add(*encode_clip(model, reader, clips[index], given, config, device))
                except MediaError as error:
                    log.warning("left out of the feature store: %s", error)
                    writer.skip(str(error))
                done += 1
                yield done
            writer.close()
            target = shard_folder(folder, number)
            remove_quietly(target)
            temporary.rename(target)


@contextmanager
def _unfinished(folder: Path, number: int) -> Iterator[Path]:
    """Give a folder for a shard that is not whole yet; those of killed workers go."""
    for left in folder.glob(f".shard-{number:05d}.*"):
        remove_quietly(left)
    temporary = folder / f".shard-{number:05d}.{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        remove_quietly(temporary)


@dataclass(frozen=True)
class WholeClips(Dataset[Decoded]):
    """Item ``i`` is clip ``i`` as it is decoded, or why it cannot be."""

    clips: list[Clip]
    reader: ClipReader

    def __getitem__(self, index: int) -> Decoded:
        """Return frames ``(F, H, W, 3)`` and samples ``(N,)``, or a sentence."""
        clip = self.clips[index]
        try:
            frames, samples = self.reader.read_whole(clip.path, clip.duration_s)
        except MediaError as error:
            return str(error)
        return torch.from_numpy(np.array(frames)), torch.from_numpy(np.array(samples))


def encode_clip(
    model: Model,
    reader: ClipReader,
    clip: Clip,
    decoded: Decoded,
    config: StoreConfig,
    device: torch.device,
) -> tuple[Float[Tensor, "A TxPa Da"], Float[Tensor, "V TxPv Dv"]]:
    """Encode a clip's audio and video segments on the store's lattices.

    The video segments of augmented copies follow those of the clip as it is.

    Raises:
        MediaError: if it could not be decoded, or is shorter than a segment.
    """
    if isinstance(decoded, str):
        raise MediaError(decoded)
    frames, samples = (tensor.numpy() for tensor in decoded)
    length_s = min(len(frames) / reader.vision.fps, len(samples) / reader.audio.sample_rate_hz)
    starts_a = _lattice(length_s, config.segment_s, config.audio_hop_s)
    starts_v = _lattice(length_s, config.segment_s, config.vision_hop_s)
    if not starts_a or not starts_v:
        raise MediaError(f"{clip.path} is shorter than one segment of {config.segment_s:g} s")

    encoder, io = model.separable, model.io
    starts_a, starts_v = (
        [round(start_s + part.lead_s(config.segment_s), 6) for start_s in starts_s]
        for part, starts_s in ((io.audio, starts_a), (io.vision, starts_v))
    )

    def cut_a(starts_s: list[float]) -> Tensor:
        return cut_audio(samples, starts_s, io.audio.segment_s, reader.audio)

    vision = []
    for copy in range(1 + config.copies):
        cropped = _crop(frames, clip, copy, config, reader)

        def cut_v(starts_s: list[float], cropped: np.ndarray = cropped) -> Tensor:
            return cut_frames(cropped, starts_s, io.vision.segment_s, reader.vision)

        vision.append(_encode(encoder.vision, io.vision, starts_v, cut_v, device))
    return _encode(encoder.audio, io.audio, starts_a, cut_a, device), torch.cat(vision)


def _crop(
    frames: np.ndarray, clip: Clip, copy: int, config: StoreConfig, reader: ClipReader
) -> np.ndarray:
    """Cut the middle out of a clip's frames, or a random part for an augmented copy."""
    if not copy:
        return crop_square(frames, reader.vision.size, None)
    rng = np.random.default_rng([copy, zlib.crc32(str(clip.path).encode())])
    cut = crop_square(frames, reader.vision.size, rng)
    return cut[:, :, ::-1] if rng.random() < config.flip else cut


def _encode(
    part: ModalityEncoder,
    io: ModalityIO,
    starts_s: list[float],
    cut: Callable[[list[float]], Tensor],
    device: torch.device,
) -> Tensor:
    """Encode a clip's segments in bounded memory."""
    block = segments_at_once(io.frontend, io.segment_s)
    blocks = [starts_s[i : i + block] for i in range(0, len(starts_s), block)]
    return torch.cat([part.encode(cut(some).to(device)).cpu() for some in blocks])


def _lattice(length_s: float, segment_s: float, hop_s: float) -> list[float]:
    return [round(i * hop_s, 6) for i in range(count_steps(length_s, segment_s, hop_s))]


class _ShardWriter:
    """Collects the rows of a shard's clips and writes them as two arrays and an index."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        self.rows: dict[str, list[np.ndarray]] = {"audio": [], "vision": []}
        self.index: list[dict[str, int | str]] = []

    def add(self, audio: Tensor, vision: Tensor) -> None:
        entry: dict[str, int | str] = {}
        for modality, tokens in (("audio", audio), ("vision", vision)):
            entry[f"{modality}_first"] = sum(len(rows) for rows in self.rows[modality])
            entry[f"{modality}_rows"] = len(tokens)
            self.rows[modality].append(tokens.numpy().astype(self.dtype))
        self.index.append(entry)

    def skip(self, reason: str) -> None:
        self.index.append({"skipped": reason})

    def close(self) -> None:
        for modality, rows in self.rows.items():
            if rows:
                np.save(self.folder / f"{modality}.npy", np.concatenate(rows))
        (self.folder / INDEX).write_text(json.dumps(self.index))
