"""The linear head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.linear import LinearConfig
from zoo.contracts import HeadInput
from zoo.errors import ConfigError
from zoo.models.modules import Head
from zoo.models.segments import Tokens


class LinearHead(Head):
    """One linear layer on the mean of all tokens, after a norm."""

    mean: Tensor
    spread: Tensor

    def __init__(self, config: LinearConfig, head_input: HeadInput) -> None:
        super().__init__()
        self.streams, self.pool = config.streams, config.pool
        widths = {"audio": head_input.audio.dim, "vision": head_input.vision.dim}
        chosen = [widths[name] for name in widths if config.streams in {"both", name}]
        if config.pool == "tokens" and len(set(chosen)) > 1:
            raise ConfigError(
                f"head.pool=tokens takes tokens of one width, not {chosen[0]} and {chosen[1]}"
            )
        dim = chosen[0] if config.pool == "tokens" else sum(chosen)
        self.norm: nn.LayerNorm | None = None
        if config.norm == "layer":
            self.norm = nn.LayerNorm(dim)
        else:
            self.register_buffer("mean", torch.zeros(dim))
            self.register_buffer("spread", torch.ones(dim))
        self.classifier = nn.Linear(dim, head_input.num_outputs)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @torch.no_grad()
    def initialise(self, audio: Tokens, vision: Tokens) -> None:
        """Centre and scale the channels: most of a token is what all tokens share."""
        if self.norm is not None:
            return
        pooled = self._pooled(audio, vision)
        self.mean.copy_(pooled.mean(dim=0))
        self.spread.copy_(pooled.std(dim=0).clamp_min(1e-6) if len(pooled) > 1 else self.spread)

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Return a logit per class."""
        pooled = self._pooled(audio, vision)
        if self.norm is not None:
            return self.classifier(self.norm(pooled))
        return self.classifier((pooled - self.mean) / self.spread)

    def _pooled(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B D"]:
        given = {"audio": audio, "vision": vision}
        chosen = [given[name] for name in given if self.streams in {"both", name}]
        if self.pool == "tokens":
            return torch.cat([tokens.flat for tokens in chosen], dim=1).mean(dim=1)
        return torch.cat([tokens.values.mean(dim=(1, 2, 3)) for tokens in chosen], dim=1)
