"""GRID: 33 people on film, each of whom says 1000 sentences of six words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

import zoo
from zoo.data.manifest import Split
from zoo.data.shares import SharesConfig

SPEAKERS = range(1, 35)  # there is no video of 21
TEST_SPEAKERS = (1, 2, 20, 22)  # LipNet's: two men and two women
VALID_SPEAKERS = (3, 4)  # a man and a woman, so that training is stopped by people it never saw


class GridConfig(SharesConfig):
    """Which clips are held out, and where the alignments are."""

    meta: Path | None = Field(
        None, description="folder of the alignments, where they are not below the videos"
    )
    test_speakers: tuple[int, ...] = Field(
        TEST_SPEAKERS, description="speakers to test on, such as 1,2,20,22"
    )
    valid_speakers: tuple[int, ...] = Field(VALID_SPEAKERS, description="speakers to validate on")
    test: float = Field(
        0.0, ge=0, le=1, description="share of the other speakers' clips to test on"
    )
    valid: float = Field(
        0.0, ge=0, le=1, description="share of the other speakers' clips to validate on"
    )
    min_seconds: float = Field(
        2.5, ge=0, description="shorter clips are rejected, seconds: whole sentences last 3 s"
    )

    @field_validator("test_speakers", "valid_speakers", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """Take ``1,2`` and ``s1,s2``."""
        if not isinstance(value, str):
            return value
        words = [word.strip().lower().removeprefix("s") for word in value.split(",") if word]
        wrong = next((word for word in words if not word.isdecimal()), None)
        if wrong is not None:
            raise ValueError(f"'{wrong}' is no speaker: give numbers, such as 1,2,20,22")
        return tuple(map(int, words))

    @model_validator(mode="after")
    def _held_out_once(self) -> Self:
        for speaker in (*self.test_speakers, *self.valid_speakers):
            if speaker not in SPEAKERS:
                raise ValueError(f"there is no speaker {speaker}: GRID has 1 to {SPEAKERS[-1]}")
        both = set(self.test_speakers) & set(self.valid_speakers)
        if both:
            raise ValueError(f"speaker {min(both)} cannot be both for validation and for testing")
        return self

    def split_of_clip(self, speaker: int, name: str) -> Split:
        """Return the split of a clip: that of its speaker, else by the shares."""
        if speaker in self.test_speakers:
            return "test"
        return "valid" if speaker in self.valid_speakers else self.split_of(name)


def build(config: GridConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.grid.adapter import Grid

    return Grid(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register ``grid``."""
    spec = zoo.DatasetSpec(
        name="grid",
        summary="GRID: sentences of 3 s by 33 people who face the camera, with their words",
        config_class=GridConfig,
        build=build,
        presets={"paper": GridConfig(), "tiny": GridConfig()},
        source="doi:10.1121/1.2229005; data: doi:10.5281/zenodo.3625687; split: arXiv:1611.01599",
        license="CC BY 4.0",
    )
    return [spec]
