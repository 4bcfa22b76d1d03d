"""The feature store: frozen features computed once, offsets drawn from it for ever.

Features do not change when the extractors are frozen, and shifting the audio alone makes every
offset.  So video segments are encoded every ``vision_hop_s`` and audio segments on the finer
lattice ``audio_hop_s`` (0.04 s); any crop whose starts lie on these lattices is a gather of rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from zoo.contracts import ComponentConfig
from zoo.data.clips import ClipReader, whole_frames_s
from zoo.data.frontend import crop_square, cut_audio, cut_frames, segments_at_once
from zoo.data.manifest import Clip
from zoo.errors import MediaError, TrainingError
from zoo.model import SyncModel, Tower
from zoo.timeline import Draw, SegmentLayout, count_steps, to_units

CLIPS_PER_SHARD = 32
log = logging.getLogger(__name__)


class StoreConfig(ComponentConfig):
    """What the rows of a store mean; part of its identity."""

    segment_s: float = Field(gt=0, description="segment length, seconds")
    vision_hop_s: float = Field(gt=0, description="lattice of video segments, seconds")
    audio_hop_s: float = Field(gt=0, description="lattice of audio segments, seconds")
    dtype: Literal["float16", "float32"] = Field("float16", description="of the stored features")


def store_config(
    model: SyncModel, dtype: Literal["float16", "float32"], vision_hop_s: float | None = None
) -> StoreConfig:
    """Return the lattices that fit a model: its segment step for video, one frame for audio.

    A finer ``vision_hop_s`` serves all layouts whose steps are multiples of it.
    """
    return StoreConfig(
        segment_s=model.config.layout.segment_s,
        vision_hop_s=vision_hop_s or model.config.layout.step_s,
        audio_hop_s=round(1 / model.vision_frontend.fps, 9),
        dtype=dtype,
    )


def store_key(model: SyncModel, config: StoreConfig, clips: list[Clip]) -> str:
    """Hash all that a store depends on: weights, front ends, lattices, clips."""
    digest = hashlib.sha256()
    for tower in (model.audio, model.vision):
        for name, value in tower.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        digest.update(tower.frontend.model_dump_json().encode())
    digest.update(config.model_dump_json().encode())
    for clip in clips:
        stat = clip.path.stat() if clip.path.exists() else None
        version = f"{stat.st_size}|{stat.st_mtime_ns}" if stat else "missing"
        digest.update(f"{clip.path}|{version}\n".encode())
    return digest.hexdigest()[:16]


@torch.no_grad()
def build_store(
    folder: Path,
    model: SyncModel,
    reader: ClipReader,
    clips: list[Clip],
    config: StoreConfig,
    device: torch.device,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[int]:
    """Compute this worker's shards and yield the number of clips done after each clip.

    Finished shards are kept, so an interrupted build goes on where it was.  A clip that cannot be
    read is left out and its reason is kept in the shard's index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    shards = range(0, len(clips), CLIPS_PER_SHARD)
    done = 0
    for number in list(range(len(shards)))[rank::world_size]:
        chosen = clips[number * CLIPS_PER_SHARD : (number + 1) * CLIPS_PER_SHARD]
        target = folder / f"shard-{number:05d}"
        if (target / "index.json").exists():
            done += len(chosen)
            yield done
            continue
        temporary = folder / f".shard-{number:05d}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        writer = _ShardWriter(temporary, config.dtype)
        for clip in chosen:
            try:
                writer.add(*encode_clip(model, reader, clip, config, device))
            except MediaError as error:
                log.warning("left out of the feature store: %s", error)
                writer.skip(str(error))
            done += 1
            yield done
        writer.close()
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)


def encode_clip(
    model: SyncModel, reader: ClipReader, clip: Clip, config: StoreConfig, device: torch.device
) -> tuple[Float[Tensor, "A Ta Da"], Float[Tensor, "V Tv Dv"]]:
    """Encode a clip's audio and video segments on the store's lattices."""
    frames, samples = reader.read_whole(clip.path, clip.duration_s)
    length_s = min(len(frames) / reader.vision.fps, len(samples) / reader.audio.sample_rate_hz)
    frames = crop_square(frames, reader.vision.size, None)
    starts_a = _lattice(length_s, config.segment_s, config.audio_hop_s)
    starts_v = _lattice(length_s, config.segment_s, config.vision_hop_s)
    if not starts_a or not starts_v:
        raise MediaError(f"{clip.path} is shorter than one segment of {config.segment_s:g} s")

    def cut_a(starts_s: list[float]) -> Tensor:
        return cut_audio(samples, starts_s, config.segment_s, reader.audio)

    def cut_v(starts_s: list[float]) -> Tensor:
        return cut_frames(frames, starts_s, config.segment_s, reader.vision)

    audio = _encode(model.audio, starts_a, cut_a, device)
    return audio, _encode(model.vision, starts_v, cut_v, device)


def _encode(
    tower: Tower,
    starts_s: list[float],
    cut: Callable[[list[float]], Tensor],
    device: torch.device,
) -> Tensor:
    """Encode a clip's segments in bounded memory."""
    block = segments_at_once(tower.frontend, tower.segment_s)
    parts = [starts_s[i : i + block] for i in range(0, len(starts_s), block)]
    return torch.cat([tower.encode(cut(part).to(device)).float().cpu() for part in parts])


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
        (self.folder / "index.json").write_text(json.dumps(self.index))


class FeatureStore:
    """A finished store, memory-mapped.

    Raises:
        TrainingError: if a shard is missing or every clip was left out.
    """

    def __init__(self, folder: Path, clips: list[Clip], config: StoreConfig) -> None:
        self.folder, self.clips, self.config = folder, clips, config
        self.entries: list[dict[str, int]] = []
        self.skipped: dict[int, str] = {}
        for number in range(-(-len(clips) // CLIPS_PER_SHARD)):
            index = folder / f"shard-{number:05d}" / "index.json"
            if not index.exists():
                raise TrainingError(f"feature store {folder} lacks shard {number}; build it again")
            for entry in json.loads(index.read_text()):
                if "skipped" in entry:
                    self.skipped[len(self.entries)] = entry["skipped"]
                self.entries.append(entry)
        if len(self.skipped) == len(clips):
            reason = next(iter(self.skipped.values()), "the manifest has none")
            raise TrainingError(f"not one clip could be read; the first because: {reason}")

    @cached_property
    def _arrays(self) -> dict[tuple[int, str], np.ndarray]:
        return {}

    def _rows(self, clip: int, modality: str) -> np.ndarray:
        shard = clip // CLIPS_PER_SHARD
        if (shard, modality) not in self._arrays:
            file = self.folder / f"shard-{shard:05d}" / f"{modality}.npy"
            self._arrays[shard, modality] = np.load(file, mmap_mode="r")
        entry = self.entries[clip]
        first = entry[f"{modality}_first"]
        return self._arrays[shard, modality][first : first + entry[f"{modality}_rows"]]

    def duration_s(self, clip: int) -> float:
        """Return the stretch of a clip that can be drawn from, seconds; 0 if it was left out."""
        if clip in self.skipped:
            return 0.0
        rows = self.entries[clip]["audio_rows"]
        return round((rows - 1) * self.config.audio_hop_s + self.config.segment_s, 6)

    def segments(
        self, clip: int, modality: Literal["audio", "vision"], starts_s: list[float]
    ) -> Float[Tensor, "S T D"]:
        """Return the tokens of a clip's segments that start at given lattice times, seconds."""
        hop_s = getattr(self.config, f"{modality}_hop_s")
        rows = [to_units(t, 1 / hop_s, f"steps of the {modality} lattice") for t in starts_s]
        return torch.from_numpy(self._rows(clip, modality)[rows].astype(np.float32))

    def tokens(
        self, draws: list[Draw], layout: SegmentLayout
    ) -> tuple[Float[Tensor, "B SxTa D"], Float[Tensor, "B SxTv D"]]:
        """Gather the tokens of a batch of draws."""
        audio, vision = [], []
        for draw in draws:
            audio_starts = [draw.audio_start_s + t for t in layout.starts_s]
            vision_starts = [draw.vision_start_s + t for t in layout.starts_s]
            audio.append(self.segments(draw.clip, "audio", audio_starts).flatten(0, 1))
            vision.append(self.segments(draw.clip, "vision", vision_starts).flatten(0, 1))
        return torch.stack(audio), torch.stack(vision)


def usable_duration_s(clip: Clip, fps: float) -> float:
    """Return a clip's common stretch in whole frames, seconds: what online draws may use."""
    return whole_frames_s(clip.duration_s, fps)
