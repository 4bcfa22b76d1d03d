"""Segment AVCLIP, the contrastive objective of stage I."""

from pydantic import Field

import zoo


class SegmentAvclipConfig(zoo.ComponentConfig):
    """Temperature and pooling of the contrastive loss; the defaults are the published ones."""

    temperature: float = Field(0.07, gt=0, description="initial temperature, trained")
    min_temperature: float = Field(0.001, gt=0, description="lower clamp")
    max_temperature: float = Field(0.5, gt=0, description="upper clamp")
    gather: bool = Field(True, description="take negatives from all workers, not only from its own")


def _build(config: SegmentAvclipConfig) -> "zoo.Objective":
    from plugins.segment_avclip.model import SegmentAvclip

    return SegmentAvclip(config)


@zoo.hookimpl
def register_objectives() -> list[zoo.ObjectiveSpec]:
    """Register ``segment_avclip``."""
    return [
        zoo.ObjectiveSpec(
            name="segment_avclip",
            summary="InfoNCE over all segments of the batch, both directions",
            config_class=SegmentAvclipConfig,
            build=_build,
            presets={
                "paper": SegmentAvclipConfig(),
                "tiny": SegmentAvclipConfig(max_temperature=0.07),
            },
            search={"temperature": zoo.Range(low=0.02, high=0.07, log=True)},
            source="arXiv:2401.16423 section 3.2, equation 4",
            license="MIT",
        )
    ]
