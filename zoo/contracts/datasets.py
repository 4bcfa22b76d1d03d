"""What a dataset adapter gives: a record per clip, and what it left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from zoo.contracts.configs import ComponentConfig


class ClipRecord(ComponentConfig):
    """One row of a manifest as a dataset adapter knows it; probing fills in the rest."""

    path: Path = Field(description="the clip's file")
    split: Literal["train", "valid", "test"] = "train"
    label: str | None = Field(None, description="class of the clip, where known")
    labels: tuple[str, ...] | None = Field(None, description="all classes of the clip, where known")
    events_s: tuple[float, ...] | None = Field(
        None, description="onsets of the audible and visible events, seconds, where known"
    )
    events: tuple[tuple[float, float, str], ...] | None = Field(
        None,
        description="events as (start, end, label), seconds, where known; an infinite end is that "
        "of the clip",
    )
    fixed_offset_s: float | None = Field(
        None, description="offset at which a protocol evaluates the clip, seconds"
    )
    fixed_start_s: float | None = Field(
        None, ge=0, description="start of the video crop that goes with it, seconds"
    )
    length_s: tuple[float, float] | None = Field(
        None, description="shortest and longest length of the clip, seconds; others are rejected"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A listed clip without a file (``id``, ``split``), or a file that is not used (``path``)."""

    reason: str
    id: str | None = None
    split: Literal["train", "valid", "test"] | None = None
    path: Path | None = None


class DatasetAdapter(ABC):
    """Knows how one data set names, splits, filters and labels its clips."""

    @abstractmethod
    def scan(self, videos: Path) -> Iterator[ClipRecord]:
        """Yield a record for every clip under a folder.

        Raises:
            ManifestError: if the folder is not of this data set or holds no clip.
        """

    def left_out(self) -> list[LeftOut] | None:
        """Return what the last scan left out; None if the data set has no official list."""
        return None

    def classes(self) -> tuple[str, ...]:
        """Return all classes in the order of the data set's own list, after a scan.

        Empty if it has no such list.
        """
        return ()
