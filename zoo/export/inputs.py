"""What exported models are given: shapes, random numbers, a made-up crop, a crop of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from zoo.contracts import Modality
from zoo.data.clip_reader import ClipReader
from zoo.data.frontend import crop_square, cut_audio, cut_frames
from zoo.errors import MediaError
from zoo.media import probe, require_streams
from zoo.models.model import Model
from zoo.timeline import to_frames, to_samples

Inputs = tuple[Tensor, Tensor]
"""Audio ``(B, S, F, Ta)`` and vision ``(B, S, C, Tv, H, W)`` after the front ends."""


def shapes_of(model: Model) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the inputs, without the batch."""
    num = model.config.layout.num_segments
    return {m: (num, *model.io.modality(m).segment_shape) for m in get_args(Modality)}


def random_crops(model: Model, num: int) -> Inputs:
    """Return some crops of unit normals."""
    rng = torch.Generator().manual_seed(num)
    audio, vision = (torch.randn(num, *s, generator=rng) for s in shapes_of(model).values())
    return audio, vision


def made_up_crop(model: Model) -> Inputs:
    """Return a crop through the model's own front ends: a flash and a click, one third in."""
    layout, frontend = model.config.layout, model.vision_frontend
    rng = np.random.default_rng(0)
    num_frames = to_frames(layout.covered_s, frontend.fps)
    frames = rng.integers(40, 80, (num_frames, frontend.size, frontend.size, 3), dtype=np.uint8)
    frames[num_frames // 3 : num_frames // 3 + 3, : frontend.size // 2] = 230
    rate_hz = model.audio_frontend.sample_rate_hz
    samples = rng.normal(0, 0.01, to_samples(layout.covered_s, rate_hz)).astype(np.float32)
    click = samples[len(samples) // 3 :][: rate_hz // 20]
    click += rng.normal(0, 0.3, len(click)).astype(np.float32)
    return _cut(model, frames, samples)


def crop_of_clip(model: Model, clip: Path) -> Inputs:
    """Return the first crop of a clip.

    Raises:
        MediaError: if it cannot be read, lacks a stream, or is shorter than a crop.
    """
    info, covered_s = probe(clip), model.config.layout.covered_s
    require_streams(info)
    if info.common_s < covered_s:
        raise MediaError(
            f"{clip} is too short: audio and video share {info.common_s:.2f} s, and the model "
            f"looks at {covered_s:g} s at a time"
        )
    reader = _reader(model)
    frames = crop_square(reader.read_vision(clip, 0.0, covered_s), reader.vision.size, None)
    return _cut(model, frames, reader.read_audio(clip, 0.0, covered_s))


def _cut(model: Model, frames: np.ndarray, samples: np.ndarray) -> Inputs:
    layout, reader = model.config.layout, _reader(model)
    audio = cut_audio(samples, *reader.places("audio", layout), reader.audio)
    vision = cut_frames(frames, *reader.places("vision", layout), reader.vision)
    return audio[None], vision[None]


def _reader(model: Model) -> ClipReader:
    return ClipReader(model.vision_frontend, model.audio_frontend, io=model.io)
