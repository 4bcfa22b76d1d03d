"""LRS3 with the full scene: the long clips of its pretrain part."""

from __future__ import annotations

import zoo
from zoo.data.listed import FilteredConfig


class Lrs3Config(FilteredConfig):
    """Which of the official clips to take."""


def build(config: Lrs3Config) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.lrs3.adapter import Lrs3

    return Lrs3(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register LRS3."""
    spec = zoo.DatasetSpec(
        name="lrs3",
        summary="talks with the full scene: clips of 9 s and more of LRS3's pretrain part",
        config_class=Lrs3Config,
        build=build,
        presets={"paper": Lrs3Config(), "tiny": Lrs3Config()},
        source="arXiv:1809.00496; lists: arXiv:2210.07055, arXiv:2401.16423",
        license="BBC/TED terms of LRS3, on request from its authors",
    )
    return [spec]
