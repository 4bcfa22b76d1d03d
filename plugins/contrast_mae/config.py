"""Configuration of the objectives of this plugin: what is hidden, rebuilt and compared."""

from typing import Literal

from pydantic import Field, model_validator

import zoo
from zoo.contracts import MaskMode

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)


class ContrastMaeConfig(zoo.ComponentConfig):
    """Weights of both losses, what is hidden, and the decoder."""

    mae_weight: float = Field(1.0, ge=0, description="weight of rebuilding hidden patches; 0: none")
    contrast_weight: float = Field(
        0.01, ge=0, description="weight of telling which audio goes with which video; 0: none"
    )
    audio_ratio: float = Field(0.75, gt=0, lt=1, description="share of the audio patches to hide")
    vision_ratio: float = Field(0.75, gt=0, lt=1, description="share of the video patches to hide")
    audio_mask: MaskMode = Field("unstructured", description="how audio patches are hidden")
    norm_targets: bool = Field(
        True, description="rebuild every patch less its mean and divided by its spread"
    )
    audio_encoder: Literal["shared", "own"] = Field(
        "shared",
        description="what encodes audio for the reconstruction; own: a second stack of blocks, as "
        "in AVSiam's published Base",
    )
    stop_gradient: bool = Field(
        False, description="rebuild from tokens that pass no gradient back to the encoder's blocks"
    )
    alternating: bool = Field(
        False,
        description="step contrast and reconstruction in turn, each with weight 1 and an optimiser "
        "of its own, as AVSiam's published code does",
    )
    temperature: float = Field(0.05, gt=0, description="divides cosines of the contrast")
    symmetric: bool = Field(
        False, description="contrast both ways; else every video looks for its audio, as published"
    )
    contrast_ratios: tuple[float, ...] = Field(
        (),
        description="shares to hide in a pass of the contrast's own, one per part of the batch; "
        "empty contrasts what the reconstruction keeps",
    )
    contrast_audio_mask: MaskMode = Field("both", description="how that pass hides audio patches")
    valid_clips: int = Field(
        12, gt=0, description="clips of a validation among which the right audio is looked for"
    )
    decoder_width: int = Field(512, gt=0, multiple_of=4, description="channels of the decoder")
    decoder_depth: int = Field(8, gt=0, description="blocks of the decoder")
    decoder_heads: int = Field(16, gt=0, description="attention heads of the decoder")
    decoder_positions: Literal["sine_cosine", "learnt"] = Field(
        "sine_cosine", description="fixed, or learnt from zero"
    )

    @model_validator(mode="after")
    def _fits(self) -> "ContrastMaeConfig":
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_heads={self.decoder_heads} does not divide decoder_width="
                f"{self.decoder_width}"
            )
        if not self.mae_weight + self.contrast_weight:
            raise ValueError("mae_weight and contrast_weight are both 0, so nothing is learnt")
        if any(not 0 <= ratio < 1 for ratio in self.contrast_ratios):
            raise ValueError("contrast_ratios must be shares from 0 to below 1")
        if self.alternating and not self.mae_weight * self.contrast_weight:
            raise ValueError(
                "alternating=true steps contrast and reconstruction in turn, so neither mae_weight "
                "nor contrast_weight may be 0"
            )
        return self

    @model_validator(mode="after")
    def _own_audio_encoder_is_trained(self) -> "ContrastMaeConfig":
        if self.audio_encoder == "shared":
            return self
        if not self.mae_weight or self.stop_gradient:
            name = "stop_gradient=true" if self.mae_weight else "mae_weight=0"
            raise ValueError(f"audio_encoder=own would never be trained with {name}")
        if self.contrast_weight and not self.contrast_ratios:
            raise ValueError(
                "audio_encoder=own needs a contrast with a pass of its own: set contrast_ratios, "
                "such as [0] to hide nothing"
            )
        return self

    @property
    def weights(self) -> tuple[float, float]:
        """Of reconstruction and contrast in the loss; in turns both are 1."""
        return (1.0, 1.0) if self.alternating else (self.mae_weight, self.contrast_weight)
