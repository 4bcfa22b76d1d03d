"""The feature store: frozen features computed once, offsets sampled from it for ever.

Features do not change when the extractors are frozen, and shifting the audio alone makes every
offset.  So video segments are encoded every ``vision_hop_s`` and audio segments on the finer
lattice ``audio_hop_s`` (0.04 s); any crop whose starts lie on these lattices is a gather of rows.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from zoo.contracts import ComponentConfig, Modality, Precision
from zoo.data.manifest import Clip
from zoo.errors import TrainingError
from zoo.files import write_whole
from zoo.models.model import Model
from zoo.timeline import Sample, SegmentLayout, to_units

CLIPS_PER_SHARD = 32
INDEX, SEAL = "index.json", "complete"


class StoreConfig(ComponentConfig):
    """What the rows of a store mean; part of its identity."""

    segment_s: float = Field(gt=0, description="segment length, seconds")
    vision_hop_s: float = Field(gt=0, description="lattice of video segments, seconds")
    audio_hop_s: float = Field(gt=0, description="lattice of audio segments, seconds")
    dtype: Literal["float16", "float32"] = Field("float16", description="of the stored features")
    precision: Precision = Field("fp32", description="in which they were computed")
    copies: int = Field(0, ge=0, description="augmented copies of every clip's frames")
    flip: float = Field(0.0, ge=0, le=1, description="chance that a copy is mirrored")


def store_config(
    model: Model,
    dtype: Literal["float16", "float32"],
    vision_hop_s: float | None = None,
    copies: int = 0,
    flip: float = 0.0,
) -> StoreConfig:
    """Return the lattices that fit a model: its segment step for video, one frame for audio.

    A finer ``vision_hop_s`` serves all layouts whose steps are multiples of it.
    """
    return StoreConfig(
        segment_s=model.config.layout.segment_s,
        vision_hop_s=vision_hop_s or model.config.layout.step_s,
        audio_hop_s=round(1 / model.vision_frontend.fps, 9),
        dtype=dtype,
        precision=model.precision,
        copies=copies,
        flip=flip if copies else 0.0,
    )


def store_key(model: Model, config: StoreConfig, clips: list[Clip]) -> str:
    """Hash all that a store depends on: weights, front ends, lattices, clips."""
    digest = hashlib.sha256()
    encoder = model.separable
    for part, io in ((encoder.audio, model.io.audio), (encoder.vision, model.io.vision)):
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        digest.update(io.frontend.model_dump_json().encode())
        if io.segment_s != config.segment_s:
            digest.update(repr(io.segment_s).encode())
    digest.update(config.model_dump_json().encode())
    for clip in clips:
        stat = clip.path.stat() if clip.path.exists() else None
        version = f"{stat.st_size}|{stat.st_mtime_ns}" if stat else "missing"
        digest.update(f"{clip.path}|{version}\n".encode())
    return digest.hexdigest()[:16]


def shards_of(num_clips: int) -> list[range]:
    """Return which clips each shard holds."""
    starts = range(0, num_clips, CLIPS_PER_SHARD)
    return [range(i, min(i + CLIPS_PER_SHARD, num_clips)) for i in starts]


def shard_folder(folder: Path, number: int) -> Path:
    """Return where a shard of a store is."""
    return folder / f"shard-{number:05d}"


def seal(folder: Path, key: str) -> None:
    """Declare a store complete: what it was made from, and how large its files are."""
    sizes = {
        str(f.relative_to(folder)): f.stat().st_size for f in sorted(folder.glob("shard-*/*.npy"))
    }
    write_whole(folder / SEAL, json.dumps({"key": key, "bytes": sizes}, indent=1))


def is_sealed(folder: Path, key: str) -> bool:
    """Say whether a store is complete.

    Raises:
        TrainingError: if it was made from other weights, settings or clips, or files are damaged.
    """
    if not (folder / SEAL).exists():
        return False
    is_other = is_whole = False
    try:
        given = json.loads((folder / SEAL).read_text())
        is_other = given["key"] != key
        is_whole = all((folder / n).stat().st_size == size for n, size in given["bytes"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    if is_other:
        raise TrainingError(
            f"the feature store {folder} was made from other weights, settings or clips; delete it"
        )
    if not is_whole:
        raise TrainingError(f"the feature store {folder} is damaged; delete it to compute it again")
    return True


class FeatureStore:
    """A finished store, memory-mapped.

    Raises:
        TrainingError: if a shard is missing or every clip was left out.
    """

    def __init__(self, folder: Path, clips: list[Clip], config: StoreConfig) -> None:
        self.folder, self.clips, self.config = folder, clips, config
        self.entries: list[dict[str, int]] = []
        self.skipped: dict[int, str] = {}
        for number in range(len(shards_of(len(clips)))):
            index = shard_folder(folder, number) / INDEX
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
            file = shard_folder(self.folder, shard) / f"{modality}.npy"
            self._arrays[shard, modality] = np.load(file, mmap_mode="r")
        entry = self.entries[clip]
        first = entry[f"{modality}_first"]
        return self._arrays[shard, modality][first : first + entry[f"{modality}_rows"]]

    def duration_s(self, clip: int) -> float:
        """Return how much of a clip can be sampled from, seconds; 0 if it was left out."""
        if clip in self.skipped:
            return 0.0
        rows = self.entries[clip]["audio_rows"]
        return round((rows - 1) * self.config.audio_hop_s + self.config.segment_s, 6)

    def segments(
        self, clip: int, modality: Modality, starts_s: list[float], copy: int = 0
    ) -> Float[Tensor, "S TxP D"]:
        """Return the tokens of a clip's segments that start at given lattice times, seconds.

        Args:
            clip: its index.
            modality: which tokens.
            starts_s: times on the modality's lattice.
            copy: 0 for the frames as they are, or the number of an augmented copy.
        """
        hop_s = getattr(self.config, f"{modality}_hop_s")
        first = 0
        if copy and modality == "vision":
            first = copy * self.entries[clip]["vision_rows"] // (1 + self.config.copies)
        steps = f"steps of the {modality} lattice"
        rows = [first + to_units(t, 1 / hop_s, steps) for t in starts_s]
        return torch.from_numpy(self._rows(clip, modality)[rows].astype(np.float32))

    def tokens(
        self, sample: Sample, layout: SegmentLayout, copy: int = 0
    ) -> tuple[Float[Tensor, "S TxPa Da"], Float[Tensor, "S TxPv Dv"]]:
        """Gather the tokens of a sample, of the clip as it is or of one copy."""
        audio_starts = [sample.audio_start_s + t for t in layout.starts_s]
        vision_starts = [sample.vision_start_s + t for t in layout.starts_s]
        return (
            self.segments(sample.clip, "audio", audio_starts),
            self.segments(sample.clip, "vision", vision_starts, copy),
        )
