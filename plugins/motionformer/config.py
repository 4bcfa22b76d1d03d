"""Configuration of the Motionformer extractor; the defaults are the published sizes."""

from pydantic import Field, model_validator

import zoo
from zoo.errors import ConfigError


class MotionformerConfig(zoo.ExtractorConfig):
    """A ViT over tubelets whose attention is divided into time and space."""

    frontend: zoo.Frames = zoo.Frames()
    dim: int = Field(768, gt=0, description="D, width")
    depth: int = Field(12, gt=0, description="transformer blocks")
    heads: int = Field(12, gt=0, description="attention heads")
    patch: int = Field(16, gt=0, description="tubelet side, pixels")
    tubelet: int = Field(2, gt=0, description="tubelet length, frames")
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block")
    position_std: float = Field(0.02, gt=0, description="initial spread of the position tables")
    motion_gain: float | None = Field(
        None,
        gt=0,
        description="subtract each segment's mean frame and multiply by this; None leaves it",
    )
    dead_patch_embed: bool = Field(
        False,
        description="carry the published checkpoints' unused 2-D patch embedding (0.59 M)",
    )

    @model_validator(mode="after")
    def _whole_patches_and_heads(self) -> "MotionformerConfig":
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dim={self.dim}")
        if self.frontend.size % self.patch:
            raise ValueError(
                f"frontend.size={self.frontend.size} is not a multiple of patch={self.patch}"
            )
        return self

    def feature_map(self) -> zoo.FeatureMap:
        """Return (T=8, P=196, D=768) for the published 0.64 s."""
        frames = self.frontend.num_frames(self.segment_s)
        if frames % self.tubelet:
            raise ConfigError(
                f"motionformer cannot take segments of {self.segment_s:g} s: {frames} frames are "
                f"not a multiple of its tubelet of {self.tubelet}"
            )
        centre = (self.tubelet - 1) / 2  # frame k is shown from k / fps on
        steps = range(frames // self.tubelet)
        times = (round((i * self.tubelet + centre) / self.frontend.fps, 6) for i in steps)
        side = self.frontend.size // self.patch
        return zoo.FeatureMap(times_s=tuple(times), positions=side * side, dim=self.dim)
