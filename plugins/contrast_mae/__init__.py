"""Objectives that compare both modalities, rebuild hidden patches of them, or both."""

import math
from collections.abc import Mapping
from typing import Any

import zoo
from plugins.contrast_mae.config import RATIOS, ContrastMaeConfig

SMALL: dict[str, Any] = {
    "decoder_width": 64,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "valid_clips": 4,
}
CLIPS = 1_772_023  # of AudioSet-2M as both had it


_PAPER: dict[str, Any] = {
    "warmup_steps": 0,
    "schedule": "step",
    "optimizer": "adam",
    "betas": (0.95, 0.999),
    "weight_decay": 5e-7,
    "clip_norm": 1e9,
    "num_segments": 1,
    "jitter_s": 0.0,
    "flip": 0.0,
    "random_crop": False,
    "noise": 0.1,
    "roll": 1.0,
    "frame_choices": 10,
    "checkpoint_every": 2000,
}
TINY: dict[str, Any] = {
    "steps": 600,
    "lr": 1e-3,
    "warmup_steps": 30,
    "betas": (0.9, 0.95),
    "weight_decay": 0.05,
    "clips": 4,
    "num_segments": 12,
    "jitter_s": 0.0,
    "valid_every": 200,
}


def _paper(lr: float, clips: int, epochs: int) -> dict[str, Any]:
    """Return the numbers of a published run: half the rate after 10 epochs, and every 5 from there.

    Args:
        lr: learning rate.
        clips: of a step, over all GPUs.
        epochs: in all.
    """
    epoch = CLIPS // clips
    return {
        **_PAPER,
        "lr": lr,
        "clips": clips,
        "steps": epochs * epoch,
        "decay_from": 10 * epoch,
        "decay_every": 5 * epoch,
        "valid_every": max(1, epoch // 4),
    }


def _build(config: ContrastMaeConfig, encoder: "zoo.Encoder") -> "zoo.Objective":
    from plugins.contrast_mae.model import ContrastMae

    return ContrastMae(config, encoder)


def _chance(config: ContrastMaeConfig, clips: int, num_segments: int) -> zoo.Chance:
    """Every rebuilt patch of normalised values misses by its variance, 1."""
    num, parts = clips * num_segments, []
    mae_weight, contrast_weight = config.weights
    if contrast_weight:
        parts.append(f"{contrast_weight:g} ln {num}")
    if mae_weight:
        parts.append(f"{2 * mae_weight:g} x the variance of the hidden patches")
    is_known = config.norm_targets or not mae_weight
    loss = 2 * mae_weight + contrast_weight * math.log(num)
    return zoo.Chance(
        loss=loss if is_known else None,
        words=f"{' + '.join(parts)} = {loss:.2f}" if is_known else "",
        margin=0.05 * mae_weight + 0.1 * contrast_weight,
        scores={"contrast_accuracy": 1 / num, "found": 1 / (config.valid_clips * num_segments)}
        if contrast_weight
        else {},
    )


def _describe(scores: Mapping[str, float]) -> str:
    parts = []
    if "audio_loss" in scores:
        parts.append(
            f"rebuilds audio to {scores['audio_loss']:.3f}, video {scores['vision_loss']:.3f}"
        )
    if "found" in scores:
        parts.append(
            f"finds the audio of a video in {scores['found']:.1%} of cases "
            f"(chance {scores['chance']:.1%})"
        )
    return ", ".join(parts)


def _objective(
    name: str, summary: str, source: str, paper: Mapping[str, Any], **given: Any
) -> zoo.ObjectiveSpec:
    return zoo.ObjectiveSpec(
        name=name,
        summary=summary,
        config_class=ContrastMaeConfig,
        build=_build,
        presets={
            "paper": ContrastMaeConfig(**given),
            "tiny": ContrastMaeConfig(**{**given, **SMALL}),
        },
        stage1={"paper": paper, "tiny": TINY},
        chance=_chance,
        describe=_describe,
        curves=(
            zoo.Score(name="contrast_accuracy", title="right audio of the batch"),
            zoo.Score(name="found", title="right audio of a few clips"),
        ),
        search={"audio_ratio": zoo.Range(low=0.5, high=0.9)},
        source=source,
        license="MIT",
    )


@zoo.hookimpl
def register_objectives() -> list[zoo.ObjectiveSpec]:
    """Register ``cav``, ``cavmae`` and ``avsiam``."""
    base = _paper(lr=5e-5, clips=48, epochs=25)  # CAV-MAE's base model
    return [
        _objective(
            "cav",
            "contrast alone: which audio goes with which video",
            "arXiv:2210.07839 section 3.2",
            base,
            mae_weight=0.0,
            contrast_weight=1.0,
        ),
        _objective(
            "cavmae",
            "contrast, and reconstruction of hidden patches by a decoder of both modalities",
            "arXiv:2210.07839 section 3.3",
            base,
        ),
        _objective(
            "avsiam",
            "contrast at several mask ratios at once, and reconstruction behind a stop-gradient",
            "arXiv:2403.19638 section 3",
            _paper(lr=1e-4, clips=96 * 16, epochs=20),
            contrast_weight=1.0,
            symmetric=True,
            contrast_ratios=RATIOS,
            stop_gradient=True,
            decoder_positions="learnt",
        ),
    ]
