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

    Strips hold ``int(columns * ratio)`` columns (time) or ``int(rows * ratio)`` rows (frequency),
    with both ``BOTH_SHARE`` of each (Source: CAV-MAE, arXiv 2210.07839 section 4.5).
    """
    noise = torch.rand(num, grid.num_patches, generator=generator)
    if mode == "unstructured":
        return noise
    share = BOTH_SHARE if mode == "both" else 1.0
    for clip in noise.unflatten(1, (-1, grid.rows, grid.columns)):
        if mode in {"time", "both"}:
            columns = torch.randperm(grid.columns, generator=generator)
            clip[:, :, columns[: int(grid.columns * ratio * share)]] = STRIP
        if mode in {"frequency", "both"}:
            rows = torch.randperm(grid.rows, generator=generator)
            clip[:, rows[: int(grid.rows * ratio * share)]] = STRIP
    return noise


def choose(
    noise: Float[Tensor, "N L"], ratio: float
) -> tuple[Int[Tensor, "N M"], Int[Tensor, "N H"]]:
    """Return the numbers of the patches to keep and of those to hide, by rising noise.

    At least one is kept, unless all are to be hidden.
    """
    kept = max(ratio < 1, int(noise.shape[1] * (1 - ratio)))
    order = noise.argsort(dim=1)
    return order[:, :kept], order[:, kept:]
