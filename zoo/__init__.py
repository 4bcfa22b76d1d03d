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
from zoo.hooks import hookimpl
from zoo.space import Choice, Range
from zoo.timeline import OffsetGrid, SegmentLayout

# Loaded on first use, because they import torch.
_LAZY = {
    "Extractor": "zoo.modules",
    "Aggregator": "zoo.modules",
    "Head": "zoo.modules",
    "Objective": "zoo.modules",
    "SegmentBatch": "zoo.modules",
    "load": "zoo.inference",
}

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
    if name in ("export", "features"):  # modules that import torch
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
