"""VGGSound, and the parts of it on which sparse synchronization is evaluated."""

from __future__ import annotations

import zoo
from zoo.data.listed import ListedConfig


class VggSoundConfig(ListedConfig):
    """Which of the official clips to take."""


def build_all(config: VggSoundConfig) -> zoo.DatasetAdapter:
    """Return the adapter of the whole set."""
    from plugins.vggsound.adapter import VggSound

    return VggSound(config)


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
    """Register VGGSound, VGGSound-Sparse and VGGSound-Sparse (Clean)."""
    parts = {
        "vggsound": ("sounds with a visible source, 309 classes", build_all),
        "vggsound_sparse": ("the 12 classes of VGGSound with sparse events", build_sparse),
        "vggsound_sparse_clean": (
            "test clips of VGGSound-Sparse, each with an offset checked by hand",
            build_clean,
        ),
    }
    return [
        zoo.DatasetSpec(
            name=name,
            summary=summary,
            config_class=VggSoundConfig,
            build=build,
            presets={"paper": VggSoundConfig(), "tiny": VggSoundConfig()},
            source="arXiv:2004.14368; lists: arXiv:2210.07055, arXiv:2401.16423",
            license="CC BY 4.0 (annotations); the videos are YouTube's",
        )
        for name, (summary, build) in parts.items()
    ]
