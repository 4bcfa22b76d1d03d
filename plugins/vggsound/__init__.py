"""VGGSound, and the parts of it on which sparse synchronization is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zoo
from zoo.data.labels import LabelledConfig
from zoo.data.listed import FilteredConfig, ListedConfig


class VggSoundConfig(FilteredConfig):
    """Which of the official clips to take."""


def build_all(config: VggSoundConfig) -> zoo.DatasetAdapter:
    """Return the adapter of the whole set."""
    from plugins.vggsound.adapter import VggSound

    return VggSound(config)


def build_full(config: LabelledConfig) -> zoo.DatasetAdapter:
    """Return the adapter of all clips of ``vggsound.csv``, split as it says."""
    from plugins.vggsound.full import VggSoundFull

    return VggSoundFull(config)


def build_sparse(config: VggSoundConfig) -> zoo.DatasetAdapter:
    """Return the adapter of the twelve sparse classes."""
    from plugins.vggsound.adapter import VggSoundSparse

    return VggSoundSparse(config)


def build_clean(config: VggSoundConfig) -> zoo.DatasetAdapter:
    """Return the adapter of the clips with offsets annotated by hand."""
    from plugins.vggsound.adapter import VggSoundSparseClean

    return VggSoundSparseClean(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register VGGSound as it is classified, and its parts that are synchronized."""
    parts: dict[str, tuple[str, type[ListedConfig], Callable[[Any], zoo.DatasetAdapter]]] = {
        "vggsound": (
            "sounds with a visible source, 309 classes; split and filtered for synchronization",
            VggSoundConfig,
            build_all,
        ),
        "vggsound_full": (
            "all clips of VGGSound with their classes, train and test as published",
            LabelledConfig,
            build_full,
        ),
        "vggsound_sparse": (
            "the 12 classes of VGGSound with sparse events",
            VggSoundConfig,
            build_sparse,
        ),
        "vggsound_sparse_clean": (
            "test clips of VGGSound-Sparse, each with an offset checked by hand",
            VggSoundConfig,
            build_clean,
        ),
    }
    return [
        zoo.DatasetSpec(
            name=name,
            summary=summary,
            config_class=config_class,
            build=build,
            presets={"paper": config_class(), "tiny": config_class()},
            source="arXiv:2004.14368; lists: arXiv:2210.07055, arXiv:2401.16423",
            license="CC BY 4.0 (annotations); the videos are YouTube's",
        )
        for name, (summary, config_class, build) in parts.items()
    ]
