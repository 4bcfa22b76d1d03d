"""A data set that measures its clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import zoo
from zoo.errors import ManifestError
from zoo.media import decode
from zoo_loudness.config import ClipsConfig


class MeasuredClips(zoo.DatasetAdapter):
    """Every clip of a folder, with the level of its audio as label."""

    def __init__(self, config: ClipsConfig) -> None:
        self.config = config

    def scan(self, videos: Path) -> Iterator[zoo.ClipRecord]:
        """Yield a record per clip.

        Raises:
            ManifestError: if there is none.
            MediaError: if one cannot be read.
        """
        found = sorted(videos.glob("*.mp4"))
        if not found:
            raise ManifestError(f"there is no clip in {videos}")
        for number, path in enumerate(found):
            split = {0: "valid", 1: "test"}.get(number % self.config.every, "train")
            yield zoo.ClipRecord(path=path, split=split, label=f"{level_db(path):.2f}")


def level_db(path: Path) -> float:
    """Return the root mean square of the audio, in dB of full scale."""
    samples = decode(path, video=False).samples
    return float(10 * np.log10(np.square(samples).mean() + 1e-10))
