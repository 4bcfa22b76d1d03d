"""AudioSet, by its official segments."""

from __future__ import annotations

from pydantic import Field

import zoo
from zoo.data.listed import ListedConfig


class AudioSetConfig(ListedConfig):
    """Which of the official clips to take."""

    list_file: str = Field(
        "audioset.csv",
        description="list in meta; where there is none, Google's three *_segments.csv are read",
    )


def build(config: AudioSetConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.audioset.adapter import AudioSet

    return AudioSet(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register AudioSet."""
    spec = zoo.DatasetSpec(
        name="audioset",
        summary="sounds of all kinds; unbalanced is train, balanced is valid, eval is test",
        config_class=AudioSetConfig,
        build=build,
        presets={"paper": AudioSetConfig(), "tiny": AudioSetConfig()},
        source="doi:10.1109/ICASSP.2017.7952261; lists: arXiv:2401.16423",
        license="CC BY 4.0 (annotations); the videos are YouTube's",
    )
    return [spec]
