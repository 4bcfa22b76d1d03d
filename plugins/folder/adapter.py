"""Scanning a folder of videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import zoo
from plugins.folder import FolderConfig
from zoo.data.find import find_videos


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
            yield zoo.ClipRecord(path=path, split=self._config.split_of(name))
