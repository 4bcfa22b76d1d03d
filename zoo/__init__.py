"""avsync-zoo: plugin-based audio-visual models, synchronization first.

``zoo.load("tiny-synthetic").predict("clip.mp4")`` answers how far the audio of a clip is off.
"""

from __future__ import annotations

import importlib
from typing import Any

from zoo.contracts import (
    AggregatorSpec,
    Chance,
    ClipRecord,
    CommandSpec,
    ComponentConfig,
    DatasetAdapter,
    DatasetSpec,
    EncoderConfig,
    EncoderIO,
    EncoderSpec,
    ExtractorConfig,
    ExtractorSpec,
    FeatureMap,
    FormatSpec,
    Frames,
    HeadInput,
    HeadSpec,
    InitialWeights,
    KaldiFbank,
    LeftOut,
    LogMel,
    MelAmplitude,
    ModalityIO,
    NamedRecipe,
    ObjectiveSpec,
    PairSpec,
    PatchEncoderConfig,
    Score,
    Spectrogram,
    TaskConfig,
    TaskSpec,
    WeightsFormat,
)
from zoo.errors import ZooError
from zoo.registry.hookspecs import hookimpl
from zoo.search_space import Choice, Range
from zoo.timeline import OffsetGrid, Placement, Sample, SegmentLayout, SlotGrid, place_crops

# Loaded on first use, because they import torch.
_LAZY = {
    "Extractor": "zoo.models.modules",
    "MaskableExtractor": "zoo.models.modules",
    "Aggregator": "zoo.models.modules",
    "Encoder": "zoo.models.modules",
    "SeparableEncoder": "zoo.models.modules",
    "ModalityEncoder": "zoo.models.modules",
    "Head": "zoo.models.modules",
    "Objective": "zoo.models.modules",
    "Segments": "zoo.models.segments",
    "Tokens": "zoo.models.segments",
    "Task": "zoo.models.task",
    "Need": "zoo.models.task",
    "Answer": "zoo.models.task",
    "load": "zoo.inference.load",
}

_FORMER = {"SegmentBatch": "zoo.Segments"}
_ROOMS = {"export": "zoo.export", "features": "zoo.features"}

__all__ = [
    "AggregatorSpec",
    "Chance",
    "Choice",
    "ClipRecord",
    "CommandSpec",
    "ComponentConfig",
    "DatasetAdapter",
    "DatasetSpec",
    "EncoderConfig",
    "EncoderIO",
    "EncoderSpec",
    "ExtractorConfig",
    "ExtractorSpec",
    "FeatureMap",
    "FormatSpec",
    "Frames",
    "HeadInput",
    "HeadSpec",
    "NamedRecipe",
    "InitialWeights",
    "LeftOut",
    "KaldiFbank",
    "LogMel",
    "MelAmplitude",
    "ModalityIO",
    "ObjectiveSpec",
    "OffsetGrid",
    "PairSpec",
    "PatchEncoderConfig",
    "Placement",
    "Range",
    "Sample",
    "Score",
    "SegmentLayout",
    "SlotGrid",
    "Spectrogram",
    "TaskConfig",
    "TaskSpec",
    "WeightsFormat",
    "ZooError",
    "hookimpl",
    "place_crops",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("avsync-zoo")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return importlib.import_module(_ROOMS[name])
    if name in _FORMER:
        raise AttributeError(f"zoo.{name} is {_FORMER[name]} now")
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
