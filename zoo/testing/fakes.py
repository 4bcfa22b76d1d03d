"""Small stand-ins for what a component is given: segments, encoders, feature maps, clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.contracts import (
    EncoderIO,
    EncoderSpec,
    ExtractorConfig,
    FeatureMap,
    HeadInput,
    PairSpec,
    TaskConfig,
    TaskSpec,
)
from zoo.data.manifest import Clip, Event
from zoo.models.config import Component, ModelConfig
from zoo.models.model import build_encoder, build_task
from zoo.models.modules import Encoder
from zoo.models.segments import Segments
from zoo.models.task import Task
from zoo.timeline import OffsetGrid, SegmentLayout
from zoo.training.recipe_builder import build_recipe

CLIP_S = 30.0


def fake_segments(config: ExtractorConfig, num: int) -> Tensor:
    """Return random segments as the front end of an extractor would give them."""
    return torch.randn(num, *config.frontend.segment_shape(config.segment_s))


def fake_clip_segments(io: EncoderIO, num_clips: int, num_segments: int) -> Segments:
    """Return random segments of some clips, as an encoder reads them."""
    shapes = (io.audio.segment_shape, io.vision.segment_shape)
    return Segments(*(torch.randn(num_clips, num_segments, *shape) for shape in shapes))


def encoder_config(spec: EncoderSpec | PairSpec) -> ModelConfig:
    """Return a model of nothing but the ``tiny`` preset of an encoder."""
    if isinstance(spec, PairSpec):
        model = build_recipe(extractor=spec.name, preset="tiny").model
        return model.model_copy(update={"head": None, "task": None, "objective": None})
    return ModelConfig(encoder=Component.of(spec, spec.presets["tiny"]), layout=spec.layout)


def tiny_encoder(spec: EncoderSpec | PairSpec) -> Encoder:
    """Build the ``tiny`` preset of an encoder."""
    return build_encoder(encoder_config(spec))


def map_shape(tokens: FeatureMap) -> tuple[int, int, int]:
    """Return the (T, P, D) that is declared."""
    return tokens.steps, tokens.positions, tokens.dim


def feature_map(steps: int, positions: int, dim: int) -> FeatureMap:
    """Return a feature map of a step every 0.1 s."""
    times_s = tuple(round(0.1 * i, 6) for i in range(steps))
    return FeatureMap(times_s=times_s, positions=positions, dim=dim)


def head_input(
    task: Task,
    audio_dim: int,
    vision_dim: int,
    layout: SegmentLayout | None = None,
    positions: int = 1,
    passes: int = 1,
) -> HeadInput:
    """Return what a head is given: tokens of 6 and 8 time steps per segment."""
    side_by_side = {"passes": passes, "positions": positions * passes}
    return HeadInput(
        audio=feature_map(6, 1, audio_dim).model_copy(update=side_by_side),
        vision=feature_map(8, 1, vision_dim).model_copy(update=side_by_side),
        layout=layout or SegmentLayout(),
        num_outputs=task.num_outputs,
        grid=task.grid,
        slots=task.slots,
    )


def fake_clips(columns: tuple[str, ...], num: int = 6) -> list[Clip]:
    """Return rows of a manifest with nothing but some columns filled in.

    Labels are numbers, which are names of classes as well as values.
    """
    return [
        Clip(
            path=Path(f"{index}.mp4"),
            split="train",
            duration_s=CLIP_S,
            video_fps=25.0,
            width=320,
            height=240,
            sample_rate_hz=16_000,
            channels=1,
            **{name: value for name, value in _filled(index).items() if name in columns},
        )
        for index in range(num)
    ]


def _filled(index: int) -> dict[str, Any]:
    label = str(-20 - index % 3)
    return {
        "label": label,
        "labels": (label,),
        "events": (Event(1.0, 2.0, label),),
        "events_s": (1.0,),
        "fixed_offset_s": 0.2,
        "fixed_start_s": 1.0,
    }


def fitted(spec: TaskSpec, clips: list[Clip]) -> TaskConfig:
    """Return the ``tiny`` preset of a task as it is for the default layout and some clips."""
    config = spec.presets["tiny"]
    if spec.fit_layout is not None:
        config = spec.fit_layout(config, SegmentLayout())
    return config if spec.fit is None else spec.fit(config, clips)


def tiny_tasks(spec: TaskSpec, clips: list[Clip] | None = None) -> list[Task]:
    """Build the ``tiny`` preset of a task, and another one if it has a grid to choose.

    Args:
        spec: of the task.
        clips: to fit it to; by default made-up ones with the columns that it asks for.
    """
    config = fitted(spec, fake_clips(spec.columns) if clips is None else clips)
    configs = [config]
    if isinstance(getattr(config, "grid", None), OffsetGrid):
        configs.append(config.model_copy(update={"grid": OffsetGrid(num_classes=11)}))
    return [build_task(Component.of(spec, config)) for config in configs]
