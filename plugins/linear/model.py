"""The linear head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.linear import LinearConfig
from zoo.contracts import HeadInput
from zoo.models.modules import Head
from zoo.models.segments import Tokens


class LinearHead(Head):
    """One linear layer on the mean of all tokens, standardised as the first batch was."""

    mean: Tensor
    spread: Tensor

    def __init__(self, config: LinearConfig, head_input: HeadInput) -> None:
        super().__init__()
        self.streams = config.streams
        widths = {"audio": head_input.audio.dim, "vision": head_input.vision.dim}
        dim = sum(widths[name] for name in widths if config.streams in {"both", name})
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))
        self.classifier = nn.Linear(dim, head_input.num_outputs)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @torch.no_grad()
    def initialise(self, audio: Tokens, vision: Tokens) -> None:
        """Centre and scale the channels: most of a token is what all tokens share."""
        pooled = self._pooled(audio, vision)
        self.mean.copy_(pooled.mean(dim=0))
        self.spread.copy_(pooled.std(dim=0).clamp_min(1e-6) if len(pooled) > 1 else self.spread)

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Return a logit per class."""
        pooled = (self._pooled(audio, vision) - self.mean) / self.spread
        return self.classifier(pooled)

    def _pooled(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B D"]:
        given = {"audio": audio, "vision": vision}
        chosen = [given[name] for name in given if self.streams in {"both", name}]
        return torch.cat([tokens.values.mean(dim=(1, 2, 3)) for tokens in chosen], dim=1)
