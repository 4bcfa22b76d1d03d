"""Splits by shares: which clips are held out follows from a hash of their names."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from zoo.contracts import ComponentConfig
from zoo.data.manifest import Split
from zoo.data.sampling import place_of


class SharesConfig(ComponentConfig):
    """Which shares of the clips are held out."""

    valid: float = Field(default=0.1, ge=0, le=1, description="share for validation")
    test: float = Field(default=0.1, ge=0, le=1, description="share for testing")
    seed: int = Field(default=0, description="another seed gives another split")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.valid + self.test > 1:
            raise ValueError(
                f"valid={self.valid:g} and test={self.test:g} are more than everything"
            )
        return self

    def split_of(self, name: str) -> Split:
        """Return the split of a clip; other clips, more or fewer, do not change it."""
        at = place_of(name, self.seed)
        if at < self.test:
            return "test"
        return "valid" if at < self.test + self.valid else "train"
