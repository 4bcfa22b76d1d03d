"""Configurations of the objectives ``mae``, ``avmae`` and ``inpainting``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

import zoo


class DecoderConfig(zoo.ComponentConfig):
    """A light transformer that rebuilds hidden patches."""

    width: int = Field(384, gt=0, multiple_of=4, description="channels")
    depth: int = Field(4, gt=0, description="transformer blocks")
    heads: int = Field(6, gt=0, description="attention heads")

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        return self


class HidingConfig(zoo.ComponentConfig):
    """What is hidden, and how much rebuilding it counts."""

    audio_ratio: float = Field(0.8, gt=0, lt=1, description="share of the audio patches to hide")
    vision_ratio: float = Field(0.9, gt=0, lt=1, description="share of the video patches to hide")
    audio_weight: float = Field(1.0, ge=0, description="weight of the audio's loss")
    vision_weight: float = Field(1.0, ge=0, description="weight of the video's loss")

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not self.audio_weight + self.vision_weight:
            raise ValueError("audio_weight and vision_weight are both 0, so nothing is learnt")
        return self


class MaeConfig(HidingConfig):
    """What is hidden, what is rebuilt of it, and by what; the defaults are near the published."""

    norm_targets: bool = Field(
        True, description="rebuild every patch less its mean and divided by its spread"
    )
    audio_decoder: DecoderConfig = DecoderConfig()
    vision_decoder: DecoderConfig = DecoderConfig()


class MaeOfBothConfig(HidingConfig):
    """What is hidden, from what it is rebuilt, and by which decoder."""

    audio_ratio: float = Field(0.5, gt=0, lt=1, description="share of the audio patches to hide")
    inpainting: Literal["none", "by_index", "by_place"] = Field(
        "none",
        description="rebuild a modality from what is left of both (none), or from the other one "
        "alone: its hidden patches (by_index), or, as the published code does, the patches behind "
        "as many places as the other one's tokens take (by_place)",
    )
    decoders: Literal["shared", "separate", "concat"] = Field(
        "shared",
        description="one decoder that takes either modality alone, one for each, or one that takes "
        "both together",
    )
    decoder: DecoderConfig = DecoderConfig()
    modality_tokens: bool = Field(
        False, description="add a learnt vector of its modality to all that the decoder takes"
    )
    norm_targets: bool = Field(
        False, description="rebuild every patch less its mean and divided by its spread"
    )

    @model_validator(mode="after")
    def _inpainting_has_one_target(self) -> Self:
        if self.inpainting != "none" and self.decoders == "concat":
            raise ValueError(
                "inpainting rebuilds one modality at a time, so decoders may be shared or "
                "separate, not concat"
            )
        return self
