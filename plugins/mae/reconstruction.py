"""What objectives that rebuild hidden patches share: validation, scores, what is hidden."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from plugins.mae.config import HidingConfig
from zoo.models.modules import Objective
from zoo.models.patches import MODALITIES, SMALLEST_VARIANCE
from zoo.models.reconstruction import Hiding

VALID_SEED = 0  # every validation hides the same patches


class Reconstruction(Objective):
    """Rebuilds hidden patches; the sums of a validation are three per modality, see `sums_of`."""

    config: HidingConfig
    num_sums = 3 * len(MODALITIES) + 1

    @staticmethod
    def sums_of(rebuilt: Float[Tensor, "N H E"], wanted: Float[Tensor, "N H E"]) -> list[float]:
        """Return the mean error, and mean and mean square of what was hidden."""
        of_hidden = ((rebuilt - wanted).square(), wanted, wanted.square())
        return [float(values.mean(dtype=torch.float64)) for values in of_hidden]

    def scores(self, sums: list[float]) -> dict[str, float]:
        """Return the errors as shares of the variance of all hidden patches; chance is 1."""
        *values, count = sums
        shares, weights = {}, {}
        for modality, first in zip(MODALITIES, range(0, len(values), 3), strict=True):
            weights[modality] = getattr(self.config, f"{modality}_weight")
            if weights[modality]:
                error, mean, square = (x / max(1.0, count) for x in values[first : first + 3])
                shares[modality] = error / max(SMALLEST_VARIANCE, square - mean**2)
        total = sum(weights[m] * share for m, share in shares.items()) / sum(weights.values())
        return {"unexplained": total, **{f"{m}_unexplained": x for m, x in shares.items()}}

    @property
    def hiding(self) -> Hiding:
        """What training hides."""
        return Hiding(self.config.audio_ratio, self.config.vision_ratio)
