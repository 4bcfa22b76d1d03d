"""Motionformer with divided attention, written on scaled_dot_product_attention."""

from collections.abc import Callable
from math import isqrt
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from plugins.motionformer.config import MotionformerConfig
from zoo.models.attention import attend
from zoo.models.modules import (
    MaskableExtractor,
    emphasise_change,
    initialise_linears,
    take_patches,
)

NORM_EPS = 1e-6


class DividedAttention(nn.Module):
    """Attention over time (tokens at one place) or over space (tokens of one frame).

    The CLS query attends to every token; a patch query to CLS and to its own group.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "N L D"], steps: int, over: str) -> Float[Tensor, "N L D"]:
        """Attend within groups; L = 1 + steps * positions, ordered (time, place)."""
        # Unbound and split rather than indexed, of which each would fill a gradient of full size.
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).unbind(2)  # each (N, L, h, d)
        cls_q, patch_q = q.split([1, q.shape[1] - 1], dim=1)
        cls = attend(cls_q, k, v)  # (N, 1, h, d)
        q = to_groups(patch_q, steps, over)  # (N, G, L', h, d)
        # One batch dimension: fused kernels take four dimensions, not five.
        keys, values = (with_cls(part, steps, over).flatten(0, 1) for part in (k, v))
        out = attend(q.flatten(0, 1), keys, values).unflatten(0, q.shape[:2])  # (N, G, L', h, d)
        out = out.transpose(1, 2) if over == "time" else out  # (N, t, p, h, d)
        return self.proj(torch.cat([cls, out.flatten(1, 2)], dim=1).flatten(2))

    def among(
        self, x: Float[Tensor, "N L D"], sees: Bool[Tensor, "N 1 L L"]
    ) -> Float[Tensor, "N L D"]:
        """Attend where not all patches are there, so that groups differ in size."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).unbind(2)  # each (N, L, h, d)
        return self.proj(attend(q, k, v, sees).flatten(2))


def same_group(numbers: Int[Tensor, "N M"]) -> Bool[Tensor, "N 1 L L"]:
    """Say which of CLS and the patches see each other, given the group of every patch; L = 1 + M.

    CLS, which comes first, sees and is seen by all.
    """
    sees = numbers[:, :, None] == numbers[:, None]  # (N, M, M)
    return pad(sees, (1, 0, 1, 0), value=True).unsqueeze(1)


def to_groups(patches: Tensor, steps: int, over: str) -> Float[Tensor, "N G M h d"]:
    """Group patches ``(N, t*p, h, d)`` by place, to attend over time, or by frame, over space."""
    groups = patches.unflatten(1, (steps, -1))  # (N, t, p, h, d)
    return groups.transpose(1, 2) if over == "time" else groups


def with_cls(x: Float[Tensor, "N L h d"], steps: int, over: str) -> Float[Tensor, "N G M h d"]:
    """Put the CLS token, which comes first, before every group of the patches after it."""
    cls, patches = x.split([1, x.shape[1] - 1], dim=1)
    groups = to_groups(patches, steps, over)
    shared = cls[:, None].expand(-1, groups.shape[1], -1, -1, -1)
    return torch.cat([shared, groups], dim=2)


class DividedBlock(nn.Module):
    """Time attention, space attention, MLP; stochastic depth on the last two."""

    def __init__(self, dim: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim, eps=NORM_EPS) for _ in range(3))
        self.attn = DividedAttention(dim, heads)
        self.timeattn = DividedAttention(dim, heads)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "N L D"], steps: int) -> Float[Tensor, "N L D"]:
        """Apply the block (Source: Motionformer's divided variant)."""
        x = x + self.timeattn(self.norm3(x), steps, "time")
        x = x + self.drop_path(self.attn(self.norm1(x), steps, "space"))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def among(
        self, x: Float[Tensor, "N L D"], place: Tensor, frame: Tensor
    ) -> Float[Tensor, "N L D"]:
        """Apply the block where not all patches are there; see `same_group`."""
        x = x + self.timeattn.among(self.norm3(x), place)
        x = x + self.drop_path(self.attn.among(self.norm1(x), frame))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Motionformer(MaskableExtractor):
    """Video segments to features per frame pair and patch (paper section 3.1)."""

    def __init__(self, config: MotionformerConfig) -> None:
        super().__init__()
        self.map = config.feature_map()
        self.change_gain = config.motion_gain
        self.gradient_checkpointing = False
        dim, side = config.dim, config.patch
        kernel = (config.tubelet, side, side)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.map.positions, dim))
        self.temp_embed = nn.Parameter(torch.zeros(1, self.map.steps, dim))
        self.patch_embed_3d = nn.Conv3d(3, dim, kernel, stride=kernel)
        if config.dead_patch_embed:
            self.patch_embed = nn.Conv2d(3, dim, side, stride=side).requires_grad_(False)
        last = max(1, config.depth - 1)
        depth_rates = [config.drop_path * i / last for i in range(config.depth)]
        self.blocks = nn.ModuleList(DividedBlock(dim, config.heads, rate) for rate in depth_rates)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self._initialise(config.position_std)

    def _initialise(self, position_std: float) -> None:
        # The published code leaves patch and time embeddings at zero, to be loaded; from scratch
        # that learns nothing, so everything is drawn here.
        initialise_linears(self)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for table in (self.pos_embed, self.temp_embed):
            nn.init.trunc_normal_(table, std=position_std, a=-2 * position_std, b=2 * position_std)

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the backward pass."""
        self.gradient_checkpointing = True

    def transformer_blocks(self) -> list[nn.Module]:
        """Return the blocks; their attention over space is what other extractors have too."""
        return list(self.blocks)

    def forward(self, segments: Float[Tensor, "N C Tv H W"]) -> Float[Tensor, "N T P D"]:
        """Extract features of RGB segments: `encode` of all patches, with whole groups."""
        x = self._with_cls(self.patchify(segments))  # (N, 1 + T*P, D)
        for block in self.blocks:
            x = self._run(block, x, self.map.steps)
        x = self.norm(x[:, 1:])  # (N, T*P, D)
        return x.unflatten(1, (self.map.steps, self.map.positions))  # (N, T, P, D)

    def patchify(self, segments: Float[Tensor, "N C Tv H W"]) -> Float[Tensor, "N L D"]:
        """Embed the tubelets of RGB segments and add their places and times."""
        segments = emphasise_change(segments, self.change_gain)
        x = self.patch_embed_3d(segments).flatten(3).permute(0, 2, 3, 1)  # (N, T, P, D)
        x = x + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]  # (N, T, P, D)
        return x.flatten(1, 2)

    def encode(
        self, patches: Float[Tensor, "N L D"], keep: Int[Tensor, "N M"]
    ) -> Float[Tensor, "N M D"]:
        """Run the blocks on CLS and the kept patches: each sees those of its place, or frame."""
        place, frame = keep % self.map.positions, keep // self.map.positions
        sees = same_group(place), same_group(frame)
        x = self._with_cls(take_patches(patches, keep))  # (N, 1 + M, D)
        for block in self.blocks:
            x = self._run(cast(DividedBlock, block).among, x, *sees)
        return self.norm(x[:, 1:])

    def targets(self, segments: Float[Tensor, "N C Tv H W"]) -> Float[Tensor, "N L E"]:
        """Return the RGB values of every tubelet."""
        segments = emphasise_change(segments, self.change_gain)
        frames, side, _ = self.patch_embed_3d.kernel_size
        x = segments.unflatten(4, (-1, side)).unflatten(3, (-1, side))  # (N, C, Tv, h, i, w, j)
        x = x.unflatten(2, (-1, frames)).permute(0, 2, 4, 6, 3, 5, 7, 1)  # (N, T, h, w, f, i, j, C)
        return x.flatten(1, 3).flatten(2)  # (N, T*P, f*i*j*C)

    def join(self, patches: Float[Tensor, "N L E"]) -> Float[Tensor, "N C Tv H W"]:
        """Put tubelets where they were cut out."""
        rows = isqrt(self.map.positions)
        x = patches.unflatten(2, (*self.patch_embed_3d.kernel_size, -1))
        x = x.unflatten(1, (self.map.steps, rows, rows))  # (N, T, h, w, f, i, j, C)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # (N, C, T, f, h, i, w, j)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _with_cls(self, patches: Float[Tensor, "N M D"]) -> Float[Tensor, "N L D"]:
        cls = self.cls_token + self.pos_embed[:, :1]
        # Not len(), which would fix the batch size of an exported model.
        cls = cls.expand(patches.shape[0], -1, -1)  # (N, 1, D)
        return torch.cat([cls, patches], dim=1)

    def _run(self, block: Callable[..., Tensor], x: Tensor, *given: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, *given, use_reentrant=False)
        return block(x, *given)
