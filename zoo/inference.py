"""A model at work: a file of any rate and size in, an offset in seconds and words out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.catalog import resolve
from zoo.data.clips import ClipReader, whole_frames_s
from zoo.data.frontend import crop_square, cut_audio, cut_frames, segments_at_once
from zoo.device import find_device
from zoo.errors import ConfigError, MediaError
from zoo.estimate import combine
from zoo.folder import load_model
from zoo.media import ClipInfo, probe, require_streams
from zoo.model import SyncModel, require_offsets
from zoo.modules import Head
from zoo.timeline import count_steps, describe_offset

BLOCK_SEGMENTS = 32  # segments decoded and encoded at a time: memory stays flat on long clips


@dataclass(frozen=True)
class WindowPrediction:
    """The offset of one crop of a clip.

    Attributes:
        start_s: start of the crop, seconds.
        offset_s: most probable offset, seconds.
        probability: of that offset.
    """

    start_s: float
    offset_s: float
    probability: float


@dataclass(frozen=True)
class Prediction:
    """How far the audio of a clip is off.

    Attributes:
        path: the clip.
        model: the model's name.
        offset_s: most probable offset, seconds; positive means the audio is early.
        meaning: the offset in words.
        probability: of that offset.
        refined_s: the offset between the points of the grid, seconds.
        confidence: probability that the offset is within one class of ``refined_s``.
        distribution: probability of every offset of the grid, by offset in seconds.
        windows: the crops the answer is put together from.
        low_confidence: why the file's own clock cannot be trusted, or None.
    """

    path: str
    model: str
    offset_s: float
    meaning: str
    probability: float
    refined_s: float
    confidence: float
    distribution: dict[float, float]
    windows: list[WindowPrediction]
    low_confidence: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON types."""
        answer = asdict(self)
        answer["distribution"] = [
            {"offset_s": offset, "probability": p} for offset, p in self.distribution.items()
        ]
        return answer


class Predictor:
    """A model with its front ends, ready for files."""

    def __init__(self, model: SyncModel, name: str, device: torch.device | str = "cpu") -> None:
        require_offsets(model, name)
        self.device = find_device(device)
        self.model, self.name = model.to(self.device).eval(), name
        self.reader = ClipReader(model.vision_frontend, model.audio_frontend)

    @property
    def can_refine(self) -> bool:
        """Whether the head scores offsets between its classes."""
        assert self.model.head is not None
        return type(self.model.head).logits_at is not Head.logits_at

    def predict(self, path: str | Path, step_s: float | None = None) -> Prediction:
        """Predict the offset of a clip from all of its crops.

        The crops' distributions are averaged, each weighted by how far it is from uniform: a crop
        without an event has nothing to say.

        Args:
            path: the clip.
            step_s: distance of the offsets to choose from, seconds; by default the model's own
                classes. A finer step takes a head that can score any offset.

        Raises:
            MediaError: if the clip cannot be read, lacks a stream, or is shorter than one crop.
            ConfigError: if the head cannot answer on a finer grid.
        """
        path = Path(path)
        info = probe(path)
        require_streams(info)
        audio, vision = self._segment_tokens(path, self._length_s(info))
        offsets = self._offsets(step_s)
        probabilities = self._classify_windows(audio, vision, offsets)  # (W, O)
        estimate = combine(probabilities, offsets, self.model.config.grid.step_s)
        best, mean = estimate.best, estimate.distribution
        hop_s = self.model.config.layout.step_s
        windows = [
            WindowPrediction(round(i * hop_s, 6), offsets[int(p.argmax())], float(p.max()))
            for i, p in enumerate(probabilities)
        ]
        return Prediction(
            path=str(path),
            model=self.name,
            offset_s=offsets[best],
            meaning=describe_offset(offsets[best]),
            probability=float(mean[best]),
            refined_s=estimate.refined_s,
            confidence=estimate.confidence,
            distribution={o: float(p) for o, p in zip(offsets, mean, strict=True)},
            windows=windows,
            low_confidence=info.low_confidence,
        )

    def _offsets(self, step_s: float | None) -> tuple[float, ...]:
        grid = self.model.config.grid
        if step_s is None:
            return grid.offsets_s
        if not 0 < step_s <= grid.step_s:
            raise ConfigError(f"a step of {step_s:g} s is not between 0 and {grid.step_s:g} s")
        count = count_steps(grid.max_s - grid.min_s, 0.0, step_s)
        return tuple(round(grid.min_s + i * step_s, 6) for i in range(count))

    def _length_s(self, info: ClipInfo) -> float:
        needed_s = self.model.config.layout.covered_s
        length_s = whole_frames_s(info.common_s, self.reader.vision.fps)
        if length_s < needed_s:
            raise MediaError(
                f"{info.path} is too short: sound and picture share {info.common_s:.2f} s, "
                f"and {self.name} looks at {needed_s:g} s at a time"
            )
        return length_s

    @torch.no_grad()
    def _segment_tokens(self, path: Path, length_s: float) -> tuple[Tensor, Tensor]:
        """Encode all segments of a clip, each ``step_s`` after the last, ``(M, T, D)``."""
        layout = self.model.config.layout
        total = count_steps(length_s, layout.segment_s, layout.step_s)
        block = min(BLOCK_SEGMENTS, segments_at_once(self.reader.vision, layout.segment_s))
        audio, vision = [], []
        for first in range(0, total, block):
            starts = [i * layout.step_s for i in range(min(block, total - first))]
            start_s = round(first * layout.step_s, 6)
            block_s = round(starts[-1] + layout.segment_s, 6)
            samples = self.reader.read_audio(path, start_s, block_s)
            frames = self.reader.read_vision(path, start_s, block_s)
            frames = crop_square(frames, self.reader.vision.size, None)
            a = cut_audio(samples, starts, layout.segment_s, self.reader.audio)
            v = cut_frames(frames, starts, layout.segment_s, self.reader.vision)
            audio.append(self.model.audio.encode(a.to(self.device)).cpu())
            vision.append(self.model.vision.encode(v.to(self.device)).cpu())
        return torch.cat(audio), torch.cat(vision)

    @torch.no_grad()
    def _classify_windows(
        self,
        audio: Float[Tensor, "M Ta Da"],
        vision: Float[Tensor, "M Tv Dv"],
        offsets_s: tuple[float, ...],
    ) -> Float[Tensor, "W O"]:
        """Classify every run of S consecutive segments."""
        is_own_grid = offsets_s == self.model.config.grid.offsets_s
        wanted = torch.tensor(offsets_s, device=self.device)
        num_segments = self.model.config.layout.num_segments
        parts = []
        for first in range(0, len(audio) - num_segments + 1, BLOCK_SEGMENTS):
            last = min(first + BLOCK_SEGMENTS, len(audio) - num_segments + 1)
            runs = np.arange(first, last)[:, None] + np.arange(num_segments)  # (W, S)
            a, v = (x[runs].flatten(1, 2).to(self.device) for x in (audio, vision))
            logits = (
                self.model.classify(a, v)
                if is_own_grid or self.model.head is None
                else self.model.head.logits_at(a, v, wanted)
            )
            parts.append(logits.float().softmax(1).cpu())
        return torch.cat(parts)


def load(name: str | Path, device: torch.device | str = "cpu") -> Predictor:
    """Load a model by catalog name or folder.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it does not predict offsets.
    """
    folder = resolve(name)
    return Predictor(load_model(folder), str(name), device)
