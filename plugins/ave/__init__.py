"""AVE: clips of 10 s with one kind of event each, and the seconds in which it happens."""

from __future__ import annotations

from pydantic import Field

import zoo
from zoo.data.listed import ListedConfig


class AveConfig(ListedConfig):
    """Which of the official clips to take."""

    min_seconds: float = Field(0.0, ge=0, description="shorter clips are rejected, seconds")


def build(config: AveConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.ave.adapter import Ave

    return Ave(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register ``ave``."""
    return [
        zoo.DatasetSpec(
            name="ave",
            summary="AVE: 28 kinds of events, audible and visible, labelled per second",
            config_class=AveConfig,
            build=build,
            presets={"paper": AveConfig(), "tiny": AveConfig()},
            source="arXiv:1803.08842",
            license="not stated for the annotations; the videos are YouTube's",
        )
    ]
