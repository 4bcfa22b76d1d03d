"""A transformer block that serves several streams, and fixed positions on a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from timm.layers import Attention, Mlp
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from zoo.models.attention import attend

Sizes = Sequence[tuple[int, int]]
JAX_EPS = 1e-6
CUT_NORMAL_STD = 0.87962566  # spread of a normal distribution that is cut off at two


class StreamBlock(nn.Module):
    """A pre-norm transformer block whose attention and MLP serve several streams.

    Every stream has a pair of norms of its own, called ``norm1_a`` and ``norm2_a`` for the stream
    ``a``; those of the stream ``""`` are called as in any ViT.  (Source: CAV-MAE, arXiv
    2210.07839 section 3.2; AVSiam, arXiv 2403.19638.)

    Args:
        width: D, channels.
        heads: attention heads.
        streams: names of the streams.
        eps: of the norms.
        gelu: exact, or the tanh approximation of JAX's models.
        drop: probability that a sequence skips attention, and the same for the MLP, in training.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        streams: Sequence[str] = ("",),
        eps: float = 1e-5,
        gelu: Literal["none", "tanh"] = "none",
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.drop = drop
        self.attn = Attention(width, heads, qkv_bias=True)
        self.mlp = Mlp(width, 4 * width, act_layer=partial(nn.GELU, approximate=gelu))
        for stream in streams:
            self.add_module(norm_name("norm1", stream), nn.LayerNorm(width, eps=eps))
            self.add_module(norm_name("norm2", stream), nn.LayerNorm(width, eps=eps))

    def forward(self, x: Float[Tensor, "N M D"], stream: str = "") -> Float[Tensor, "N M D"]:
        """Apply the block with the norms of a stream."""
        return self.packed(x.flatten(0, 1), [(len(x), x.shape[1])], stream).view_as(x)

    def packed(self, rows: Float[Tensor, "R D"], sizes: Sizes, stream: str) -> Float[Tensor, "R D"]:
        """Apply the block to sequences of several lengths at once, their tokens in a row.

        Args:
            rows: of all parts, one part after the other.
            sizes: N and M of every part.
            stream: whose norms all of them take.
        """
        norm1, norm2 = (getattr(self, norm_name(name, stream)) for name in ("norm1", "norm2"))
        rows = rows + self._survives(self._attend(norm1(rows), sizes), sizes)
        return rows + self._survives(self.mlp(norm2(rows)), sizes)

    def _survives(self, branch: Float[Tensor, "R D"], sizes: Sizes) -> Float[Tensor, "R D"]:
        """Drop a branch of some sequences in training (stochastic depth).

        What is left is not scaled up, in training as in evaluation (Source: scenic's ViT).
        """
        if not (self.training and self.drop):
            return branch
        kept = [
            (torch.rand(num, device=branch.device) >= self.drop).repeat_interleave(length)
            for num, length in sizes
        ]
        return branch * torch.cat(kept)[:, None].to(branch.dtype)

    def _attend(self, rows: Float[Tensor, "R D"], sizes: Sizes) -> Float[Tensor, "R D"]:
        """Let every sequence attend to itself; the products with weights take all rows at once."""
        qkv = self.attn.qkv(rows)  # (R, 3*D)
        parts = qkv.split([num * length for num, length in sizes])
        outs = []
        for part, (num, length) in zip(parts, sizes, strict=True):
            split = part.view(num, length, 3, self.attn.num_heads, self.attn.head_dim)
            outs.append(attend(*split.unbind(2)).flatten(2).flatten(0, 1))  # (n*l, D)
        return self.attn.proj(torch.cat(outs) if len(outs) > 1 else outs[0])


class Stack(nn.ModuleList):
    """Blocks one after the other."""

    saves_memory = False

    def forward(self, x: Float[Tensor, "N M D"], stream: str = "") -> Float[Tensor, "N M D"]:
        """Apply all blocks with the norms of one stream."""
        return self.together([x], stream)[0]

    def together(
        self, parts: Sequence[Tensor], stream: str = "", first: int = 0, last: int | None = None
    ) -> list[Tensor]:
        """Apply blocks to sequences of several lengths at once.

        The weights are read, and their gradients added up, once instead of once per part.

        Args:
            parts: ``(N, M, D)`` each; N and M may differ.
            stream: whose norms they take.
            first: number of the first block.
            last: number of the first one that is left out again; None: none is.
        """
        sizes = [(len(x), x.shape[1]) for x in parts]
        flat = [x.flatten(0, 1) for x in parts]
        rows = torch.cat(flat) if len(flat) > 1 else flat[0]
        for block in list(self)[first:last]:
            assert isinstance(block, StreamBlock)
            if self.saves_memory and self.training:
                rows = checkpoint(block.packed, rows, sizes, stream, use_reentrant=False)
            else:
                rows = block.packed(rows, sizes, stream)
        given = rows.split([num * length for num, length in sizes])
        return [part.view_as(x) for part, x in zip(given, parts, strict=True)]

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the backward pass."""
        self.saves_memory = True


class NormedStack(nn.Module):
    """Blocks one after the other, and a norm after the last."""

    def __init__(self, blocks: Iterable[StreamBlock], width: int, eps: float) -> None:
        super().__init__()
        self.blocks = Stack(blocks)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Float[Tensor, "N M D"]) -> Float[Tensor, "N M D"]:
        """Apply all blocks and the norm."""
        return self.together([x])[0]

    def together(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Apply them to sequences of several lengths at once, ``(N, M, D)`` each."""
        return [self.norm(part) for part in self.blocks.together(parts)]


def jax_blocks(
    depth: int, width: int, heads: int, stochastic_depth: float = 0.0
) -> list[StreamBlock]:
    """Return blocks as scenic's ViT has them: norms of eps 1e-6, tanh GELU.

    Args:
        depth: number of blocks.
        width: D, channels.
        heads: attention heads.
        stochastic_depth: probability of the last block to be skipped; it rises from 0.
    """
    rates = [stochastic_depth * number / max(1, depth - 1) for number in range(depth)]
    return [StreamBlock(width, heads, eps=JAX_EPS, gelu="tanh", drop=rate) for rate in rates]


class PatchEmbed(nn.Module):
    """The weights that embed patches, as a convolution whose stride is its size."""

    def __init__(self, channels: int, patch: int, width: int, frames: int | None = None) -> None:
        super().__init__()
        self.num_values = channels * (frames or 1) * patch**2
        self.proj: nn.Conv2d | nn.Conv3d
        if frames is None:
            self.proj = nn.Conv2d(channels, width, patch, patch)
        else:
            size = (frames, patch, patch)
            self.proj = nn.Conv3d(channels, width, size, size)

    def forward(self, patches: Float[Tensor, "N M E"]) -> Float[Tensor, "N M D"]:
        """Embed patches that are cut already, channels varying slowest.

        Patches of fewer channels than there are weights for are repeated.
        """
        copies = self.num_values // patches.shape[2]
        if copies > 1:
            patches = patches.repeat(1, 1, copies)
        return linear(patches, self.proj.weight.flatten(1), self.proj.bias)


@torch.no_grad()
def initialise_vit(module: nn.Module) -> None:
    """Fill weights as MAE does: Xavier uniform, a patch embedding as the matrix that it is."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.view(len(part.weight), -1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@torch.no_grad()
def initialise_jax_vit(module: nn.Module) -> None:
    """Fill weights as scenic's ViT does.

    Matrices are Xavier uniform, those of query, key and value each by itself; embeddings of patches
    are normal, cut off at two, with a spread of one over the root of their inputs.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            std = part.weight[0].numel() ** -0.5 / CUT_NORMAL_STD
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        elif isinstance(part, nn.Linear):
            for weight in part.weight.chunk(3) if name.endswith("qkv") else (part.weight,):
                nn.init.xavier_uniform_(weight)
        else:
            continue
        assert part.bias is not None
        if ".mlp." in name:
            nn.init.normal_(part.bias, std=1e-6)
        else:
            nn.init.zeros_(part.bias)


def norm_name(norm: str, stream: str) -> str:
    """Return what the norm of a stream is called."""
    return f"{norm}_{stream}" if stream else norm


def add_times(
    positions: Float[Tensor, "1 FxL D"], times: Float[Tensor, "F 1 D"] | None
) -> Float[Tensor, "1 FxL D"]:
    """Add a vector of its own to the positions of every frame; None: there is a single frame."""
    if times is None:
        return positions
    return (positions.unflatten(1, (len(times), -1)) + times).flatten(1, 2)


def sine_cosine_row(width: int, length: int) -> Float[Tensor, "L D"]:
    """Return fixed positions of a row: sines and cosines in turn (Source: scenic's ViT).

    Args:
        width: D, even.
        length: L.
    """
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


def sine_cosine_grid(width: int, rows: int, columns: int) -> Float[Tensor, "L D"]:
    """Return fixed positions of a grid, row by row (Source: MAE, arXiv 2111.06377).

    The first half of the channels tells the column, the second half the row; each half is all
    sines, then all cosines.

    Args:
        width: D, a multiple of 4.
        rows: of the grid.
        columns: of the grid.
    """
    quarter = width // 4
    rates = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    halves = []
    for numbers in (
        torch.arange(columns).repeat(rows),
        torch.arange(rows).repeat_interleave(columns),
    ):
        angles = numbers[:, None] * rates
        halves.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    return torch.cat(halves, dim=1).float()
