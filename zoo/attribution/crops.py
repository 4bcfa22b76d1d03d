"""The crop that is looked at, and what stands in for its masked parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Real

from zoo.data.clip_reader import ClipReader
from zoo.data.find import find_clips
from zoo.data.frontend import crop_square
from zoo.errors import MediaError, option
from zoo.media import probe, require_streams
from zoo.models.model import Model
from zoo.timeline import LATTICE_TOLERANCE


@dataclass(frozen=True)
class Crop:
    """What a model sees of a clip before it is cut into segments.

    Attributes:
        frames: square frames.
        samples: mono waveform.
    """

    frames: Real[np.ndarray, "Tv H W 3"]
    samples: Float[np.ndarray, " N"]


def read_crop(
    model: Model,
    path: Path,
    start_s: float,
    audio_track: int | None = None,
    video_track: int | None = None,
) -> Crop:
    """Read one crop of a clip as a model wants it.

    Raises:
        MediaError: if it cannot be read, or the clip ends before the crop does.
    """
    info = probe(path, audio_track, video_track)
    require_streams(info)
    covered_s = model.config.layout.covered_s
    if not 0 <= start_s <= info.common_s - covered_s + LATTICE_TOLERANCE:
        raise MediaError(
            f"{path} has no crop of {covered_s:g} s from {start_s:g} s on: audio and video share "
            f"{info.common_s:.2f} s"
        )
    reader = ClipReader(
        model.vision_frontend,
        model.audio_frontend,
        audio_track=audio_track,
        video_track=video_track,
    )
    frames = reader.read_vision(path, start_s, covered_s)
    samples = reader.read_audio(path, start_s, covered_s)
    return Crop(np.ascontiguousarray(crop_square(frames, reader.vision.size, None)), samples)


def mean_of(crop: Crop) -> Crop:
    """Return a crop that holds the mean frame all along, and silence."""
    mean = crop.frames.mean(axis=0, keepdims=True).round().astype(crop.frames.dtype)  # (1, H, W, 3)
    return Crop(np.broadcast_to(mean, crop.frames.shape), np.zeros_like(crop.samples))


def choose_other(against: Path, path: Path, model: Model, seed: int) -> Path:
    """Return the clip that stands in: the one given, or one chosen at random from a folder.

    Raises:
        MediaError: if there is none that is long enough, besides the clip itself.
    """
    if not against.is_dir():
        return against
    others = [clip for clip in find_clips([against]) if clip.resolve() != path.resolve()]
    covered_s = model.config.layout.covered_s
    for index in np.random.default_rng(seed).permutation(len(others)):
        try:
            info = probe(others[index])
            require_streams(info)
        except MediaError:
            continue
        if info.common_s >= covered_s:
            return others[index]
    raise MediaError(
        f"{option('against')} {against} holds no clip of {covered_s:g} s with audio and video "
        f"besides {path.name}"
    )
