"""Any folder of videos as a data set."""

from __future__ import annotations

import zoo
from zoo.data.shares import SharesConfig


class FolderConfig(SharesConfig):
    """How the videos of a folder are split."""


def build(config: FolderConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.folder.adapter import Folder

    return Folder(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register the folder adapter."""
    spec = zoo.DatasetSpec(
        name="folder",
        summary="any folder of videos, searched recursively; split by a hash of the file's name",
        config_class=FolderConfig,
        build=build,
        presets={"paper": FolderConfig(), "tiny": FolderConfig()},
        source="avsync-zoo",
        license="MIT",
    )
    return [spec]
