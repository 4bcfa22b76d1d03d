"""AudioSet, by its official segments: as it is synchronized, and as it is classified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

import zoo
from zoo.data.labels import LabelledConfig
from zoo.data.listed import FilteredConfig, ListedConfig


class AudioSetConfig(FilteredConfig):
    """Which of the official clips to take."""

    list_file: str = Field(
        "audioset.csv",
        description="list in meta; where there is none, Google's three *_segments.csv are read",
    )


def build(config: AudioSetConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.audioset.adapter import AudioSet

    return AudioSet(config)


def build_20k(config: LabelledConfig) -> zoo.DatasetAdapter:
    """Return the adapter that trains on the balanced segments."""
    from plugins.audioset.labelled import AudioSet20k

    return AudioSet20k(config)


def build_2m(config: LabelledConfig) -> zoo.DatasetAdapter:
    """Return the adapter that trains on the unbalanced segments."""
    from plugins.audioset.labelled import AudioSet2m

    return AudioSet2m(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register AudioSet as it is synchronized, and as it is classified."""
    parts: dict[str, tuple[str, type[ListedConfig], Callable[[Any], zoo.DatasetAdapter]]] = {
        "audioset": (
            "sounds of all kinds; unbalanced is train, balanced is valid, eval is test",
            AudioSetConfig,
            build,
        ),
        "audioset_20k": (
            "AudioSet with its 527 classes; balanced is train, eval is test",
            LabelledConfig,
            build_20k,
        ),
        "audioset_2m": (
            "AudioSet with its 527 classes; unbalanced is train, eval is test",
            LabelledConfig,
            build_2m,
        ),
    }
    return [
        zoo.DatasetSpec(
            name=name,
            summary=summary,
            config_class=config_class,
            build=build_one,
            presets={"paper": config_class(), "tiny": config_class()},
            source="doi:10.1109/ICASSP.2017.7952261; lists: arXiv:2401.16423",
            license="CC BY 4.0 (annotations); the videos are YouTube's",
        )
        for name, (summary, config_class, build_one) in parts.items()
    ]
