"""Which weights stage II leaves behind: those of the best validation, or an average."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.contracts import TaskSpec


class Best:
    """The best validation so far."""

    def __init__(self, task: TaskSpec) -> None:
        self.task = task
        self.scores: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}
        self.waited = 0

    def update(
        self, scores: Mapping[str, float], module: nn.Module, has_left: bool, *, keeps: bool = True
    ) -> None:
        """Keep scores, and weights, if they are better; no patience is lost at chance."""
        if not self.scores or self.task.rank_of(scores) > self.task.rank_of(self.scores):
            self.scores = dict(scores)
            self.weights = copy_weights(module) if keeps else {}
            self.waited = 0
        elif has_left:
            self.waited += 1


class Average:
    """The mean of the weights after several epochs (CAV-MAE's weight averaging)."""

    def __init__(self, weights: dict[str, Tensor] | None = None, num: int = 0) -> None:
        self.weights, self.num = weights or {}, num

    @torch.no_grad()
    def add(self, module: nn.Module) -> None:
        """Take the weights as they are now into the mean; whole numbers are not averaged."""
        self.num += 1
        for name, value in copy_weights(module).items():
            mean = self.weights.get(name)
            if mean is None or not value.is_floating_point():
                self.weights[name] = value
            else:
                mean += (value - mean) / self.num

    def give(self, module: nn.Module) -> None:
        """Leave a module with the mean."""
        module.load_state_dict(self.weights)


def copy_weights(module: nn.Module) -> dict[str, Tensor]:
    """Copy what a module's state dict holds to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
