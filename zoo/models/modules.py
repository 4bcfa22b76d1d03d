"""The abstract modules that plugins build (shapes: see the legend in docs/concepts.md)."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.contracts import EncoderIO, FeatureMap, Modality, Precision
from zoo.errors import ConfigError, PluginError, option
from zoo.models.device import autocast
from zoo.models.reconstruction import Hiding, Rebuilt
from zoo.models.segments import Segments, Tokens

# Numbers that enter an encoder at a time: 3 video segments of 224 pixels, whose activations take
# 0.4 GB.  More make nothing faster.
ENCODED_AT_ONCE, MOST_SEGMENTS = 1 << 23, 64


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

    def transformer_blocks(self) -> Sequence[nn.Module]:
        """Return its transformer blocks in order; none by default.

        A siamese pair shares them, and learning rates may fall from one to the one before.  What
        is registered before them counts as embedding then: of patches, positions, special tokens.
        """
        return ()


class MaskableExtractor(Extractor):
    """An extractor that can leave out patches: ``forward`` is ``encode`` of all patches.

    Patches are in the order of the feature map, time step by time step: L = T * P.
    """

    change_gain: float | None = None
    """What it multiplies segments less their mean by, before it reads them: `emphasise_change`."""

    @abstractmethod
    def patchify(self, segments: Tensor) -> Float[Tensor, "N L D"]:
        """Embed the patches of segments and add their positions."""

    @abstractmethod
    def encode(
        self, patches: Float[Tensor, "N L D"], keep: Int[Tensor, "N M"]
    ) -> Float[Tensor, "N M D"]:
        """Encode the patches whose numbers are kept, computing nothing for the others.

        Args:
            patches: of `patchify`.
            keep: numbers of the patches to keep, the same count for every segment, rising.
        """

    @abstractmethod
    def targets(self, segments: Tensor) -> Float[Tensor, "N L E"]:
        """Return what a decoder must rebuild: the values of every patch as the extractor reads it.

        What it takes away itself, such as each segment's mean, is gone: nobody could rebuild it.
        """

    def join(self, patches: Float[Tensor, "N L E"]) -> Tensor:
        """Put the values of patches where they were cut out; the mean where patches overlap.

        Plots of what was rebuilt need it.

        Raises:
            ConfigError: if the extractor cannot.
        """
        raise ConfigError(f"{type(self).__name__} cannot put its patches together to segments")


def take_patches(
    patches: Float[Tensor, "N L D"], numbers: Int[Tensor, "N M"]
) -> Float[Tensor, "N M D"]:
    """Return the patches of these numbers, which may differ from segment to segment."""
    return patches.gather(1, numbers.unsqueeze(2).expand(-1, -1, patches.shape[2]))


class Aggregator(nn.Module, ABC):
    """Reduces the positions of every time step to one token, or to P' (paper section 3.1)."""

    @abstractmethod
    def forward(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N TxP D"]:
        """Aggregate over positions; the tokens are in the order of time."""


class Encoder(nn.Module, ABC):
    """Turns segments of both modalities into tokens of both (what it reads: `EncoderConfig.io`)."""

    io: EncoderIO
    """What it reads and gives; set by whoever builds it."""
    is_separable: ClassVar[bool] = False
    """Whether a segment of one modality never sees the other: see `SeparableEncoder`."""
    encodes_alone: ClassVar[bool] = False
    """Whether it can encode either modality without the other: see `encode_alone`."""
    precision: Precision = "fp32"
    """How exactly many segments are encoded; heads compute in fp32."""
    may_skip_parameters: ClassVar[bool] = False
    """Whether a training step may leave parameters without a gradient: workers must look then."""
    stacks: Mapping[str, int] = MappingProxyType({})
    """Its stacks of transformer blocks, and how many blocks a token has passed before each, such
    as ``{"blocks_a": 0, "blocks_v": 0, "blocks_u": 11}``: for learning rates by layer."""
    embeddings: tuple[str, ...] = ()
    """How the names of parameters begin that make tokens of patches, positions included."""

    @property
    def num_layers(self) -> int:
        """L, blocks that a token passes one after the other.

        Raises:
            ConfigError: if the encoder does not tell (`stacks`).
        """
        if not self.stacks:
            raise ConfigError(
                f"layer_decay needs an encoder that tells its layers, and a {type(self).__name__} "
                "does not",
                "leave layer_decay out",
            )
        return max(first + len(self._blocks(stack)) for stack, first in self.stacks.items())

    def layer_of(self, name: str) -> int | None:
        """Return the layer of a parameter: 0 for embeddings, l + 1 for block l, None for the rest.

        Args:
            name: of one of its parameters.
        """
        for stack, first in self.stacks.items():
            if name.startswith(f"{stack}."):
                return first + int(name.removeprefix(f"{stack}.").partition(".")[0]) + 1
        return 0 if name.startswith(self.embeddings) else None

    def _blocks(self, stack: str) -> nn.ModuleList | nn.Sequential:
        blocks = self.get_submodule(stack)
        assert isinstance(blocks, nn.ModuleList | nn.Sequential)
        return blocks

    @property
    def keeps_apart(self) -> bool:
        """Whether the tokens of a modality say nothing of the other one's."""
        return self.is_separable

    @abstractmethod
    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Return the tokens of audio and video."""

    def forward(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Encode."""
        return self.encode(segments)

    @torch.no_grad()
    def encode_many(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Encode without gradients, a few clips at a time, in bounded memory."""
        numbers = segments.audio[0].numel() + segments.vision[0].numel()
        size = max(1, min(MOST_SEGMENTS, ENCODED_AT_ONCE // numbers))
        parts = zip(segments.audio.split(size), segments.vision.split(size), strict=True)
        with autocast(segments.audio.device, self.precision):
            encoded = [self.encode(Segments(*part)) for part in parts]
        audio, vision = (Tokens.stack(tokens).float() for tokens in zip(*encoded, strict=True))
        return audio, vision

    def encode_alone(self, modality: Modality, segments: Tensor) -> Float[Tensor, "N L D"]:
        """Encode one modality without the other, for encoders that can (`encodes_alone`).

        Retrieval compares the mean of these tokens between the modalities.

        Args:
            modality: of the segments.
            segments: what the front end gives, audio ``(N, F, Ta)`` or video ``(N, C, Tv, H, W)``.

        Raises:
            ConfigError: if it always needs both.
        """
        raise ConfigError(f"a {type(self).__name__} always needs audio and video together")

    def take(self, other: Encoder) -> None:
        """Take over the weights of another encoder of this kind.

        Raises:
            ConfigError: naming the first tensor that does not fit.
        """
        given, own = self.fitted(other), self.state_dict()
        for name, value in given.items():
            if name in own and value.shape != own[name].shape:
                raise ConfigError(
                    f"the encoder to start from has '{name}' of the shape {tuple(value.shape)}, "
                    f"and this one of {tuple(own[name].shape)}",
                    f"leave out the {option('set')} encoder.NAME that makes the difference",
                )
        if apart := sorted(given.keys() ^ own.keys()):
            verb = "lacks" if apart[0] in own else "has, unlike this one,"
            raise ConfigError(
                f"the encoder to start from {verb} '{apart[0]}'",
                f"leave out the {option('set')} encoder.NAME that makes the difference",
            )
        self.load_state_dict(given)

    def fitted(self, other: Encoder) -> dict[str, Tensor]:
        """Return the weights of another encoder, for this one's lengths where that can be done."""
        return other.state_dict()

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the backward pass, in every part that can."""
        for module in self.modules():
            enable = getattr(module, "enable_gradient_checkpointing", None)
            if module is not self and enable is not None:
                enable()


class ModalityEncoder(nn.Module, ABC):
    """One modality of a separable encoder: segments to tokens, each segment by itself."""

    modality: Modality
    tokens: FeatureMap
    precision: Precision = "fp32"

    @abstractmethod
    def forward(self, segments: Tensor) -> Float[Tensor, "N TxP D"]:
        """Encode segments after the front end."""

    @torch.no_grad()
    def encode(self, segments: Tensor, chunk: int | None = None) -> Float[Tensor, "N TxP D"]:
        """Encode many segments without gradients, ``chunk`` at a time, in bounded memory."""
        chunk = chunk or min(MOST_SEGMENTS, ENCODED_AT_ONCE // segments.shape[1:].numel()) or 1
        with autocast(segments.device, self.precision):
            return torch.cat([self(part).float() for part in segments.split(chunk)])


class SeparableEncoder(Encoder):
    """An encoder of two parts, one per modality, that never see each other's segments.

    The feature store, sliding search, attribution and feature export need that: a segment is
    encoded once, whatever it is later compared with.
    """

    is_separable = True
    encodes_alone = True
    audio: ModalityEncoder
    vision: ModalityEncoder

    def modality(self, name: Modality) -> ModalityEncoder:
        """Return the part of one modality."""
        return self.audio if name == "audio" else self.vision

    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Encode both modalities, each by itself."""
        return self._tokens(self.audio, segments.audio), self._tokens(self.vision, segments.vision)

    def encode_alone(self, modality: Modality, segments: Tensor) -> Float[Tensor, "N L D"]:
        """Return the tokens of one modality."""
        return self.modality(modality)(segments)

    @torch.no_grad()
    def encode_many(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Encode without gradients, a few segments at a time, in bounded memory."""
        parts = ((self.audio, segments.audio), (self.vision, segments.vision))
        audio, vision = (
            Tokens.of_segments(part.encode(given.flatten(0, 1)), given.shape[1], part.tokens)
            for part, given in parts
        )
        return audio, vision

    @staticmethod
    def _tokens(part: ModalityEncoder, segments: Tensor) -> Tokens:
        encoded = part(segments.flatten(0, 1))  # (B*S, T*P, D)
        return Tokens.of_segments(encoded, segments.shape[1], part.tokens)


class Head(nn.Module, ABC):
    """Turns the tokens of a clip's segments into the outputs of a task."""

    may_skip_parameters: ClassVar[bool] = False
    """Whether a training step may leave parameters without a gradient: workers must look then."""

    @abstractmethod
    def forward(
        self, audio: Tokens, vision: Tokens
    ) -> Float[Tensor, "B K"] | Float[Tensor, "B M K"]:
        """Return the K outputs that the task asks for; see `HeadInput`.

        While it trains a head may answer for each of M modalities by itself, audio first: the loss
        is then the mean over them.  In eval mode it gives ``(B, K)``.
        """

    def initialise(self, audio: Tokens, vision: Tokens) -> None:
        """See the first batch of training before the first step; most heads need not."""

    def start_from(self, other: Head) -> None:
        """Take over the weights of a trained head, for another task; what is new stays as it was.

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
        self, audio: Tokens, vision: Tokens, offsets_s: Float[Tensor, O]
    ) -> Float[Tensor, "B O"]:
        """Score any offsets, for heads that can.

        Raises:
            ConfigError: if the head knows its own classes only.
        """
        raise ConfigError("this head answers on its own grid of offsets only; try 'correlation'")


Gather = Callable[[Tensor], Tensor]
"""Concatenates a tensor over all workers along dim 0, differentiably."""


class Objective(nn.Module, ABC):
    """A stage I loss over an encoder, with its own parameters, validation and chance.

    It is given the encoder and the segments after the front ends rather than embeddings, so that it
    may mask patches before the encoder.  Its own parameters (a temperature, decoders) train along
    and are saved with the run.
    """

    def __init_subclass__(cls, **given: Any) -> None:
        """Say what to change where an objective was written for an earlier version.

        Raises:
            PluginError: if it wants more or less than it will be given.
        """
        super().__init_subclass__(**given)
        try:
            inspect.signature(cls.forward).bind("self", "encoder", "segments", "gather")
        except TypeError:
            raise PluginError(
                f"forward of the objective {cls.__name__} takes {inspect.signature(cls.forward)}; "
                "it must take (self, encoder, segments, gather), where encoder(segments) gives the "
                "tokens of both modalities"
            ) from None

    turns: tuple[str, ...] = ()
    """Losses that are stepped in turn, each with an optimiser of its own: see `take_turn`."""

    @abstractmethod
    def forward(self, encoder: Encoder, segments: Segments, gather: Gather) -> dict[str, Tensor]:
        """Return scalars, among them ``loss``; the others are logged."""

    def take_turn(
        self, turn: str, encoder: Encoder, segments: Segments, gather: Gather
    ) -> dict[str, Tensor]:
        """Return the scalars of one of `turns`, for an objective that has some.

        Every step takes all turns on the same batch, one after the other: the second sees the
        weights that the first one left.  `forward` still gives all of it, as one loss.
        """
        raise NotImplementedError(f"{type(self).__name__} has turns, but no take_turn")

    def prepare(self, encoder: Encoder, segments: Segments) -> None:
        """See the first batch of training before the first step; most objectives need not."""

    num_sums: int
    """How many numbers `validate` returns."""
    clips_per_validation: int = 1
    """Clips that `validate` is given at a time; more where clips are compared with each other."""

    @abstractmethod
    def validate(self, encoder: Encoder, segments: Segments) -> list[float]:
        """Score some clips: sums that `scores` divides by the last one, the number of clips."""

    @abstractmethod
    def scores(self, sums: list[float]) -> dict[str, float]:
        """Turn sums over all clips and workers into the scores of a validation."""

    @property
    def hiding(self) -> Hiding | None:
        """What it hides in training, to rebuild it: see `reconstruct`; None if nothing."""
        return None

    def reconstruct(
        self, encoder: Encoder, segments: Segments, hiding: Hiding
    ) -> dict[Modality, Rebuilt]:
        """Hide patches of all segments and rebuild them; without gradients.

        Raises:
            ConfigError: if the objective rebuilds nothing, or cannot hide so.
        """
        raise ConfigError(f"{type(self).__name__} rebuilds nothing")

    @property
    def can_compare(self) -> bool:
        """Whether it brings segments of both modalities into one space: see `embed`."""
        return False

    def embed(self, modality: Modality, tokens: Float[Tensor, "N TxP D"]) -> Float[Tensor, "N E"]:
        """Turn the tokens of segments into unit vectors to compare between modalities.

        Raises:
            ConfigError: if the objective compares nothing.
        """
        raise ConfigError(f"{type(self).__name__} does not compare segments of the two modalities")
