"""The linear head that answers slot by slot."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from plugins.linear import LinearSlotsConfig
from zoo.contracts import FeatureMap, HeadInput
from zoo.models.modules import Head
from zoo.models.segments import Tokens
from zoo.timeline import SegmentLayout, SlotGrid


class LinearSlotsHead(Head):
    """One linear layer, the same for every slot, on the mean of its tokens, after a norm.

    The tokens of a slot are those whose time lies in it, whatever the segments: ten of 1 s, half
    overlapping ones, or a single one of 10 s.  Where there is none, the nearest in time is taken,
    so that a modality of one frame gives every slot the same.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, config: LinearSlotsConfig, head_input: HeadInput) -> None:
        super().__init__()
        slots = head_input.require_slots("linear_slots")
        maps = {"audio": head_input.audio, "vision": head_input.vision}
        self.chosen = [name for name in maps if config.streams in {"both", name}]
        dim = sum(maps[name].dim for name in self.chosen)
        num_labels, rest = divmod(head_input.num_outputs, slots.num_slots)
        assert not rest, "as many outputs for every slot"
        for name in self.chosen:
            weights = _weights(maps[name], head_input.layout, slots)
            self.register_buffer(f"{name}_weights", weights, persistent=False)
        self.norm: nn.LayerNorm | None = None
        if config.norm == "layer":
            self.norm = nn.LayerNorm(dim)
        else:
            self.register_buffer("mean", torch.zeros(dim))
            self.register_buffer("spread", torch.ones(dim))
        self.context: nn.Conv1d | None = None
        if config.context:
            self.context = nn.Conv1d(dim, dim, 2 * config.context + 1, padding=config.context)
        self.classifier = nn.Linear(dim, num_labels)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @torch.no_grad()
    def initialise(self, audio: Tokens, vision: Tokens) -> None:
        """Centre and scale the channels: most of a token is what all tokens share."""
        if self.norm is not None:
            return
        pooled = self._pooled(audio, vision).flatten(0, 1)  # (B*slots, D)
        self.mean.copy_(pooled.mean(dim=0))
        self.spread.copy_(pooled.std(dim=0).clamp_min(1e-6) if len(pooled) > 1 else self.spread)

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Return a logit per slot and label, the labels of a slot side by side."""
        pooled = self._pooled(audio, vision)
        scaled = (pooled - self.mean) / self.spread if self.norm is None else self.norm(pooled)
        if self.context is not None:
            scaled = scaled + gelu(self.context(scaled.mT)).mT
        logits: Tensor = self.classifier(scaled)  # (B, slots, labels)
        return logits.flatten(1)

    def _pooled(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B slots D"]:
        given = {"audio": audio, "vision": vision}
        parts = []
        for name in self.chosen:
            steps = given[name].values.mean(dim=3).flatten(1, 2)  # (B, S*T, D)
            parts.append(self.get_buffer(f"{name}_weights").to(steps.dtype) @ steps)
        return torch.cat(parts, dim=2)


def _weights(
    tokens: FeatureMap, layout: SegmentLayout, slots: SlotGrid
) -> Float[Tensor, "slots SxT"]:
    """Return the weight of each time step of a crop in each slot."""
    times_s = np.add.outer(layout.starts_s, tokens.times_s).ravel()
    return torch.from_numpy(slots.weights(times_s))
