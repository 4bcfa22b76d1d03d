"""Masked reconstruction, objectives of stage I: patches are hidden, and rebuilt."""

from collections.abc import Mapping
from typing import Any

import zoo
from plugins.mae.config import DecoderConfig, MaeConfig, MaeOfBothConfig

TINY_DECODER = DecoderConfig(width=64, depth=2, heads=2)
TINY_STAGE: dict[str, Any] = {
    "steps": 600,
    "lr": 3e-3,
    "warmup_steps": 30,
    "betas": (0.9, 0.95),
    "weight_decay": 0.05,
    "clips": 4,
    "num_segments": 12,
    "jitter_s": 0.0,
    "valid_every": 200,
}
# 400 epochs of VGGSound's 172,427 clips, 512 a step, of which 40 warm up (supplement, table A13).
EPOCH = 172_427 // 512
PAPER_STAGE: dict[str, Any] = {
    "steps": 400 * EPOCH,
    "lr": 3e-4,
    "warmup_steps": 40 * EPOCH,
    "betas": (0.9, 0.95),
    "weight_decay": 0.05,
    "clip_norm": 1e9,
    "clips": 512,
    "num_segments": 1,
    "jitter_s": 0.0,
    "frame_choices": 10,
    "valid_every": EPOCH,
    "checkpoint_every": EPOCH,
}


def _build(config: MaeConfig, encoder: "zoo.Encoder") -> "zoo.Objective":
    from plugins.mae.model import Mae

    return Mae(config, encoder)


def _build_both(config: MaeOfBothConfig, encoder: "zoo.Encoder") -> "zoo.Objective":
    from plugins.mae.both import MaeOfBoth

    return MaeOfBoth(config, encoder)


def _chance(_config: MaeConfig, _clips: int, _num_segments: int) -> zoo.Chance:
    return zoo.Chance(loss=1.0, words="1.00, the variance of the hidden patches")


def _chance_of_both(config: MaeOfBothConfig, clips: int, num_segments: int) -> zoo.Chance:
    if config.norm_targets:
        return _chance(MaeConfig(), clips, num_segments)
    return zoo.Chance(scores={"unexplained": 1.0})


def _describe(scores: Mapping[str, float]) -> str:
    parts = ", ".join(
        f"{m} {scores[name]:.1%}"
        for m in ("audio", "vision")
        if (name := f"{m}_unexplained") in scores
    )
    return (
        f"leaves {scores['unexplained']:.1%} of the hidden patches' variance unexplained "
        f"({parts}; chance 100.0%)"
    )


def _lower(name: str, title: str) -> zoo.Score:
    return zoo.Score(name=name, title=title, is_higher_better=False)


def _of_both(name: str, summary: str, **given: Any) -> zoo.ObjectiveSpec:
    tiny = {"audio_ratio": 0.5, "vision_ratio": 0.5, "decoder": TINY_DECODER}
    return zoo.ObjectiveSpec(
        name=name,
        summary=summary,
        config_class=MaeOfBothConfig,
        build=_build_both,
        presets={"paper": MaeOfBothConfig(**given), "tiny": MaeOfBothConfig(**tiny, **given)},
        stage1={"tiny": TINY_STAGE, "paper": PAPER_STAGE},
        chance=_chance_of_both,
        describe=_describe,
        curves=(_lower("unexplained", "left unexplained, valid clips"),),
        search={
            "audio_ratio": zoo.Range(low=0.3, high=0.9),
            "vision_ratio": zoo.Range(low=0.5, high=0.95),
        },
        source="arXiv:2212.05922 section 3.2",
        license="MIT",
    )


@zoo.hookimpl
def register_objectives() -> list[zoo.ObjectiveSpec]:
    """Register ``mae``, ``avmae`` and ``inpainting``."""
    return [
        zoo.ObjectiveSpec(
            name="mae",
            summary="masked reconstruction: rebuild the hidden patches of both modalities",
            config_class=MaeConfig,
            build=_build,
            presets={
                "paper": MaeConfig(),
                "tiny": MaeConfig(
                    audio_ratio=0.5,
                    vision_ratio=0.5,  # of 9 large patches a frame, few neighbours are left else
                    norm_targets=False,
                    audio_decoder=TINY_DECODER,
                    vision_decoder=TINY_DECODER,
                ),
            },
            stage1={
                "tiny": TINY_STAGE,
                "paper": {
                    "steps": 200_000,
                    "lr": 3e-4,
                    "warmup_steps": 10_000,
                    "betas": (0.9, 0.95),
                    "weight_decay": 0.05,
                    "valid_every": 5000,
                },
            },
            chance=_chance,
            describe=_describe,
            curves=(
                _lower("audio_loss", "audio left unexplained, training"),
                _lower("vision_loss", "video left unexplained, training"),
                _lower("unexplained", "left unexplained, valid clips"),
            ),
            search={
                "audio_ratio": zoo.Range(low=0.3, high=0.9),
                "vision_ratio": zoo.Range(low=0.5, high=0.95),
            },
            source="arXiv:2212.05922 section 3.2; arXiv:2203.12602 section 3.2",
            license="MIT",
        ),
        _of_both("avmae", "rebuild hidden patches of both modalities from what is left of both"),
        _of_both(
            "inpainting",
            "rebuild hidden patches of each modality from what is left of the other one",
            inpainting="by_index",
        ),
    ]
