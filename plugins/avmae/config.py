"""Configurations of the encoders ``avmae`` and ``mbt``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

import zoo
from zoo.contracts import AudioFrontend

# 16 frames at a stride of 4, 32 at a stride of 2: both are 2.56 s, as [-1, 1].
SPARSE_FRAMES = zoo.Frames(fps=6.25)
DENSE_FRAMES = zoo.Frames(fps=12.5)
LARGE: dict[str, Any] = {"width": 1024, "heads": 16, "depth": 24}


class TubeletConfig(zoo.PatchEncoderConfig):
    """Tubelets of video and patches of a spectrogram, counted by time, at fixed positions."""

    time_first: ClassVar[bool] = True
    audio_frontend: AudioFrontend = Field(
        zoo.MelAmplitude(), description="the spectrogram of audio"
    )
    audio_s: float = Field(8.0, gt=0, description="audio of a segment, seconds; AudioSet: 10")
    audio_channels: Literal[1, 3] = Field(
        1, description="times that the embedding of audio sees the spectrogram; VGGSound's MBT: 3"
    )
    vision_s: float = Field(2.56, gt=0, description="video of a segment, seconds")
    tubelet: int = Field(2, gt=0, description="frames that a patch of video covers")
    depth: int = Field(12, gt=0, description="blocks that a modality passes through")
    stochastic_depth: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that a clip skips the last block, in training; it rises from 0",
    )

    @property
    def patch_frames(self) -> int:
        """Frames that a patch of video covers."""
        return self.tubelet


class AvmaeConfig(TubeletConfig):
    """Audiovisual MAE's encoder (arXiv 2212.05922 section 3.1)."""

    vision_frontend: zoo.Frames = SPARSE_FRAMES
    fusion: Literal["early", "shared", "separate", "mid"] = Field(
        "mid",
        description="early: one transformer on both modalities together; shared: its weights on "
        "each alone; separate: one for each; mid: one for each, and joint blocks on top",
    )
    joint_layers: int = Field(
        2, gt=0, description="S, how many of the blocks are joint, with fusion=mid"
    )
    modality_tokens: bool = Field(
        False, description="add a learnt vector of its modality to every patch"
    )

    @model_validator(mode="after")
    def _some_blocks_are_apart(self) -> AvmaeConfig:
        if self.fusion == "mid" and self.joint_layers > self.depth:
            raise ValueError(
                f"joint_layers={self.joint_layers} is more than there are blocks: "
                f"depth={self.depth}"
            )
        return self


class MbtConfig(TubeletConfig):
    """A multimodal bottleneck transformer (arXiv 2107.00135), as Audiovisual MAE fine-tunes it."""

    vision_frontend: zoo.Frames = DENSE_FRAMES
    fusion_layer: int = Field(
        8, ge=0, description="first block that exchanges bottlenecks; depth: none does"
    )
    bottlenecks: int = Field(4, gt=0, description="tokens that the modalities exchange")
    modalities: Literal["both", "audio", "vision"] = Field(
        "both", description="what there are blocks for; of the other one the tokens are 0"
    )

    @model_validator(mode="after")
    def _fusion_layer_exists(self) -> MbtConfig:
        if self.fusion_layer > self.depth:
            raise ValueError(
                f"fusion_layer={self.fusion_layer} is more than there are blocks: "
                f"depth={self.depth}"
            )
        return self
