"""S3D on torchvision's blocks, of any width."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential
from torchvision.models.video.s3d import SepInceptionBlock3D, TemporalSeparableConv
from torchvision.ops.misc import Conv3dNormActivation

from plugins.s3d.config import S3dConfig
from zoo.models.modules import Extractor, emphasise_change

PUBLISHED_WIDTH = 64
# Channels of the inception blocks between poolings (arXiv 1712.04851): branch 0, then middle and
# end of branches 1 and 2, branch 3.
BLOCKS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


class S3d(Extractor):
    """RGB segments to features per time step and place (paper table 4).

    A bridge makes them narrower (SparseSync, arXiv 2210.07055).
    At the published width, tensors are named as in torchvision's model, which brings the weights.
    """

    def __init__(self, config: S3dConfig) -> None:
        super().__init__()
        self.map = config.feature_map()
        self.motion_gain = config.motion_gain
        self.gradient_checkpointing = False
        self.features = nn.Sequential(*_layers(config.width, config.norm_momentum))
        self.bridge = build_bridge(config)

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the backward pass."""
        self.gradient_checkpointing = True

    def forward(self, segments: Float[Tensor, "N C Tv H W"]) -> Float[Tensor, "N T P D"]:
        """Extract features of RGB segments."""
        x = emphasise_change(segments, self.motion_gain)
        x = x.to(memory_format=torch.channels_last_3d)  # a training step takes half the time
        if self.gradient_checkpointing and torch.is_grad_enabled():
            x = checkpoint_sequential(self.features, 4, x, use_reentrant=False)
        else:
            x = self.features(x)  # (N, D, T, H, W)
        return self.bridge(x).flatten(3).permute(0, 2, 3, 1)


def build_bridge(config: S3dConfig) -> nn.Module:
    """Build what makes the features narrower, or leaves them as they are."""
    if config.bridge is None:
        return nn.Identity()
    return nn.Sequential(nn.Conv3d(16 * config.width, config.bridge, 1), nn.GELU())


def _layers(width: int, momentum: float) -> list[nn.Module]:
    norm = partial(nn.BatchNorm3d, eps=1e-3, momentum=momentum)

    def scaled(channels: int) -> int:
        return channels * width // PUBLISHED_WIDTH

    def spatial_pool() -> nn.Module:
        return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    channels = 192
    layers = [
        TemporalSeparableConv(3, width, 7, 2, 3, norm),
        spatial_pool(),
        Conv3dNormActivation(width, width, kernel_size=1, norm_layer=norm),
        TemporalSeparableConv(width, scaled(channels), 3, 1, 1, norm),
        spatial_pool(),
    ]
    pools: tuple[list[nn.Module], ...] = (
        [],
        [nn.MaxPool3d(3, stride=2, padding=1)],
        [nn.MaxPool3d(2, stride=2)],
    )
    for pool, blocks in zip(pools, BLOCKS, strict=True):
        layers += pool
        for block in blocks:
            layers.append(SepInceptionBlock3D(scaled(channels), *map(scaled, block), norm))
            channels = block[0] + block[2] + block[4] + block[5]
    return layers
