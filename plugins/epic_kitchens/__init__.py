"""EPIC-KITCHENS-100: clips of unscripted cooking, each with a verb and a noun."""

from __future__ import annotations

import zoo
from zoo.data.labels import LabelledConfig


class EpicKitchensConfig(LabelledConfig):
    """Which clips to take; those of one video stay together."""

    def held_out_with(self, name: str) -> str:
        """Return the video that a clip is cut from: ``P01_01`` of ``P01_01_0``."""
        return name.rpartition("_")[0]


def build(config: EpicKitchensConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.epic_kitchens.adapter import EpicKitchens

    return EpicKitchens(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register ``epic_kitchens``."""
    spec = zoo.DatasetSpec(
        name="epic_kitchens",
        summary="clips of EPIC-KITCHENS-100 with their verb (of 97) and noun (of 300)",
        config_class=EpicKitchensConfig,
        build=build,
        presets={"paper": EpicKitchensConfig(), "tiny": EpicKitchensConfig()},
        source="arXiv:2006.13256; github.com/epic-kitchens/epic-kitchens-100-annotations",
        license="CC BY-NC 4.0 (annotations and videos)",
    )
    return [spec]
