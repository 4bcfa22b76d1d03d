"""AST on timm's distilled DeiT, with overlapping patches."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from timm.layers import PatchEmbed
from timm.models import checkpoint_seq
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn
from torch.nn.functional import fold

from plugins.ast.config import AstConfig
from zoo.models.modules import (
    MaskableExtractor,
    emphasise_change,
    initialise_linears,
    take_patches,
)


class OverlappingPatchEmbed(PatchEmbed):  # type: ignore[misc]
    """timm's patch embedding with a stride smaller than the patch."""

    def __init__(self, *args: Any, stride: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.proj.stride = stride
        sides = zip(self.img_size, self.patch_size, stride, strict=True)
        self.grid_size = tuple((size - patch) // step + 1 for size, patch, step in sides)
        self.num_patches = self.grid_size[0] * self.grid_size[1]


class Ast(MaskableExtractor):
    """Log-mel segments to features per mel band and time step (paper section 3.1)."""

    def __init__(self, config: AstConfig) -> None:
        super().__init__()
        self.map = config.feature_map()
        self.change_gain = config.change_gain
        self.patch, self.stride = config.patch, config.stride
        mel_frames = config.frontend.num_frames(config.segment_s)
        self.vit = VisionTransformerDistilled(
            img_size=(config.frontend.n_mels, mel_frames),
            patch_size=config.patch,
            in_chans=1,
            num_classes=0,
            embed_dim=config.dim,
            depth=config.depth,
            num_heads=config.heads,
            embed_layer=partial(OverlappingPatchEmbed, stride=config.stride),
            norm_layer=partial(nn.LayerNorm, eps=config.norm_eps),
        )
        initialise_linears(self.vit)

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the backward pass."""
        self.vit.set_grad_checkpointing(True)

    def transformer_blocks(self) -> list[nn.Module]:
        """Return the blocks of DeiT."""
        return list(self.vit.blocks)

    def forward(self, segments: Float[Tensor, "N F Ta"]) -> Float[Tensor, "N T P D"]:
        """Extract features of log-mel segments."""
        segments = emphasise_change(segments, self.change_gain)
        x = self.vit.forward_features(segments.unsqueeze(1))  # (N, 2 + P*T, D)
        x = x[:, self.vit.num_prefix_tokens :]  # (N, P*T, D), time varies fastest
        x = x.unflatten(1, (self.map.positions, self.map.steps))  # (N, P, T, D)
        return x.transpose(1, 2)  # (N, T, P, D)

    def patchify(self, segments: Float[Tensor, "N F Ta"]) -> Float[Tensor, "N L D"]:
        """Embed overlapping patches of log-mel segments and add their positions."""
        segments = emphasise_change(segments, self.change_gain)
        x = self.vit.patch_embed(segments.unsqueeze(1))  # (N, P*T, D), time varies fastest
        x = x + self.vit.pos_embed[:, self.vit.num_prefix_tokens :]
        x = x.unflatten(1, (self.map.positions, self.map.steps))  # (N, P, T, D)
        return x.transpose(1, 2).flatten(1, 2)  # (N, T*P, D)

    def encode(
        self, patches: Float[Tensor, "N L D"], keep: Int[Tensor, "N M"]
    ) -> Float[Tensor, "N M D"]:
        """Run the blocks on the two special tokens and the kept patches."""
        vit, num = self.vit, self.vit.num_prefix_tokens
        special = torch.cat([vit.cls_token, vit.dist_token], dim=1) + vit.pos_embed[:, :num]
        special = special.expand(patches.shape[0], -1, -1)  # (N, 2, D)
        x = torch.cat([special, take_patches(patches, keep)], dim=1)  # (N, 2 + M, D)
        x = checkpoint_seq(vit.blocks, x) if vit.grad_checkpointing else vit.blocks(x)
        return vit.norm(x)[:, num:]  # (N, M, D)

    def targets(self, segments: Float[Tensor, "N F Ta"]) -> Float[Tensor, "N L E"]:
        """Return the patch x patch log-mel values of every patch; neighbours may share some."""
        segments = emphasise_change(segments, self.change_gain)
        x = segments.unfold(1, self.patch, self.stride[0])  # (N, P, Ta, f)
        x = x.unfold(2, self.patch, self.stride[1])  # (N, P, T, f, t)
        return x.transpose(1, 2).flatten(1, 2).flatten(2)  # (N, T*P, f*t)

    def join(self, patches: Float[Tensor, "N L E"]) -> Float[Tensor, "N F Ta"]:
        """Put patches where they were cut out; values that several of them hold are averaged."""
        size = tuple(
            (num - 1) * stride + self.patch
            for num, stride in zip((self.map.positions, self.map.steps), self.stride, strict=True)
        )
        x = patches.unflatten(1, (self.map.steps, self.map.positions))  # (N, T, P, f*t)
        x = x.permute(0, 3, 2, 1).flatten(2)  # (N, f*t, P*T)
        total, count = (
            fold(y, size, self.patch, stride=self.stride) for y in (x, torch.ones_like(x))
        )
        return (total / count).squeeze(1)
