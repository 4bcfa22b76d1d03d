"""Which patches are hidden: any, or whole strips of the spectrogram."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.contracts import MaskMode
from zoo.models.patches import PatchGrid

STRIP = 1.1  # above all noise, so that a strip is hidden first
BOTH_SHARE = 0.7  # of the strips of either kind, where both are hidden


def masking_noise(
    num: int,
    grid: PatchGrid,
    ratio: float,
    mode: MaskMode = "unstructured",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "N L"]:
    """Return a random number for every patch: those with the smallest are kept.

    Strips hold ``int(ratio * steps)`` of the steps in time, or ``int(ratio * bands)`` of the bands
    in frequency; with both, ``BOTH_SHARE`` of each (Source: CAV-MAE, arXiv 2210.07839 section 4.5).
    """
    noise = torch.rand(num, grid.num_patches, generator=generator)
    if mode == "unstructured":
        return noise
    share = BOTH_SHARE if mode == "both" else 1.0
    clips = noise.unflatten(1, (grid.rows, grid.columns))  # of audio, which has one such grid
    if grid.is_time_first:
        clips = clips.transpose(1, 2)
    bands, steps = clips.shape[1:]
    for clip in clips:
        if mode in {"time", "both"}:
            chosen = torch.randperm(steps, generator=generator)[: int(steps * ratio * share)]
            clip[:, chosen] = STRIP
        if mode in {"frequency", "both"}:
            chosen = torch.randperm(bands, generator=generator)[: int(bands * ratio * share)]
            clip[chosen] = STRIP
    return noise


def choose(
    noise: Float[Tensor, "N L"], ratio: float
) -> tuple[Int[Tensor, "N M"], Int[Tensor, "N H"]]:
    """Return the numbers of the patches to keep and of those to hide, by rising noise.

    At least one is kept, unless all are to be hidden.
    """
    return keep_first(noise, max(ratio < 1, int(noise.shape[1] * (1 - ratio))))


def keep_first(
    noise: Float[Tensor, "N L"], num: int
) -> tuple[Int[Tensor, "N M"], Int[Tensor, "N H"]]:
    """Keep so many patches, those with the smallest noise, and hide the others."""
    order = noise.argsort(dim=1)
    return order[:, :num], order[:, num:]
