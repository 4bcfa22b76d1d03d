"""The encoder: one stack of blocks with norms for either modality, and joint blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.avsiam.config import AvsiamConfig
from zoo.contracts import Modality
from zoo.models.patches import MaskableEncoder
from zoo.models.stream_block import (
    PatchEmbed,
    Stack,
    StreamBlock,
    add_times,
    initialise_vit,
    sine_cosine_grid,
)

STREAMS: dict[Modality, str] = {"audio": "a", "vision": "v"}
TABLES: dict[str, Modality] = {
    "pos_embed_a": "audio",
    "pos_embed": "vision",
    "time_embed": "vision",
}


class AudioBlocks(nn.Module):
    """Blocks for audio alone, which share nothing with video."""

    def __init__(self, config: AvsiamConfig) -> None:
        super().__init__()
        self.scale = 2.0 if config.doubled else 1.0
        self.blocks = Stack(StreamBlock(config.width, config.heads) for _ in range(config.depth))
        self.norm_a = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, patches: Float[Tensor, "N M D"]) -> Float[Tensor, "N M D"]:
        """Run the blocks, and the norm after them."""
        encoded: Tensor = self.norm_a(self.blocks(self.scale * patches))
        return encoded


class Avsiam(MaskableEncoder):
    """AVSiam (arXiv 2403.19638 section 3.1).

    Audio and video share attention and MLPs; patch embeddings, positions and norms are their own.
    The joint blocks take all tokens through the norms of one stream, as published.
    """

    tables: ClassVar[Mapping[str, Modality]] = TABLES
    embeddings = ("patch_embed", "pos_embed", "time_embed")

    def __init__(self, config: AvsiamConfig) -> None:
        super().__init__(config)
        self.stacks = {"blocks": 0, "joint": config.depth}
        self.config = config
        (rows, columns), (frames, height, width) = config.audio_grid, config.vision_grid
        dim, patch = config.width, config.patch
        self.scale = 2.0 if config.doubled else 1.0
        self.patch_embed_a, self.patch_embed = PatchEmbed(1, patch, dim), PatchEmbed(3, patch, dim)
        self.pos_embed_a = nn.Parameter(sine_cosine_grid(dim, rows, columns)[None])
        self.pos_embed = nn.Parameter(sine_cosine_grid(dim, height, width).repeat(frames, 1)[None])
        self.time_embed = nn.Parameter(torch.zeros(frames, 1, dim)) if frames > 1 else None
        self.blocks = Stack(StreamBlock(dim, config.heads, ("a", "v")) for _ in range(config.depth))
        self.norm, self.norm_a = (nn.LayerNorm(dim, eps=config.norm_eps) for _ in range(2))
        self.joint = Stack(
            StreamBlock(dim, config.heads, ("a",)) for _ in range(config.joint_depth)
        )
        initialise_vit(self)

    def embedding(self, modality: Modality) -> tuple[PatchEmbed, Float[Tensor, "1 L D"]]:
        """Return the positions of a modality."""
        if modality == "audio":
            return self.patch_embed_a, self.pos_embed_a
        return self.patch_embed, add_times(self.pos_embed, self.time_embed)

    def encode_modality(
        self, modality: Modality, patches: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run the shared blocks with the norms of a modality, and the norm after them."""
        norm = self.norm_a if modality == "audio" else self.norm
        encoded: Tensor = norm(self.blocks(self.scale * patches, STREAMS[modality]))
        return encoded

    def own_audio_blocks(self) -> AudioBlocks:
        """Return a copy of the shared blocks with the norms of audio.

        Source: AVSiam's published Base, whose reconstruction takes audio through a second ViT
        (``ast_base``); the paper has one for both.
        """
        own = AudioBlocks(self.config)
        state = self.state_dict()
        for name in own.state_dict():
            theirs = re.sub(r"(norm[12])\.", r"\1_a.", name)
            own.get_parameter(name).data = state[theirs].clone()
        return own

    def compare_parts(
        self, modality: Modality, parts: Sequence[Float[Tensor, "N M D"]]
    ) -> list[Float[Tensor, "N M D"]]:
        """Run the shared blocks on all parts at once."""
        norm = self.norm_a if modality == "audio" else self.norm
        scaled = [self.scale * part for part in parts]
        encoded = self.blocks.together(scaled, STREAMS[modality])
        return [norm(part) for part in encoded]

    def compare(
        self, modality: Modality, encoded: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Return the tokens as they are."""
        return encoded

    def fuse(
        self, audio: Float[Tensor, "N A D"], vision: Float[Tensor, "N V D"]
    ) -> tuple[Float[Tensor, "N A D"], Float[Tensor, "N V D"]]:
        """Run the joint blocks on both modalities together."""
        both: Tensor = self.joint(torch.cat([audio, vision], dim=1), "a")
        return both[:, : audio.shape[1]], both[:, audio.shape[1] :]
