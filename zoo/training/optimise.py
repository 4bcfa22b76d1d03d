"""Optimiser, learning-rate schedule and the step both stages take."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn, optim

from zoo.training.recipe import OptimiserConfig


def build_optimizer(module: nn.Module, config: OptimiserConfig) -> optim.Optimizer:
    """Build AdamW; vectors (biases, norms, temperatures) do not decay."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(step: int, config: OptimiserConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then what the schedule says."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
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


def take_step(
    module: nn.Module, optimizer: optim.Optimizer, loss: Tensor, step: int, config: OptimiserConfig
) -> Tensor:
    """Backpropagate, clip, update; return the gradient norm before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trainable = [p for p in module.parameters() if p.requires_grad]
    norm = nn.utils.clip_grad_norm_(trainable, config.clip_norm)
    optimizer.step()
    return norm


def seed_step(seed: int, stage: int, step: int, rank: int) -> None:
    """Make dropout and stochastic depth a function of the step, so that resuming is exact."""
    torch.manual_seed(((seed * 10 + stage) * 10_000_000 + step) * 1000 + rank)
