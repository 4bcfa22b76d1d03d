"""The encoder ``avmae``: four ways to fuse the modalities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.avmae.config import AvmaeConfig, TubeletConfig
from zoo.contracts import Modality
from zoo.errors import ConfigError
from zoo.models.patches import MODALITIES, OTHER, MaskableEncoder
from zoo.models.stream_block import (
    JAX_EPS,
    NormedStack,
    PatchEmbed,
    StreamBlock,
    initialise_jax_vit,
    jax_blocks,
    sine_cosine_row,
)


class TubeletEncoder(MaskableEncoder):
    """Patches of both modalities at fixed positions, each modality counted from 0."""

    positions_audio: Tensor
    positions_vision: Tensor
    embeddings = ("embed.", "modality_tokens.")
    modalities: tuple[Modality, ...] = MODALITIES
    """Modalities that there are weights for."""

    def __init__(self, config: TubeletConfig) -> None:
        super().__init__(config)
        dim, patch = config.width, config.patch
        embeds = {
            "audio": PatchEmbed(config.audio_channels, patch, dim),
            "vision": PatchEmbed(3, patch, dim, config.tubelet),
        }
        self.embed = nn.ModuleDict({m: embeds[m] for m in self.modalities})
        for modality, grid in self.grids.items():  # no parameters: positions of any length exist
            table = sine_cosine_row(dim, grid.num_patches)[None]
            self.register_buffer(f"positions_{modality}", table, persistent=False)

    def embedding(self, modality: Modality) -> tuple[PatchEmbed, Float[Tensor, "1 L D"]]:
        """Return the positions of a modality.

        Raises:
            ConfigError: if there are no weights for it.
        """
        if modality not in self.modalities:
            raise ConfigError(
                f"the encoder has no weights for {modality}: set encoder.modalities=both, "
                f"or let the head read {OTHER[modality]} alone: head.streams={OTHER[modality]}"
            )
        embed = self.embed[modality]
        assert isinstance(embed, PatchEmbed)
        return embed, getattr(self, f"positions_{modality}")

    @abstractmethod
    def blocks_of(self, modality: Modality) -> tuple[list[StreamBlock], nn.LayerNorm | None]:
        """Return the blocks that a modality passes through, and the norm after all of them.

        The norm is None where the modalities do not share it: one that only a modality's own
        blocks end with is of no use after others.
        """


class Avmae(TubeletEncoder):
    """Audiovisual MAE's encoder (arXiv 2212.05922 section 3.1).

    With ``early`` and ``mid`` the modalities see each other; with ``mid`` the blocks of a modality
    end with a norm of their own before the joint ones.
    """

    def __init__(self, config: AvmaeConfig) -> None:
        super().__init__(config)
        self.config = config
        num_joint = {"early": config.depth, "shared": config.depth, "separate": 0}.get(
            config.fusion, config.joint_layers
        )
        blocks = jax_blocks(config.depth, config.width, config.heads, config.stochastic_depth)
        split = config.depth - num_joint

        def stack(first: int, last: int) -> NormedStack:
            return NormedStack(blocks[first:last], config.width, JAX_EPS)

        self.own = nn.ModuleDict()
        if config.fusion in {"separate", "mid"}:
            self.own["audio"] = stack(0, split)
            blocks = jax_blocks(config.depth, config.width, config.heads, config.stochastic_depth)
            self.own["vision"] = stack(0, split)
        self.joint = stack(split, config.depth) if num_joint else None
        self.stacks = {f"own.{modality}.blocks": 0 for modality in self.own}
        if self.joint is not None:
            self.stacks["joint.blocks"] = split
        self.modality_tokens = nn.ParameterDict()
        if config.modality_tokens:
            for modality in MODALITIES:
                self.modality_tokens[modality] = nn.Parameter(torch.zeros(config.width))
        initialise_jax_vit(self)

    @property
    def keeps_apart(self) -> bool:
        """Whether the modalities do not meet."""
        return super().keeps_apart or self.config.fusion in {"shared", "separate"}

    def embedding(self, modality: Modality) -> tuple[PatchEmbed, Float[Tensor, "1 L D"]]:
        """Return the positions of a modality, and the vector that tells it from the other one."""
        embed, positions = super().embedding(modality)
        if self.config.modality_tokens:
            positions = positions + self.modality_tokens[modality]
        return embed, positions

    def encode_modality(
        self, modality: Modality, patches: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run the blocks that see one modality only, and the norm after them."""
        return self._alone(modality, [patches])[0]

    def _alone(self, modality: Modality, parts: Sequence[Tensor]) -> list[Tensor]:
        if self.config.fusion == "early":
            return list(parts)
        stack = self.joint if self.config.fusion == "shared" else self.own[modality]
        assert isinstance(stack, NormedStack)
        return stack.together(parts)

    def compare(
        self, modality: Modality, encoded: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run the joint blocks, if there are any, on one modality."""
        return self._top([encoded])[0]

    def compare_parts(
        self, modality: Modality, parts: Sequence[Float[Tensor, "N M D"]]
    ) -> list[Float[Tensor, "N M D"]]:
        """Run all blocks on all parts at once."""
        return self._top(self._alone(modality, parts))

    def _top(self, parts: Sequence[Tensor]) -> list[Tensor]:
        if self.config.fusion in {"shared", "separate"}:
            return list(parts)
        assert self.joint is not None
        return self.joint.together(parts)

    def fuse(
        self, audio: Float[Tensor, "N A D"], vision: Float[Tensor, "N V D"]
    ) -> tuple[Float[Tensor, "N A D"], Float[Tensor, "N V D"]]:
        """Run the joint blocks on both modalities together; the others stay apart."""
        if self.config.fusion in {"shared", "separate"}:
            return audio, vision
        both = self._top([torch.cat([vision, audio], dim=1)])[0]  # in the published order
        return both[:, vision.shape[1] :], both[:, : vision.shape[1]]

    def blocks_of(self, modality: Modality) -> tuple[list[StreamBlock], nn.LayerNorm | None]:
        """Return the blocks that a modality passes through, and the norm of the joint ones."""
        stacks = [self.own[modality]] if modality in self.own else []
        stacks += [] if self.joint is None else [self.joint]
        blocks = [block for stack in stacks for block in stack.blocks]  # type: ignore[union-attr]
        return blocks, None if self.joint is None else self.joint.norm
