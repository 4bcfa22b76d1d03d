"""The linear heads."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from plugins.linear import LinearConfig, LinearEachConfig, LinearSharedConfig
from zoo.contracts import HeadInput
from zoo.errors import ConfigError, option
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
        self.norm: nn.Module | None = None
        if config.norm == "layer":
            self.norm = nn.LayerNorm(dim)
        elif config.norm == "batch":
            parts = [dim] if config.pool == "tokens" else chosen
            self.norm = ProbeNorm(parts)
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


class ProbeNorm(nn.Module):
    """A LayerNorm of each part of a vector, and a BatchNorm of all of it; neither is trained.

    Source: scenic's ViT with frozen features, after MAE's linear probe.  A trained scale between
    the two would change nothing.
    """

    def __init__(self, parts: Sequence[int]) -> None:
        super().__init__()
        self.parts = list(parts)
        self.batch_norm = nn.BatchNorm1d(sum(parts), eps=1e-6, momentum=0.1, affine=False)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Normalise.

        Raises:
            ConfigError: if it trains on one clip, which has no spread.
        """
        if self.training and len(x) == 1:
            raise ConfigError(
                "head.norm=batch compares the clips of a worker's batch, and it has one",
                f"add {option('set')} stage2.batch=N, with two clips or more for each worker",
            )
        parts = x.split(self.parts, dim=1)
        normalised: Tensor = self.batch_norm(
            torch.cat([layer_norm(part, part.shape[1:], eps=1e-6) for part in parts], dim=1)
        )
        return normalised


class LinearEachHead(Head):
    """Linear layers on audio, on video and on both, of which one learns at every step (AVSiam).

    The encoder gives the tokens of both modalities together, and of each by itself, side by side.
    """

    may_skip_parameters = True

    def __init__(self, config: LinearEachConfig, head_input: HeadInput) -> None:
        super().__init__()
        if head_input.audio.passes != 2 or head_input.vision.passes != 2:
            raise ConfigError(
                "head 'linear_each' takes an encoder that gives tokens of both modalities together "
                f"and of each by itself, such as avsiam with {option('set')} encoder.mode=both"
            )
        self.config = config
        audio, vision = head_input.audio.dim, head_input.vision.dim
        widths = {"both": audio + vision, "audio": audio, "vision": vision}
        self.classifiers = nn.ModuleDict(
            {
                name: nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, head_input.num_outputs))
                for name, dim in widths.items()
            }
        )

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Return a logit per class: of the layer that learns, or of the one that answers."""
        name = self._sampled() if self.training else self.config.streams
        together, apart = zip(*(self._means(tokens) for tokens in (audio, vision)), strict=True)
        given = {"both": torch.cat(together, dim=1), "audio": apart[0], "vision": apart[1]}
        logits: Tensor = self.classifiers[name](given[name])
        return logits

    def _sampled(self) -> str:
        """Choose which layer learns, by torch's random numbers, which follow the step."""
        chosen, config = float(torch.rand(())), self.config
        if chosen < config.audio_share:
            return "audio"
        return "vision" if chosen < config.audio_share + config.vision_share else "both"

    @staticmethod
    def _means(tokens: Tokens) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Return the means of the tokens of both modalities together, and of this one apart."""
        together, apart = tokens.values.chunk(2, dim=3)
        return together.mean(dim=(1, 2, 3)), apart.mean(dim=(1, 2, 3))


class LinearSharedHead(Head):
    """One linear layer for both modalities, on the mean of the tokens of each (AV-MAE's MBT).

    In training every modality answers for itself, so that each can have labels of its own.
    Modalities of different widths get a layer each.
    """

    may_skip_parameters = True  # of two layers, where one modality answers

    def __init__(self, config: LinearSharedConfig, head_input: HeadInput) -> None:
        super().__init__()
        self.streams = config.streams
        audio, vision = head_input.audio.dim, head_input.vision.dim
        self.classifier = nn.Linear(audio, head_input.num_outputs)
        self.of_vision = None if audio == vision else nn.Linear(vision, head_input.num_outputs)
        for layer in filter(None, (self.classifier, self.of_vision)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, audio: Tokens, vision: Tokens
    ) -> Float[Tensor, "B K"] | Float[Tensor, "B 2 K"]:
        """Return a logit per class; in training one per modality (audio, vision) and class."""
        layers = {"audio": self.classifier, "vision": self.of_vision or self.classifier}
        means = {
            name: tokens.values.mean(dim=(1, 2, 3))
            for name, tokens in (("audio", audio), ("vision", vision))
            if self.streams in {"both", name}
        }
        answers = torch.stack([layers[name](mean) for name, mean in means.items()], dim=1)
        if self.training and len(means) > 1:
            return answers  # (B, M, K)
        return answers.mean(1)
