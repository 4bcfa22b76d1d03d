"""Configurations of the baselines' heads; the defaults are the published sizes."""

from typing import Self

from pydantic import Field, model_validator

import zoo


class AvstConfig(zoo.ComponentConfig):
    """Sizes of a transformer over tokens of both streams."""

    dim: int = Field(512, ge=3, description="width")
    depth: int = Field(3, gt=0, description="blocks")
    heads: int = Field(8, gt=0, description="attention heads")
    dropout: float = Field(0.1, ge=0, lt=1, description="of attention and residuals")

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dim={self.dim}")
        return self


class SelectorConfig(AvstConfig):
    """Sizes of two selectors and of the transformer over what they select."""

    selectors: int = Field(16, gt=0, description="learned queries per stream")
    selector_depth: int = Field(3, gt=0, description="blocks of each selector")
