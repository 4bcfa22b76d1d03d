"""Scanning a folder of videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import zoo
from plugins.folder import FolderConfig
from zoo.data.find import find_videos
from zoo.data.sampling import place_of


class Folder(zoo.DatasetAdapter):
    """Every video below a folder; which split it belongs to depends on its own name only."""

    def __init__(self, config: FolderConfig):
        self._config = config

    def scan(self, videos: Path) -> Iterator[zoo.ClipRecord]:
        """Yield a record for every video, in the order of their names.

        Raises:
            ManifestError: if there is no such folder, or no video in it.
        """
        for path in find_videos(videos):
            name = path.relative_to(videos).as_posix()
            yield zoo.ClipRecord(path=path, split=self._split(name))

    def _split(self, name: str) -> Literal["train", "valid", "test"]:
        """Adding or removing other files moves no clip from one split to another."""
        at = place_of(name, self._config.seed)
        if at < self._config.test:
            return "test"
        return "valid" if at < self._config.test + self._config.valid else "train"
