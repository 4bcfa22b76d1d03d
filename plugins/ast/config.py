"""Configuration of the AST extractor; the defaults are the published sizes."""

from pydantic import Field, PositiveInt, model_validator

import zoo
from zoo.errors import ConfigError


class AstConfig(zoo.ExtractorConfig):
    """A DeiT with a distillation token over overlapping patches of a log-mel segment."""

    frontend: zoo.LogMel = zoo.LogMel()
    dim: int = Field(768, gt=0, description="D, width")
    depth: int = Field(12, gt=0, description="transformer blocks")
    heads: int = Field(12, gt=0, description="attention heads")
    patch: int = Field(16, gt=0, description="patch side, mel bins and mel frames")
    stride: tuple[PositiveInt, PositiveInt] = Field(
        (10, 10),
        description="patch stride in (frequency, time)",
    )
    change_gain: float | None = Field(
        None,
        gt=0,
        description="subtract each segment's mean spectrum and multiply by this; None leaves it",
    )
    norm_eps: float = Field(1e-12, gt=0, description="LayerNorm epsilon")

    @model_validator(mode="after")
    def _whole_heads(self) -> "AstConfig":
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dim={self.dim}")
        return self

    def feature_map(self) -> zoo.FeatureMap:
        """Return (T=6, P=12, D=768) for the published 0.64 s."""
        bands = (self.frontend.n_mels - self.patch) // self.stride[0] + 1
        steps = (self.frontend.num_frames(self.segment_s) - self.patch) // self.stride[1] + 1
        if bands < 1:
            raise ConfigError(
                f"ast cannot take {self.frontend.n_mels} mel bins: a patch spans {self.patch}"
            )
        if steps < 1:
            raise ConfigError(
                f"ast cannot take segments of {self.segment_s:g} s: a patch spans "
                f"{self.patch * self.frontend.hop_s:g} s"
            )
        centre = (self.patch - 1) / 2  # mel frame k is centred at k hops
        times = (
            round((i * self.stride[1] + centre) * self.frontend.hop_s, 6) for i in range(steps)
        )
        return zoo.FeatureMap(times_s=tuple(times), positions=bands, dim=self.dim)
