"""Mixup of a worker's batch with itself reversed, as MBT does it, and what heads answer to it.

Source: scenic:dataset_lib and projects/mbt.  The partner of item i of B is item B - 1 - i.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.data.augment import Softening
from zoo.data.sampling import batch_rng
from zoo.errors import ConfigError, option
from zoo.models.segments import Segments
from zoo.models.task import Task

NUM_MODALITIES = 2


def draw_shares(config: Softening, seed: int, step: int, rank: int) -> Float[Tensor, M]:
    """Return the first clip's share of a worker's batch: of audio, and of video; 1 mixes nothing.

    Args:
        config: how often batches are mixed, and how the shares are distributed.
        seed: of the run.
        step: of stage II.
        rank: of the worker, whose batch has shares of its own.
    """
    rng = batch_rng(seed, 2, step, rank)
    shares = np.ones(NUM_MODALITIES)
    if rng.random() < config.mixup:
        drawn = rng.beta(config.mixup_alpha, config.mixup_alpha, NUM_MODALITIES)
        shares = drawn if config.mixup_frames == "own" else drawn[:1].repeat(NUM_MODALITIES)
    return torch.from_numpy(shares.astype(np.float32))


def mix_reversed(x: Tensor, share: Tensor) -> Tensor:
    """Mix every item of a batch with its partner, of which it takes ``1 - share``."""
    return share * x + (1 - share) * x.flip(0)


def mix_segments(segments: Segments, shares: Float[Tensor, M]) -> Segments:
    """Mix the spectrograms of a batch, and its normalised frames."""
    audio, vision = shares
    return Segments(mix_reversed(segments.audio, audio), mix_reversed(segments.vision, vision))


def soften_batch(
    task: Task, labels: Float[Tensor, "B K"], shares: Float[Tensor, M], config: Softening
) -> Float[Tensor, "B K"] | Float[Tensor, "B M K"]:
    """Mix labels as the clips were, then spread a share of each over all K classes.

    With ``mixup_frames=own`` each modality has labels of its own, audio first.
    """
    if config.has_own_labels:
        mixed = torch.stack([mix_reversed(labels, share) for share in shares], dim=1)  # (B, M, K)
    else:
        mixed = mix_reversed(labels, shares[0])
    return task.smooth(mixed, config.label_smoothing)


def mean_loss(
    task: Task, outputs: Tensor, targets: Tensor, sigma: float, *, is_per_modality: bool = False
) -> Tensor:
    """Return the task's loss; of a head that answers for M modalities the mean over them.

    Args:
        task: whose loss it is.
        outputs: ``(B, K)``, or ``(B, M, K)`` of a head that answers for each modality.
        targets: of the batch.
        sigma: see `Task.loss`.
        is_per_modality: whether targets are ``(B, M, ...)``, those of each modality.
    """
    if outputs.ndim == 2:
        return task.loss(outputs, targets, sigma)
    parts = targets.unbind(1) if is_per_modality else (targets,) * outputs.shape[1]
    answers = zip(outputs.unbind(1), parts, strict=True)
    return torch.stack([task.loss(answer, part, sigma) for answer, part in answers]).mean()


def require_answers(shape: Sequence[int], head: str) -> None:
    """Check that a head answers for each modality where each has labels of its own.

    Args:
        shape: of what it gives while it trains.
        head: its name.

    Raises:
        ConfigError: if it does not.
    """
    if len(shape) == 3 and shape[1] == NUM_MODALITIES:
        return
    raise ConfigError(
        "stage2.mixup_frames=own with mixup_by=batch gives audio and video labels of their own, "
        f"and the head '{head}' does not answer for each of them",
        f"take another head, or {option('set')} stage2.mixup_frames=same",
    )
