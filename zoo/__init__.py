"""avsync-zoo: plugin-based audio-visual synchronization.

``zoo.load("tiny-synthetic").predict("clip.mp4")`` answers how far the audio of a clip is off.
"""

from __future__ import annotations

import importlib
from typing import Any

from zoo.contracts import (
    AggregatorSpec,
    ClipRecord,
    CommandSpec,
    ComponentConfig,
    DatasetAdapter,
    DatasetSpec,
    ExtractorConfig,
    ExtractorSpec,
    FeatureMap,
    FormatSpec,
    Frames,
    HeadInput,
    HeadSpec,
    LeftOut,
    LogMel,
    ObjectiveSpec,
    PairSpec,
    Spectrogram,
    WeightsFormat,
)
from zoo.errors import ZooError
from zoo.registry.manager import hookimpl
from zoo.search_space import Choice, Range
from zoo.timeline import OffsetGrid, SegmentLayout

# Loaded on first use, because they import torch.
_LAZY = {
    "Extractor": "zoo.models.modules",
    "Aggregator": "zoo.models.modules",
    "Head": "zoo.models.modules",
    "Objective": "zoo.models.modules",
    "SegmentBatch": "zoo.models.modules",
    "load": "zoo.inference.predictor",
}

_ROOMS = {"export": "zoo.models.export", "features": "zoo.features"}

__all__ = [
    "AggregatorSpec",
    "Choice",
    "ClipRecord",
    "CommandSpec",
    "ComponentConfig",
    "DatasetAdapter",
    "DatasetSpec",
    "ExtractorConfig",
    "ExtractorSpec",
    "FeatureMap",
    "FormatSpec",
    "Frames",
    "HeadInput",
    "HeadSpec",
    "LeftOut",
    "LogMel",
    "Spectrogram",
    "ObjectiveSpec",
    "OffsetGrid",
    "PairSpec",
    "Range",
    "SegmentLayout",
    "WeightsFormat",
    "ZooError",
    "hookimpl",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return importlib.import_module(_ROOMS[name])
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
