"""A decoder of both modalities together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plugins.contrast_mae.config import ContrastMaeConfig
from zoo.contracts import Modality
from zoo.models.patches import MODALITIES, PatchGrid
from zoo.models.stream_block import Stack, StreamBlock, initialise_vit, sine_cosine_grid

SUFFIX: dict[Modality, str] = {"audio": "a", "vision": "v"}


class JointDecoder(nn.Module):
    """Rebuilds the patches of both modalities from the kept ones of both (arXiv 2210.07839, 3.3).

    A learnt token stands for every hidden patch; positions and a vector of the modality are added
    to all.

    Args:
        config: its sizes.
        grids: where the patches lie.
        width: of the encoder.
    """

    def __init__(
        self, config: ContrastMaeConfig, grids: Mapping[Modality, PatchGrid], width: int
    ) -> None:
        super().__init__()
        dim = config.decoder_width
        self.grids = dict(grids)
        self.decoder_modality_a: nn.Parameter
        self.decoder_modality_v: nn.Parameter
        self.decoder_embed = nn.Linear(width, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.decoder_blocks = Stack(
            StreamBlock(dim, config.decoder_heads) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(dim)
        for modality, suffix in SUFFIX.items():
            grid, is_fixed = grids[modality], config.decoder_positions == "sine_cosine"
            table = sine_cosine_grid(dim, grid.rows, grid.columns).repeat(grid.frames, 1)
            table = (table if is_fixed else torch.zeros_like(table))[None]
            self.register_parameter(
                f"decoder_pos_embed_{suffix}", nn.Parameter(table, requires_grad=not is_fixed)
            )
            self.register_parameter(
                f"decoder_modality_{suffix}", nn.Parameter(torch.zeros(1, 1, dim))
            )
            self.add_module(f"decoder_pred_{suffix}", nn.Linear(dim, grid.values))
        initialise_vit(self)
        if config.decoder_positions == "sine_cosine":
            for token in (self.mask_token, self.decoder_modality_a, self.decoder_modality_v):
                nn.init.normal_(token, std=0.02)

    def forward(
        self, kept: Mapping[Modality, Float[Tensor, "N M D"]], keep: Mapping[Modality, Tensor]
    ) -> dict[Modality, Float[Tensor, "N L W"]]:
        """Decode all patches, in the order of their numbers."""
        parts = [self._spread(m, kept[m], keep[m]) for m in MODALITIES]
        x = self.decoder_norm(self.decoder_blocks(torch.cat(parts, dim=1)))
        return dict(zip(MODALITIES, x.split([part.shape[1] for part in parts], 1), strict=True))

    def _spread(
        self, modality: Modality, kept: Float[Tensor, "N M D"], keep: Int[Tensor, "N M"]
    ) -> Float[Tensor, "N L W"]:
        """Put tokens where their patches lie, and the mask token everywhere else."""
        tokens = self.decoder_embed(kept)
        shape = len(tokens), self.grids[modality].num_patches, -1
        spread = self.mask_token.to(tokens.dtype).expand(*shape)
        spread = spread.scatter(1, keep.unsqueeze(2).expand_as(tokens), tokens)
        suffix = SUFFIX[modality]
        positions: Tensor = getattr(self, f"decoder_pos_embed_{suffix}")
        own: Tensor = getattr(self, f"decoder_modality_{suffix}")
        return spread + positions + own

    def predict(
        self, modality: Modality, decoded: Float[Tensor, "N M W"]
    ) -> Float[Tensor, "N M E"]:
        """Return the values of patches, channels fastest."""
        layer: nn.Linear = getattr(self, f"decoder_pred_{SUFFIX[modality]}")
        return layer(decoded)
