"""What a model's probabilities are worth, and whether it knows what it sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from zoo.contracts import ComponentConfig
from zoo.models.segments import Tokens

SHRINKAGE = 0.1  # of covariances towards spheres
LARGEST = 512  # segments that are kept
KNOWN, MARGIN = 0.99, 1.15  # share of known clips below the limit, and what it is multiplied by


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
    clips: int = Field(ge=0, description="how many, with known offsets, they were fitted on")

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        is_ascending = list(self.windows) == sorted(self.windows)
        if len(self.temperatures) != len(self.windows) or not is_ascending:
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

    The distance of a segment's mean token to the nearest known one, both whitened; averaged over
    segments, for either modality, in units of the limit that hardly any other known clip exceeds.

    Source: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors (2022).
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @classmethod
    def fit(cls, audio: Tokens, vision: Tokens, clips: Int[Tensor, N]) -> Familiarity:
        """Learn from windows of known clips: one half of the clips, compared with the other half.

        Args:
            audio: tokens of N windows.
            vision: the same.
            clips: of which clip each window is.
        """
        names = clips.unique()
        is_kept = torch.isin(clips, names[::2])
        tensors: dict[str, Tensor] = {}
        for name, tokens in (("audio", audio), ("vision", vision)):
            known = segment_means(tokens)[is_kept].flatten(0, 1)  # (M, D)
            mean, whiten = known.mean(0), _whitening(known)
            order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
            tensors[f"{name}.mean"] = mean.float()
            tensors[f"{name}.whiten"] = whiten.float()
            tensors[f"{name}.known"] = ((known[order[:LARGEST]] - mean) @ whiten).half()
            tensors[f"{name}.limit"] = torch.ones(1)
        others = names[1::2] if len(names) > 1 else names
        distances = cls(tensors).distance(audio, vision)  # (N, 2)
        by_clip = torch.stack([distances[clips == clip].mean(0) for clip in others])
        for column, name in enumerate(("audio", "vision")):
            tensors[f"{name}.limit"] = MARGIN * by_clip[:, column].quantile(KNOWN)[None].float()
        return cls(tensors)

    def distance(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "W 2"]:
        """Return how unlike known ones windows are, audio and video; 1 is the limit."""
        found = []
        for name, tokens in (("audio", audio), ("vision", vision)):
            mean, whiten, known, limit = (
                self.tensors[f"{name}.{part}"].double()
                for part in ("mean", "whiten", "known", "limit")
            )
            nearest = torch.cdist((segment_means(tokens) - mean) @ whiten, known).amin(-1)  # (W, S)
            found.append(nearest.mean(1) / limit)
        return torch.stack(found, dim=1)


def unfamiliarity(distances: Float[Tensor, "W 2"]) -> float:
    """Return how unlike all that is known a clip is, from its windows: the stranger modality."""
    return float(distances.mean(0).max())


def _whitening(known: Float[Tensor, "M D"]) -> Float[Tensor, "D D"]:
    """Return a matrix that makes all directions spread alike, more or less."""
    centred = known - known.mean(0)
    covariance = centred.T @ centred / max(1, len(known) - 1)
    size = covariance.trace() / len(covariance)
    sphere = torch.eye(len(covariance), dtype=covariance.dtype)
    shrunk = (1 - SHRINKAGE) * covariance + (SHRINKAGE * size + 1e-9) * sphere
    return torch.linalg.inv(torch.linalg.cholesky(shrunk)).T


def segment_means(tokens: Tokens) -> Float[Tensor, "W S D"]:
    """Return the mean token of every segment."""
    return tokens.values.detach().double().cpu().mean(dim=(2, 3))
