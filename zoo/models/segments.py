"""What flows between the parts of a model: segments after the front ends, tokens with times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.contracts import FeatureMap

TAKE_A_TENSOR = "take .flat (B, S*T*P, D), .per_segment (N, T*P, D) or .values (B, S, T, P, D)"


@dataclass(frozen=True)
class Segments:
    """S segments of both modalities of B clips, after the front ends.

    The modalities may have segments of different lengths (`zoo.contracts.EncoderIO`).
    """

    audio: Float[Tensor, "B S F Ta"]
    vision: Float[Tensor, "B S C Tv H W"]

    def to(self, device: torch.device) -> Segments:
        """Return them on a device."""
        return Segments(*(x.to(device, non_blocking=True) for x in (self.audio, self.vision)))

    def first(self, num_segments: int) -> Segments:
        """Return the first segments of every clip."""
        return Segments(self.audio[:, :num_segments], self.vision[:, :num_segments])

    def __len__(self) -> int:
        """B, clips."""
        return len(self.audio)


@dataclass(frozen=True)
class Tokens:
    """Tokens of one modality: S segments, T time steps each, P positions per step.

    Attributes:
        values: the tokens.
        times_s: centre of each of the T steps from the start of its segment, seconds.
    """

    values: Float[Tensor, "B S T P D"]
    times_s: tuple[float, ...]

    @classmethod
    def of_segments(
        cls, values: Float[Tensor, "N TxP D"], num_segments: int, declared: FeatureMap
    ) -> Tokens:
        """Put tokens that were made segment by segment in order; N = B * S."""
        values = values.unflatten(0, (-1, num_segments))  # (B, S, T*P, D)
        return cls(values.unflatten(2, (declared.steps, -1)), declared.times_s)

    @classmethod
    def stack(cls, parts: Sequence[Tokens]) -> Tokens:
        """Join clips of as many segments each to a batch."""
        return replace(parts[0], values=torch.cat([part.values for part in parts]))

    @property
    def num_segments(self) -> int:
        """S, segments per clip."""
        return self.values.shape[1]

    @property
    def flat(self) -> Float[Tensor, "B SxTxP D"]:
        """All tokens of a clip in a row, segment by segment."""
        return self.values.flatten(1, 3)

    @property
    def per_segment(self) -> Float[Tensor, "N TxP D"]:
        """The tokens of every segment by itself; N = B * S."""
        return self.values.flatten(2, 3).flatten(0, 1)

    def with_values(self, values: Float[Tensor, "B S T P D"]) -> Tokens:
        """Return other tokens at the same times."""
        return replace(self, values=values)

    def to(self, device: torch.device | str) -> Tokens:
        """Return them on a device."""
        return self.with_values(self.values.to(device))

    def float(self) -> Tokens:
        """Return them in fp32."""
        return self.with_values(self.values.float())

    def first(self, num_segments: int) -> Tokens:
        """Return those of the first segments of every clip."""
        return self.with_values(self.values[:, :num_segments])

    def __len__(self) -> int:
        """B, clips."""
        return len(self.values)

    if not TYPE_CHECKING:
        # What a head or a torch function meets that takes tokens for a tensor.

        def __getattr__(self, name: str) -> Any:
            """Refuse what only tensors have."""
            if hasattr(Tensor, name) and not name.startswith("__"):
                raise AttributeError(f"Tokens have no '{name}': {TAKE_A_TENSOR}")
            raise AttributeError(f"'Tokens' object has no attribute '{name}'")

        @classmethod
        def __torch_function__(cls, function: Any, *_: Any) -> Any:
            """Refuse to be a tensor."""
            raise TypeError(f"Tokens are no tensor: {TAKE_A_TENSOR}")
