"""What a model's probabilities are worth, and whether it knows what it sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from zoo.contracts import ComponentConfig
from zoo.models.segments import Tokens

SHRINKAGE = 0.1  # of covariances towards spheres


class Calibration(ComponentConfig):
    """Temperatures that make a distribution over offsets say how often it is right.

    One for each number of windows that are averaged: many windows together are right more often
    than one, but no longer grow surer where they agree on a mistake.

    Source: temperature scaling, Guo et al., On Calibration of Modern Neural Networks (2017).
    """

    windows: tuple[PositiveInt, ...] = Field(
        min_length=1, description="numbers of windows that were averaged, ascending"
    )
    temperatures: tuple[PositiveFloat, ...] = Field(description="one for each")
    samples: int = Field(ge=0, description="clips with a known offset that they were fitted on")

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if len(self.temperatures) != len(self.windows) or sorted(self.windows) != list(
            self.windows
        ):
            raise ValueError("there must be one temperature for each number of windows, ascending")
        return self

    def temperature(self, num_windows: int) -> float:
        """Return the temperature for so many windows, in between on a logarithmic scale."""
        known = np.log(self.windows), np.log(self.temperatures)
        return math.exp(float(np.interp(math.log(num_windows), *known)))


def tempered(distribution: Float[Tensor, "... K"], temperature: float) -> Float[Tensor, "... K"]:
    """Return a distribution that is flatter, or with a temperature below 1 steeper."""
    if temperature == 1:
        return distribution
    return (distribution.clamp_min(1e-12).log() / temperature).softmax(-1)


class Familiarity:
    """How far tokens lie from those of the clips a model was validated on.

    The squared Mahalanobis distance of a segment's mean token to the mean of all, averaged over
    the segments of a window and both modalities, in units of the limit that hardly any of the known
    windows exceeds.

    Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples (2018),
    without classes.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @classmethod
    def fit(cls, audio: Tokens, vision: Tokens, share: float, margin: float) -> Familiarity:
        """Learn from windows of known clips.

        Args:
            audio: tokens of N windows.
            vision: the same.
            share: of the known windows that lie below the limit before the margin.
            margin: by which it is multiplied.
        """
        tensors: dict[str, Tensor] = {}
        for name, tokens in (("audio", audio), ("vision", vision)):
            means = segment_means(tokens).flatten(0, 1)  # (N*S, D)
            centred = means - means.mean(0)
            covariance = centred.T @ centred / max(1, len(means) - 1)
            size = covariance.trace() / len(covariance)
            sphere = torch.eye(len(covariance), dtype=covariance.dtype)
            shrunk = (1 - SHRINKAGE) * covariance + (SHRINKAGE * size + 1e-9) * sphere
            tensors[f"{name}.mean"] = means.mean(0).float()
            tensors[f"{name}.precision"] = torch.linalg.inv(shrunk).float()
        tensors["limit"] = torch.ones(1)
        distances = cls(tensors).distance(audio, vision)
        tensors["limit"] = margin * torch.quantile(distances, share)[None]
        return cls(tensors)

    def distance(self, audio: Tokens, vision: Tokens) -> Float[Tensor, W]:
        """Return how unlike known ones windows are; 1 is the limit."""
        found = []
        for name, tokens in (("audio", audio), ("vision", vision)):
            off = segment_means(tokens) - self.tensors[f"{name}.mean"].double()  # (W, S, D)
            precision = self.tensors[f"{name}.precision"].double()
            found.append(((off @ precision) * off).sum(-1).mean(1) / off.shape[-1])
        return torch.stack(found).mean(0) / float(self.tensors["limit"])


def segment_means(tokens: Tokens) -> Float[Tensor, "W S D"]:
    """Return the mean token of every segment."""
    return tokens.values.detach().double().cpu().mean(dim=(2, 3))
