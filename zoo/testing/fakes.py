"""Small stand-ins for what a component is given: segments, towers, feature maps."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.contracts import ExtractorConfig, FeatureMap, HeadInput
from zoo.models.config import Component, ModalityConfig
from zoo.models.two_tower import ExtractorEncoder
from zoo.registry.manager import registry
from zoo.timeline import OffsetGrid, SegmentLayout


def fake_segments(config: ExtractorConfig, num: int) -> Tensor:
    """Return random segments as the front end of an extractor would give them."""
    return torch.randn(num, *config.frontend.segment_shape(config.segment_s))


def any_tower(modality: str) -> ExtractorEncoder:
    """Build a small tower of the first extractor that is registered for a modality."""
    found = registry()
    extractor = next(spec for spec in found.extractors.values() if spec.modality == modality)
    aggregator = next(iter(found.aggregators.values()))
    parts = [
        Component(name=spec.name, config=spec.presets["tiny"].model_dump(mode="json"))
        for spec in (extractor, aggregator)
    ]
    config = ModalityConfig(extractor=parts[0], aggregator=parts[1], projection_dim=32)
    return ExtractorEncoder(config, extractor.modality)


def config_of(tower: ExtractorEncoder) -> ExtractorConfig:
    """Return the config of the extractor of such a tower."""
    found = registry().extractors.values()
    return next(s for s in found if s.modality == tower.modality).presets["tiny"]


def map_shape(config: ExtractorConfig) -> tuple[int, int, int]:
    """Return the (T, P, D) that a config declares."""
    declared = config.feature_map()
    return declared.steps, declared.positions, declared.dim


def feature_map(steps: int, positions: int, dim: int) -> FeatureMap:
    """Return a feature map of a step every 0.1 s."""
    times_s = tuple(round(0.1 * i, 6) for i in range(steps))
    return FeatureMap(times_s=times_s, positions=positions, dim=dim)


def head_input(
    audio_dim: int,
    vision_dim: int,
    layout: SegmentLayout | None = None,
    grid: OffsetGrid | None = None,
    positions: int = 1,
) -> HeadInput:
    """Return what a head is given: tokens of 6 and 8 time steps per segment."""
    return HeadInput(
        audio=feature_map(6, positions, audio_dim),
        vision=feature_map(8, positions, vision_dim),
        layout=layout or SegmentLayout(),
        grid=grid or OffsetGrid(),
    )
