"""The decoder of the objective ``avmae``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plugins.mae.config import MaeOfBothConfig
from zoo.contracts import Modality
from zoo.models.modules import take_patches
from zoo.models.patches import MODALITIES, OTHER, PatchGrid
from zoo.models.stream_block import (
    JAX_EPS,
    NormedStack,
    initialise_jax_vit,
    jax_blocks,
    sine_cosine_row,
)

Both = Mapping[Modality, Tensor]


class PatchDecoder(nn.Module):
    """Rebuilds patches (arXiv 2212.05922 section 3.2).

    Projections, mask tokens and predictions are each modality's own.  Modalities see each other
    only where the decoder takes both together (``concat``).

    Args:
        config: its sizes.
        grids: where the patches lie.
        width: of the encoder.
    """

    def __init__(
        self, config: MaeOfBothConfig, grids: Mapping[Modality, PatchGrid], width: int
    ) -> None:
        super().__init__()
        sizes, dim = config.decoder, config.decoder.width
        self.config = config
        self.embed = nn.ModuleDict({m: nn.Linear(width, dim) for m in MODALITIES})
        self.mask_token = nn.ParameterDict({m: nn.Parameter(torch.zeros(dim)) for m in MODALITIES})
        self.modality_tokens = nn.ParameterDict()
        if config.modality_tokens:
            self.modality_tokens.update({m: nn.Parameter(torch.zeros(dim)) for m in MODALITIES})
        names = MODALITIES if config.decoders == "separate" else ("both",)
        self.stacks = nn.ModuleDict(
            {
                name: NormedStack(jax_blocks(sizes.depth, dim, sizes.heads), dim, JAX_EPS)
                for name in names
            }
        )
        self.predict = nn.ModuleDict({m: nn.Linear(dim, grids[m].values) for m in MODALITIES})
        initialise_jax_vit(self)
        for modality, grid in grids.items():
            table = sine_cosine_row(dim, grid.num_patches)
            self.register_buffer(f"positions_{modality}", table, persistent=False)
            nn.init.zeros_(self.predict[modality].weight)  # type: ignore[arg-type]

    def forward(self, kept: Both, keep: Both, hidden: Both) -> dict[Modality, Tensor]:
        """Return the values of the hidden patches ``(N, H, E)``, channels fastest."""
        decoded = self.decode(kept, keep)
        return {m: self.predict[m](take_patches(x, hidden[m])) for m, x in decoded.items()}

    def decode(self, kept: Both, keep: Both) -> dict[Modality, Float[Tensor, "N L W"]]:
        """Decode all patches of the modalities that are given, in the order of their numbers."""
        full = {m: self._spread(m, x, keep[m]) for m, x in kept.items()}
        if self.config.decoders != "concat":
            return {m: self._stack(m)(x) for m, x in full.items()}
        order = list(reversed(full))  # video comes first, as published
        both = self._stack("both")(torch.cat([full[m] for m in order], dim=1))
        parts = both.split([full[m].shape[1] for m in order], dim=1)
        return dict(zip(order, parts, strict=True))

    def inpaint(
        self, modality: Modality, kept: Both, keep: Both, hidden: Int[Tensor, "N H"]
    ) -> Float[Tensor, "N H E"]:
        """Rebuild hidden patches of a modality from the other one's tokens alone."""
        other = OTHER[modality]
        given = self.embed[other](kept[other]) + self._place(other, keep[other])
        wanted = self.mask_token[modality] + self._place(modality, hidden)
        decoded = self._stack(modality)(torch.cat([given, wanted.to(given.dtype)], dim=1))
        return self.predict[modality](decoded[:, given.shape[1] :])

    def decode_in_places(self, modality: Modality, kept: Both) -> Float[Tensor, "N L W"]:
        """Decode a modality whose first places hold the other one's tokens, as published.

        The positions are those of the places, which say nothing of where the tokens are from.
        """
        given = self.embed[OTHER[modality]](kept[OTHER[modality]])
        positions: Tensor = getattr(self, f"positions_{modality}")
        left = len(positions) - given.shape[1]
        mask = self.mask_token[modality].to(given.dtype).expand(len(given), left, -1)
        x = torch.cat([given, mask], dim=1) + positions + self._vector(modality)
        decoded: Tensor = self._stack(modality)(x)
        return decoded

    def _stack(self, name: str) -> nn.Module:
        return self.stacks[name if name in self.stacks else "both"]

    def _vector(self, modality: Modality) -> Tensor | float:
        return self.modality_tokens[modality] if self.config.modality_tokens else 0.0

    def _place(self, modality: Modality, numbers: Int[Tensor, "N M"]) -> Float[Tensor, "N M W"]:
        """Return what is added to the patches of these numbers."""
        positions: Tensor = getattr(self, f"positions_{modality}")
        return positions[numbers] + self._vector(modality)

    def _spread(
        self, modality: Modality, kept: Float[Tensor, "N M D"], keep: Int[Tensor, "N M"]
    ) -> Float[Tensor, "N L W"]:
        """Put tokens where their patches lie, and the mask token everywhere else."""
        tokens = self.embed[modality](kept)
        positions: Tensor = getattr(self, f"positions_{modality}")
        mask = self.mask_token[modality].to(tokens.dtype)
        spread = mask.expand(len(tokens), len(positions), -1)
        spread = spread.scatter(1, keep.unsqueeze(2).expand_as(tokens), tokens)
        return spread + positions + self._vector(modality)
