"""ResNet-18 on timm's blocks, with one input channel."""

import torch
from jaxtyping import Float
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor

from plugins.resnet18.config import ResNet18Config
from zoo.models.modules import Extractor, emphasise_change

LAYERS, STAGES = (2, 2, 2, 2), (1, 2, 4, 8)


class ResNet18(Extractor):
    """Spectrograms of segments to features per band and time step (paper table 4)."""

    def __init__(self, config: ResNet18Config) -> None:
        super().__init__()
        self.change_gain = config.change_gain
        self.resnet = ResNet(
            BasicBlock,
            LAYERS,
            in_chans=1,
            num_classes=0,
            global_pool="",
            channels=tuple(config.width * stage for stage in STAGES),
        )

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the backward pass."""
        self.resnet.set_grad_checkpointing(True)

    def forward(self, segments: Float[Tensor, "N F Ta"]) -> Float[Tensor, "N T P D"]:
        """Extract features of log-mels, or of spectrograms."""
        segments = emphasise_change(segments, self.change_gain)
        x = segments.unsqueeze(1).to(memory_format=torch.channels_last)  # faster on CPUs
        x = self.resnet.forward_features(x)  # (N, D, P, T)
        return x.permute(0, 3, 2, 1)
