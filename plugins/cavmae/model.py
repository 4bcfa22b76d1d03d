"""The encoder: patches, a stack of blocks for each modality, shared blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.cavmae.config import CavMaeConfig
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
    "pos_embed_v": "vision",
    "time_embed_v": "vision",
}


class CavMae(MaskableEncoder):
    """CAV-MAE (arXiv 2210.07839 section 3.3).

    Both modalities pass through blocks of their own.  The shared blocks then see them together
    (``fuse``), or one of them with norms of its own (``compare``).
    """

    tables: ClassVar[Mapping[str, Modality]] = TABLES
    embeddings = ("patch_embed_", "pos_embed_", "time_embed_", "modality_")

    def __init__(self, config: CavMaeConfig) -> None:
        super().__init__(config)
        self.stacks = {"blocks_a": 0, "blocks_v": 0, "blocks_u": config.depth}
        (rows, columns), (frames, height, width) = config.audio_grid, config.vision_grid
        patch, dim = config.patch, config.width
        self.patch_embed_a = PatchEmbed(1, patch, dim)
        self.patch_embed_v = PatchEmbed(3, patch, dim)
        self.modality_a = nn.Parameter(torch.empty(1, 1, dim))
        self.modality_v = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed_a = nn.Parameter(sine_cosine_grid(dim, rows, columns)[None])
        positions = sine_cosine_grid(dim, height, width).repeat(frames, 1)
        self.pos_embed_v = nn.Parameter(positions[None])
        self.time_embed_v = nn.Parameter(torch.zeros(frames, 1, dim)) if frames > 1 else None

        def stack(depth: int, *streams: str) -> Stack:
            return Stack(StreamBlock(dim, config.heads, streams) for _ in range(depth))

        self.blocks_a, self.blocks_v = stack(config.depth, ""), stack(config.depth, "")
        self.blocks_u = stack(config.shared_depth, "", "a", "v")
        self.norm, self.norm_a, self.norm_v = (nn.LayerNorm(dim) for _ in range(3))
        initialise_vit(self)
        for token in (self.modality_a, self.modality_v):
            nn.init.normal_(token, std=0.02)

    def embedding(self, modality: Modality) -> tuple[PatchEmbed, Float[Tensor, "1 L D"]]:
        """Return positions and the vector of the modality, added up."""
        if modality == "audio":
            return self.patch_embed_a, self.pos_embed_a + self.modality_a
        positions = add_times(self.pos_embed_v, self.time_embed_v)
        return self.patch_embed_v, positions + self.modality_v

    def encode_modality(
        self, modality: Modality, patches: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run the blocks of one modality."""
        stack: Stack = getattr(self, f"blocks_{STREAMS[modality]}")
        return stack(patches)

    def compare_parts(
        self, modality: Modality, parts: Sequence[Float[Tensor, "N M D"]]
    ) -> list[Float[Tensor, "N M D"]]:
        """Run both stacks on all parts at once."""
        stream = STREAMS[modality]
        own: Stack = getattr(self, f"blocks_{stream}")
        norm: nn.LayerNorm = getattr(self, f"norm_{stream}")
        encoded = own.together(parts)
        return [norm(part) for part in self.blocks_u.together(encoded, stream)]

    def compare(
        self, modality: Modality, encoded: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run the shared blocks on one modality, with its own norms."""
        stream = STREAMS[modality]
        norm: nn.LayerNorm = getattr(self, f"norm_{stream}")
        return norm(self.blocks_u(encoded, stream))

    def fuse(
        self, audio: Float[Tensor, "N A D"], vision: Float[Tensor, "N V D"]
    ) -> tuple[Float[Tensor, "N A D"], Float[Tensor, "N V D"]]:
        """Run the shared blocks on both modalities together."""
        both = self.norm(self.blocks_u(torch.cat([audio, vision], dim=1)))
        return both[:, : audio.shape[1]], both[:, audio.shape[1] :]
