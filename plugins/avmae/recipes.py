"""The numbers with which Audiovisual MAE is pre-trained, and MBT fine-tuned from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zoo

VGGSOUND, AUDIOSET_500K, AUDIOSET_2M = 172_427, 508_994, 1_857_210  # clips, as the authors had them
TEN_SECONDS: Mapping[str, Any] = {
    "encoder.audio_s": 10.0,
    "layout.segment_s": 10.0,
    "layout.step_s": 9.92,  # of a single segment; whole frames at 6.25 a second
}
_PRETRAINED: Mapping[str, Any] = {
    "stage1.betas": [0.9, 0.95],
    "stage1.weight_decay": 0.05,
    "stage1.clip_norm": 1e9,
    "stage1.warmup_from": "zero",
    "stage1.clips": 512,
    "stage1.num_segments": 1,
    "stage1.jitter_s": 0.0,
    "stage1.sampling": "wrapped",
    "stage1.frame_choices": 1,
}
_TUNED: Mapping[str, Any] = {
    "stage2.encoder": "trained",
    "stage2.optimizer": "sgd",
    "stage2.layer_decay": 0.75,
    "stage2.weight_decay": 0.0,
    "stage2.warmup_from": "zero",
    "stage2.clip_norm": 1.0,
    "stage2.mixup": 1.0,
    "stage2.mixup_by": "batch",
    "stage2.mixup_alpha": 0.5,
    "stage2.mixup_frames": "own",
    "stage2.label_smoothing": 0.3,
    "stage2.mask_fill": "zero",
    "stage2.scale_jitter": [0.9, 1.33],
    "stage2.colour_jitter": 0.8,
    "stage2.grey": 0.1,
    "stage2.sampling": "wrapped",
    "stage2.jitter_s": 0.0,
    "stage2.valid_rounds": 1,
    "encoder.stochastic_depth": 0.3,
    "data.features": "online",
}


def pretraining(
    title: str, clips: int, lr: float, epochs: int, settings: Mapping[str, Any]
) -> zoo.NamedRecipe:
    """Return the recipe of a published configuration; its warm-up is 4 epochs (the paper's: 40)."""

    def resolve(num: int) -> dict[str, Any]:
        epoch = max(1, num // 512)
        return {
            **_PRETRAINED,
            "stage1.lr": lr,
            "stage1.steps": epochs * epoch,
            "stage1.warmup_steps": 4 * epoch,
            "stage1.valid_every": epoch,
            "stage1.checkpoint_every": min(epoch, 2000),
            **settings,
        }

    summary = f"pre-training on {title}, {epochs} epochs of 512 clips a step, as configured"
    return zoo.NamedRecipe(summary=summary, clips=clips, stage="1", settings=resolve)


def fine_tuning(
    title: str, clips: int, lr: float, batch: int, settings: Mapping[str, Any]
) -> zoo.NamedRecipe:
    """Return the recipe of a published fine-tuning: 50 epochs, of which 2.5 warm up."""

    def resolve(num: int) -> dict[str, Any]:
        epoch = max(1, num // batch)
        return {
            **_TUNED,
            "stage2.lr": lr,
            "stage2.batch": batch,
            "stage2.steps": 50 * epoch,
            "stage2.warmup_steps": 5 * epoch // 2,
            "stage2.valid_every": epoch,
            "stage2.checkpoint_every": min(epoch, 2000),
            "stage2.patience": 50,
            **settings,
        }

    return zoo.NamedRecipe(
        summary=f"fine-tuning on {title}, 50 epochs of {batch} clips a step",
        task="classification",
        head="linear_shared",
        clips=clips,
        settings=resolve,
    )


PRETRAINING: Mapping[str, zoo.NamedRecipe] = {
    "vggsound": pretraining("VGGSound", VGGSOUND, 3e-4, 400, {}),
    "as2m": pretraining(
        "AudioSet-2M",
        AUDIOSET_2M,
        6e-4,
        120,
        {**TEN_SECONDS, "objective.audio_ratio": 0.7},
    ),
}


def of_mbt(settings: Mapping[str, Any]) -> Mapping[str, zoo.NamedRecipe]:
    """Return the recipes of a size of MBT; ``settings`` are for AudioSet."""
    audioset = {
        **TEN_SECONDS,
        "encoder.audio_frontend.mean": 1.102,
        "encoder.audio_frontend.std": 2.762,
        "stage2.roll": 1.0,
        "stage2.mask_bins": 36,
        "stage2.mask_bins_times": 2,
        "task.loss": "bce",
        "task.over_classes": "sum",
        **settings,
    }
    vggsound = {"stage2.mask_bins": 48, "task.loss": "ce"}
    return {
        "vggsound": fine_tuning("VGGSound", VGGSOUND, 0.8, 64, vggsound),
        "as500k": fine_tuning("AudioSet-500K", AUDIOSET_500K, 1.6, 128, audioset),
    }
