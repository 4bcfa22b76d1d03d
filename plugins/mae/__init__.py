"""Masked reconstruction, an objective of stage I: patches are hidden, and rebuilt."""

from collections.abc import Mapping

from pydantic import Field, model_validator

import zoo


class DecoderConfig(zoo.ComponentConfig):
    """A light transformer that rebuilds the hidden patches of one modality."""

    width: int = Field(384, gt=0, multiple_of=4, description="channels")
    depth: int = Field(4, gt=0, description="transformer blocks")
    heads: int = Field(6, gt=0, description="attention heads")

    @model_validator(mode="after")
    def _whole_heads(self) -> "DecoderConfig":
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        return self


class MaeConfig(zoo.ComponentConfig):
    """What is hidden, what is rebuilt of it, and by what; the defaults are near the published."""

    audio_ratio: float = Field(0.8, gt=0, lt=1, description="share of the audio patches to hide")
    vision_ratio: float = Field(0.9, gt=0, lt=1, description="share of the video patches to hide")
    audio_weight: float = Field(1.0, ge=0, description="weight of the audio's loss")
    vision_weight: float = Field(1.0, ge=0, description="weight of the video's loss")
    norm_targets: bool = Field(
        True, description="rebuild every patch less its mean and divided by its spread"
    )
    audio_decoder: DecoderConfig = DecoderConfig()
    vision_decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _something_counts(self) -> "MaeConfig":
        if not self.audio_weight + self.vision_weight:
            raise ValueError("audio_weight and vision_weight are both 0, so nothing is learnt")
        return self


def _build(config: MaeConfig, encoder: "zoo.Encoder") -> "zoo.Objective":
    from plugins.mae.model import Mae

    return Mae(config, encoder)


def _chance(_config: MaeConfig, _clips: int, _num_segments: int) -> zoo.Chance:
    return zoo.Chance(loss=1.0, words="1.00, the variance of the hidden patches")


def _describe(scores: Mapping[str, float]) -> str:
    parts = ", ".join(f"{m} {scores[f'{m}_unexplained']:.1%}" for m in ("audio", "vision"))
    return (
        f"leaves {scores['unexplained']:.1%} of the hidden patches' variance unexplained "
        f"({parts}; chance 100.0%)"
    )


def _unexplained(name: str, title: str) -> zoo.Score:
    return zoo.Score(name=name, title=title, is_higher_better=False)


TINY_DECODER = DecoderConfig(width=64, depth=2, heads=2)


@zoo.hookimpl
def register_objectives() -> list[zoo.ObjectiveSpec]:
    """Register ``mae``."""
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
                "tiny": {
                    "steps": 600,
                    "lr": 3e-3,
                    "warmup_steps": 30,
                    "betas": (0.9, 0.95),
                    "weight_decay": 0.05,
                    "clips": 4,
                    "num_segments": 12,
                    "jitter_s": 0.0,
                    "valid_every": 200,
                },
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
                _unexplained("audio_loss", "audio left unexplained, training"),
                _unexplained("vision_loss", "video left unexplained, training"),
                _unexplained("unexplained", "left unexplained, valid clips"),
            ),
            search={
                "audio_ratio": zoo.Range(low=0.3, high=0.9),
                "vision_ratio": zoo.Range(low=0.5, high=0.95),
            },
            source="arXiv:2212.05922 section 3.2; arXiv:2203.12602 section 3.2",
            license="MIT",
        )
    ]
