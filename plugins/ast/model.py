"""AST on timm's distilled DeiT, with overlapping patches."""

from functools import partial
from typing import Any

from jaxtyping import Float
from timm.layers import PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from plugins.ast.config import AstConfig
from zoo.models.modules import Extractor, emphasise_change, initialise_linears


class OverlappingPatchEmbed(PatchEmbed):  # type: ignore[misc]
    """timm's patch embedding with a stride smaller than the patch."""

    def __init__(self, *args: Any, stride: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.proj.stride = stride
        sides = zip(self.img_size, self.patch_size, stride, strict=True)
        self.grid_size = tuple((size - patch) // step + 1 for size, patch, step in sides)
        self.num_patches = self.grid_size[0] * self.grid_size[1]


class Ast(Extractor):
    """Log-mel segments to features per mel band and time step (paper section 3.1)."""

    def __init__(self, config: AstConfig) -> None:
        super().__init__()
        self.map = config.feature_map()
        self.change_gain = config.change_gain
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

    def forward(self, segments: Float[Tensor, "N F Ta"]) -> Float[Tensor, "N T P D"]:
        """Extract features of log-mel segments."""
        segments = emphasise_change(segments, self.change_gain)
        x = self.vit.forward_features(segments.unsqueeze(1))  # (N, 2 + P*T, D)
        x = x[:, self.vit.num_prefix_tokens :]  # (N, P*T, D), time varies fastest
        x = x.unflatten(1, (self.map.positions, self.map.steps))  # (N, P, T, D)
        return x.transpose(1, 2)  # (N, T, P, D)
