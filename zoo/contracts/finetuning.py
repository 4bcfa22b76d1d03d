"""The numbers with which CAV-MAE and AVSiam are fine-tuned, as recipes of their encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zoo.contracts.specs import NamedRecipe

# What does not differ between data sets and sizes (Source: CAV-MAE's scripts, which AVSiam shares).
_COMMON: Mapping[str, Any] = {
    "stage2.encoder": "trained",
    "stage2.optimizer": "adam",
    "stage2.betas": [0.95, 0.999],
    "stage2.weight_decay": 5e-7,
    "stage2.clip_norm": 1e9,
    "stage2.warmup_steps": 0,
    "stage2.schedule": "step",
    "stage2.jitter_s": 0.0,
    "stage2.flip": 0.0,
    "stage2.random_crop": False,
    "stage2.noise": 0.1,
    "stage2.roll": 1.0,
    "stage2.mask_bins": 48,
    "stage2.mask_frames": 192,
    "stage2.frame_choices": 10,
    "stage2.mixup": 0.5,
    "stage2.label_smoothing": 0.1,
    "stage2.valid_rounds": 1,
    "data.features": "online",
    "encoder.pool_positions": False,
}


@dataclass(frozen=True)
class LabelledData:
    """A data set as the authors had it.

    Attributes:
        title: what it is called.
        clips: to train on.
        loss: of the task classification.
    """

    title: str
    clips: int
    loss: Literal["bce", "ce"]


AS20K = LabelledData("AudioSet-20K", 18_691, "bce")
AS2M = LabelledData("AudioSet-2M", 1_772_023, "bce")
VGGSOUND = LabelledData("VGGSound", 183_727, "ce")


def fine_tuning(
    data: LabelledData,
    *,
    lr: float,
    rates: Mapping[str, float],
    batch: int,
    epochs: int,
    decay: float,
    decay_from: int,
    balanced: bool,
    settings: Mapping[str, Any],
    head: str = "linear",
    average_from: int | None = None,
) -> NamedRecipe:
    """Return the recipe of one row of the published tables; epochs become steps.

    Args:
        data: set of clips.
        lr: learning rate of all that ``rates`` does not name.
        rates: factors of the learning rate, by how names of parameters begin.
        batch: over all GPUs.
        epochs: in all.
        decay: factor after each epoch, the first time after epoch ``decay_from``.
        decay_from: epochs at the full rate.
        balanced: whether rare classes are sampled more often.
        settings: what else there is to set.
        head: of the task classification.
        average_from: first epoch whose weights are averaged; None keeps the best, and stops after
            three epochs without a better one.
    """

    def resolve(clips: int) -> dict[str, Any]:
        epoch = max(1, clips // batch)
        kept: dict[str, Any] = {"stage2.patience": 3}
        if average_from is not None:
            kept = {"stage2.average_from": average_from * epoch, "stage2.average_every": epoch}
        return {
            **_COMMON,
            "task.loss": data.loss,
            "stage2.steps": epochs * epoch,
            "stage2.batch": batch,
            "stage2.lr": lr,
            "stage2.rates": dict(rates),
            "stage2.decay": decay,
            "stage2.decay_from": decay_from * epoch,
            "stage2.decay_every": epoch,
            "stage2.balanced": balanced,
            "stage2.valid_every": epoch,
            "stage2.checkpoint_every": min(epoch, 2000),
            **kept,
            **settings,
        }

    return NamedRecipe(
        summary=f"fine-tuning on {data.title}, {epochs} epochs of {batch} clips a step",
        task="classification",
        head=head,
        clips=data.clips,
        settings=resolve,
    )
