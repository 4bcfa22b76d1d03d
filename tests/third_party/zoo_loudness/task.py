"""The task: samples, loss, scores, words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

import zoo
from zoo_loudness.config import LoudnessConfig

if TYPE_CHECKING:
    from zoo.data.manifest import Clip


class Loudness(zoo.Task):
    """The level of a clip's audio, which its label holds."""

    says = "says how loud a clip is"
    num_sums = 3
    loss_name = "squared_error"

    def __init__(self, config: LoudnessConfig) -> None:
        self.config = config

    @property
    def num_outputs(self) -> int:
        """One number."""
        return 1

    def need(self, layout: zoo.SegmentLayout, hop_s: float) -> zoo.Need:
        """Return the length of a crop."""
        return zoo.Need(layout.covered_s, "nothing else")

    def accepts(self, clip: Clip) -> bool:
        """Say whether the label is there."""
        return clip.label is not None

    def sample(
        self,
        rng: np.random.Generator,
        index: int,
        clip: Clip,
        duration_s: float,
        place: zoo.Placement,
    ) -> zoo.Sample:
        """Choose a crop of both streams at the same time."""
        assert clip.label is not None
        level = (float(clip.label) - self.config.mean_db) / self.config.spread_db
        return zoo.place_crops(rng, index, duration_s, place, 0.0, level)

    def loss(self, outputs: Tensor, targets: Tensor, sigma: float) -> Tensor:
        """Return the mean squared error, in spreads of the training clips."""
        return (outputs[:, 0] - targets).square().mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> list[float]:
        """Return summed errors and their number."""
        error = (outputs[:, 0] - targets).double()
        absolute_db = float(error.abs().sum()) * self.config.spread_db
        return [absolute_db, float(error.square().sum()), float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into means."""
        absolute_db, squared, num = sums
        total = max(1.0, num)
        return {"error_db": absolute_db / total, "squared_error": squared / total, "num": int(num)}

    @property
    def chance(self) -> dict[str, float]:
        """What somebody scores who always says the mean, if levels are normally distributed."""
        return {"error_db": self.config.spread_db * (2 / np.pi) ** 0.5, "squared_error": 1.0}

    @property
    def chance_words(self) -> str:
        """Say how the loss of guessing comes about."""
        return "1.00, the variance of the training clips"

    def values(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        """Return the error of each sample."""
        error = (outputs[:, 0] - targets).abs().double().numpy()
        return {"error_db": error * self.config.spread_db}

    def answer(self, outputs: Tensor, starts_s: Sequence[float], crop_s: float) -> zoo.Answer:
        """Say the level."""
        level_db = self.config.mean_db + self.config.spread_db * float(outputs.mean())
        return zoo.Answer({"level_db": level_db}, [f"level {level_db:.1f} dB"])
