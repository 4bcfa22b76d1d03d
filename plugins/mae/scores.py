"""What is left unexplained of hidden patches: sums that workers can add, scores from sums."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from plugins.mae.config import HidingConfig
from zoo.models.patches import MODALITIES, SMALLEST_VARIANCE

NUM_SUMS = 3 * len(MODALITIES) + 1


def sums_of(rebuilt: Float[Tensor, "N H E"], wanted: Float[Tensor, "N H E"]) -> list[float]:
    """Return the mean error, and mean and mean square of what was hidden."""
    of_hidden = ((rebuilt - wanted).square(), wanted, wanted.square())
    return [float(values.mean(dtype=torch.float64)) for values in of_hidden]


def unexplained(sums: list[float], config: HidingConfig) -> dict[str, float]:
    """Return the errors as shares of the variance of all hidden patches; chance is 1."""
    *values, count = sums
    shares, weights = {}, {}
    for modality, first in zip(MODALITIES, range(0, len(values), 3), strict=True):
        weights[modality] = getattr(config, f"{modality}_weight")
        if weights[modality]:
            error, mean, square = (value / max(1.0, count) for value in values[first : first + 3])
            shares[modality] = error / max(SMALLEST_VARIANCE, square - mean**2)
    total = sum(weights[m] * share for m, share in shares.items()) / sum(weights.values())
    return {"unexplained": total, **{f"{m}_unexplained": x for m, x in shares.items()}}
