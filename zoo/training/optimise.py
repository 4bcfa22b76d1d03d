"""Optimiser, learning-rate schedule and the step both stages take."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from zoo.errors import ConfigError, TrainingError
from zoo.models.modules import Encoder
from zoo.training.engine import unwrap
from zoo.training.recipe import OptimiserConfig

ENCODER = "encoder."
"""What stands before the names of an encoder's parameters in what is trained."""


def build_optimizer(
    module: nn.Module, config: OptimiserConfig, prefix: str = "", encoder: Encoder | None = None
) -> optim.Optimizer:
    """Build the optimiser; but for Adam vectors (biases, norms, temperatures) do not decay.

    Args:
        module: what is trained.
        config: its numbers.
        prefix: what stands before the names of its parameters in `OptimiserConfig.rates`.
        encoder: part of the module, whose layers `OptimiserConfig.layer_decay` is about.

    Raises:
        ConfigError: if no parameter that is trained has a name that ``rates`` asks for, or the
            encoder does not tell its layers.
    """
    named = [(prefix + n, p) for n, p in unwrap(module).named_parameters() if p.requires_grad]
    groups = defaultdict[tuple[float, bool], list[nn.Parameter]](list)
    factors = factors_of([name for name, _ in named], config, encoder)
    for (_, parameter), factor in zip(named, factors, strict=True):
        decays = parameter.ndim > 1 or config.optimizer == "adam"
        groups[factor, decays].append(parameter)
    listed = [
        {"params": found, "weight_decay": config.weight_decay * decays, "factor": factor}
        for (factor, decays), found in groups.items()
    ]
    if config.optimizer == "sgd":
        return optim.SGD(listed, lr=config.lr, momentum=config.momentum, fused=True)
    kind = optim.Adam if config.optimizer == "adam" else optim.AdamW
    return kind(listed, lr=config.lr, betas=config.betas, fused=True)


def factors_of(
    names: Sequence[str], config: OptimiserConfig, encoder: Encoder | None
) -> list[float]:
    """Return the factor of each parameter's learning rate: by its name, times by its layer.

    Raises:
        ConfigError: as `build_optimizer` does.
    """
    factors = rate_factors(names, config.rates)
    if config.layer_decay == 1:
        return factors
    if encoder is None:
        raise ConfigError(
            "layer_decay is about the layers of an encoder, and it is not trained",
            "leave it out, or train the encoder along",
        )
    by_layer = layer_factors(names, encoder, config.layer_decay)
    return [factor * other for factor, other in zip(factors, by_layer, strict=True)]


def layer_factors(names: Sequence[str], encoder: Encoder, decay: float) -> list[float]:
    """Return ``decay ** (L + 1 - layer)`` of each parameter; 1 behind the last of the L blocks.

    Source: scenic:projects/av_mae, after BEiT; what lies in no layer has the full rate.

    Args:
        names: of parameters, those of the encoder after ``encoder.``.
        encoder: which tells the layer of each (`zoo.Encoder.layer_of`).
        decay: factor from one layer to the one before.
    """
    last = encoder.num_layers + 1
    factors = []
    for name in names:
        is_own = name.startswith(ENCODER)
        layer = encoder.layer_of(name.removeprefix(ENCODER)) if is_own else None
        factors.append(1.0 if layer is None else decay ** (last - layer))
    return factors


def rate_factors(names: Sequence[str], rates: Mapping[str, float]) -> list[float]:
    """Return the factor of each parameter's learning rate: that of the longest fitting beginning.

    Raises:
        ConfigError: if a beginning fits no name.
    """
    for start in rates:
        if not any(name.startswith(start) for name in names):
            raise ConfigError(
                f"rates: no parameter that is trained begins with '{start}'",
                f"they begin with {', '.join(sorted({n.split('.')[0] for n in names}))}",
            )
    longest = sorted(rates, key=len)
    return [
        next((rates[start] for start in reversed(longest) if name.startswith(start)), 1.0)
        for name in names
    ]


def learning_rate(step: int, config: OptimiserConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then what the schedule says."""
    if step < config.warmup_steps:
        return config.lr * (step + (config.warmup_from == "first")) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        if step < config.decay_from:
            return config.lr
        since = step - config.decay_from
        decays = 1 + (since // config.decay_every if config.decay_every else 0)
        return config.lr * config.decay**decays
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * (1 + math.cos(math.pi * min(1.0, progress))) / 2


@dataclass(frozen=True)
class StepOutcome:
    """Loss and gradient of a step, which a GPU may still be computing.

    Attributes:
        step: counted from 0.
        numbers: the loss and the norm of its gradient before clipping, ``(2,)``, on the CPU.
        config: what the step was taken with.
        arrival: when the numbers are there; None if they are.
    """

    step: int
    numbers: Tensor
    config: OptimiserConfig
    arrival: torch.cuda.Event | None = None

    def require_finite(self) -> float:
        """Return the norm of the gradient, once it is there.

        Raises:
            TrainingError: if loss or gradient is not finite; the step changed nothing then.
        """
        if self.arrival is not None:
            self.arrival.synchronize()
        loss, norm = self.numbers.tolist()
        if not math.isfinite(loss) or not math.isfinite(norm):
            said = f"the loss is {loss:.3g}, the norm of its gradient {norm:.3g}"
            raise diverged(self.step + 1, said, self.config)
        return norm


def diverged(done: int, said: str, config: OptimiserConfig) -> TrainingError:
    """Return the error of a training whose numbers are not finite after so many steps."""
    return TrainingError(
        f"training diverged at step {done}: {said}",
        f"lower lr (now {config.lr:g}), or raise warmup_steps (now {config.warmup_steps})",
    )


def take_step(
    module: nn.Module, optimizer: optim.Optimizer, loss: Tensor, step: int, config: OptimiserConfig
) -> StepOutcome:
    """Backpropagate, clip, update unless loss or gradient is not finite, and say what they were.

    A GPU is not waited for: that would cost a large model some 6 % (docs/performance.md).
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config) * group["factor"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trainable = [p for p in module.parameters() if p.requires_grad]
    norm = nn.utils.clip_grad_norm_(trainable, config.clip_norm)
    numbers = torch.stack([loss.detach().to(norm.dtype), norm])
    # Fused optimisers leave out a step with this flag, as they do for gradient scalers.
    optimizer.found_inf = (~numbers.isfinite()).any().float()  # type: ignore[attr-defined]
    optimizer.step()
    arrival = None
    if numbers.is_cuda:
        numbers = numbers.to("cpu", non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record()
    return StepOutcome(step, numbers, config, arrival)


def seed_step(seed: int, stage: int, step: int, rank: int) -> None:
    """Make dropout and stochastic depth a function of the step, so that resuming is exact."""
    torch.manual_seed(((seed * 10 + stage) * 10_000_000 + step) * 1000 + rank)
