"""What is hidden of segments, and what an objective puts in its place."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from zoo.contracts import MaskMode
from zoo.errors import ConfigError, option


@dataclass(frozen=True)
class Hiding:
    """What is hidden of every segment.

    Attributes:
        audio: share of its audio patches, 0 to 1.
        vision: share of its video patches, 0 to 1.
        mask: how audio patches are chosen; those of video are chosen one by one.
        seed: of the choice.

    Raises:
        ConfigError: if a share is none.
    """

    audio: float = 0.75
    vision: float = 0.75
    mask: MaskMode = "unstructured"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("audio", "vision"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ConfigError(
                    f"{option(f'hide_{name}')} {share:g} is no share; give 0 (nothing) to 1 (all)"
                )


@dataclass(frozen=True)
class Rebuilt:
    """Segments of one modality whose hidden patches an objective has rebuilt.

    Attributes:
        given: what the front end gives, ``(N, F, Ta)`` or ``(N, C, Tv, H, W)``, as far as patches
            cover it.
        rebuilt: the same, with what the objective puts where patches are hidden.
        hidden: where that is; bool of the same shape.
        num_patches: L, of a segment.
        num_hidden: H, how many of them are hidden.
        error: mean squared error over the hidden patches, as the objective trains on it; None where
            nothing is hidden.
        unexplained: the same as a share of their variance: 1 is what their mean scores.
        is_normalised: the objective rebuilds every patch less its mean and divided by its spread;
            both are taken from the input.
        is_change: what a segment holds all along is not rebuilt, but taken from the input.
    """

    given: Tensor
    rebuilt: Tensor
    hidden: Tensor
    num_patches: int
    num_hidden: int
    error: float | None
    unexplained: float | None
    is_normalised: bool
    is_change: bool


def restore_change(changed: Tensor, segments: Tensor, gain: float | None) -> Tensor:
    """Undo `zoo.models.modules.emphasise_change`, with the mean of the segments as they were.

    Args:
        changed: of the shape of the segments, or smaller at the end of any dimension.
        segments: before the change.
        gain: of the change.
    """
    if gain is None:
        return changed
    return changed / gain + cut_like(segments.mean(dim=2, keepdim=True), changed)


def cut_like(x: Tensor, like: Tensor) -> Tensor:
    """Return the beginning of every dimension, as long as another tensor has it."""
    return x[tuple(slice(size) for size in like.shape)]
