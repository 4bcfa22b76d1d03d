"""The abstract modules that plugins build (shapes: see the legend in docs/concepts.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.models.model import Tower


def initialise_linears(module: nn.Module) -> None:
    """Draw all linear layers anew, with a spread that suits their width.

    At width 768 this is the usual truncated normal of 0.02; a fixed 0.02 would leave the attention
    of narrow models so flat that they hardly start to learn.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            std = 0.02 * (768 / layer.in_features) ** 0.5
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def emphasise_change(segments: Tensor, gain: float | None) -> Tensor:
    """Subtract each segment's mean over time (dim 2) and multiply by a gain; None leaves it.

    Args:
        segments: audio ``(N, F, Ta)`` or video ``(N, C, Tv, H, W)``.
        gain: of what remains.
    """
    return segments if gain is None else gain * (segments - segments.mean(dim=2, keepdim=True))


class Extractor(nn.Module, ABC):
    """Turns segments of one modality into feature maps; segments never see one another."""

    @abstractmethod
    def forward(self, segments: Tensor) -> Float[Tensor, "N T P D"]:
        """Extract features.

        Args:
            segments: what the front end gives, audio ``(N, F, Ta)`` or video ``(N, C, Tv, H, W)``.
        """


class Aggregator(nn.Module, ABC):
    """Reduces the positions of every time step to one token (paper section 3.1).

    One whose spec says ``keeps_positions`` gives ``(N, T*P, D)`` instead.
    """

    @abstractmethod
    def forward(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N T D"]:
        """Aggregate over positions."""


class Head(nn.Module, ABC):
    """Turns the tokens of a crop's segments into logits over the offset classes.

    There are S*T tokens per modality, or S*T*P where the aggregator keeps the positions: see
    `HeadInput`.
    """

    @abstractmethod
    def forward(
        self, audio: Float[Tensor, "B SxTa Da"], vision: Float[Tensor, "B SxTv Dv"]
    ) -> Float[Tensor, "B K"]:
        """Classify the offset."""

    def initialise(
        self, audio: Float[Tensor, "B SxTa Da"], vision: Float[Tensor, "B SxTv Dv"]
    ) -> None:
        """See the first batch of training before the first step; most heads need not."""

    def start_from(self, other: Head) -> None:
        """Take over the weights of a trained head, for another task; what is new stays as drawn.

        Raises:
            ConfigError: if not one of its tensors fits.
        """
        mine, theirs = self.state_dict(), other.state_dict()
        fitting = {k: v for k, v in theirs.items() if k in mine and v.shape == mine[k].shape}
        if not fitting:
            raise ConfigError(
                f"no weight of a {type(other).__name__} fits a {type(self).__name__}; start from a "
                "model with a head of the same kind and size"
            )
        self.load_state_dict({**mine, **fitting})

    def logits_at(
        self,
        audio: Float[Tensor, "B SxTa Da"],
        vision: Float[Tensor, "B SxTv Dv"],
        offsets_s: Float[Tensor, O],
    ) -> Float[Tensor, "B O"]:
        """Score any offsets, for heads that can.

        Raises:
            ConfigError: if the head knows its own classes only.
        """
        raise ConfigError("this head answers on its own grid of offsets only; try 'correlation'")


@dataclass(frozen=True)
class SegmentBatch:
    """What stage I trains on: S segments of both modalities of B clips, cut at the same times."""

    audio: Float[Tensor, "B S F Ta"]
    vision: Float[Tensor, "B S C Tv H W"]


Gather = Callable[[Tensor], Tensor]
"""Concatenates a tensor over all workers along dim 0, differentiably."""


class Objective(nn.Module, ABC):
    """A stage I loss over two towers.

    It is given the towers and the raw segments rather than embeddings, so that an objective may
    mask tokens before an encoder, share one encoder between modalities, or fuse them midway.
    Its own parameters (a temperature, decoders) train along and are saved with the stage.
    """

    @abstractmethod
    def forward(
        self, audio_tower: Tower, vision_tower: Tower, batch: SegmentBatch, gather: Gather
    ) -> dict[str, Tensor]:
        """Return scalars, among them ``loss``; the others are logged."""
