"""Synchformer's models read and written: sizes from the shapes, everything else as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from plugins.synchformer.names import (
    AGGREGATOR,
    AUDIO,
    LOGIT_SCALE,
    OBJECTIVE,
    PREFIXES,
    VISION,
    Kind,
    names,
)
from zoo.checkpoints.tensors import Shapes, check_tensors, to_published
from zoo.checkpoints.whole import check_as_published, count_blocks, count_heads, read_best_fit
from zoo.errors import ModelError
from zoo.models.config import (
    Component,
    ModalityConfig,
    ModelConfig,
    TwoTowerConfig,
    pair_component,
)
from zoo.models.model import Model
from zoo.registry.manager import registry
from zoo.timeline import SegmentLayout

_PATCH = 16  # pixels
_EXTRACTOR_HEAD, _SYNC_HEAD = 64, 96  # channels per attention head
_SPECIAL_TOKENS, _TOKENS_PER_SEGMENT = 2, 8 + 6  # OFF, MOD; video and audio tokens
_PUBLISHED_TEMPERATURE = 0.07
# What training does with a model, not what it is.
_FREE = (
    "drop_path",
    "position_std",
    "dropout",
    "position_init",
    "temperature",
    "min_temperature",
    "max_temperature",
    "gather",
    "task",  # of a model without a head; with one, the head decides
)


@dataclass(frozen=True)
class Sizes:
    """All that differs between models of this family; the defaults are the published sizes."""

    audio_dim: int = 768
    audio_depth: int = 12
    vision_dim: int = 768
    vision_depth: int = 12
    pixels: int = 224
    head_dim: int = 768
    head_depth: int = 3
    num_segments: int = 14


def read(kind: Kind, tensors: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config and our state dict of one of Synchformer's models.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    found = dict(tensors)
    scale = found.pop(LOGIT_SCALE, None) if kind == "avclip" else None
    if kind == "avclip":
        if scale is None:
            raise ModelError(f"it lacks the tensor '{LOGIT_SCALE}'")
        check_tensors({LOGIT_SCALE: scale}, {LOGIT_SCALE: ()})
        if not float(scale) > 0:
            raise ModelError(f"the tensor '{LOGIT_SCALE}' is {float(scale):g}, not a temperature")
    published = Sizes(num_segments=13 if kind == "synchronizability" else 14)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    told = _sizes_in(kind, shapes, published)
    configs = [partial(build_config, kind, sizes) for sizes in (published, told)]
    config, state = read_best_fit(found, configs, partial(names, kind))
    if scale is not None:
        objective = _objective(temperature=float(scale))
        config = config.model_copy(update={"objective": objective})
    return config, state


def _sizes_in(kind: Kind, shapes: Shapes, published: Sizes) -> Sizes:
    """Read the sizes of a model off the shapes of its tensors, as far as they tell."""
    audio, vision = PREFIXES[kind == "avclip"].values()
    sizes = replace(
        published,
        audio_dim=_width(shapes, audio) or published.audio_dim,
        audio_depth=count_blocks(shapes, f"{audio}ast.encoder.layer."),
        vision_dim=_width(shapes, vision) or published.vision_dim,
        vision_depth=count_blocks(shapes, f"{vision}blocks."),
    )
    if rows := _rows(shapes, f"{vision}pos_embed"):
        sizes = replace(sizes, pixels=isqrt(rows - 1) * _PATCH)
    if kind == "avclip":
        return sizes
    sizes = replace(
        sizes,
        head_dim=_width(shapes, "transformer.") or published.head_dim,
        head_depth=count_blocks(shapes, "transformer.blocks."),
    )
    if rows := _rows(shapes, "transformer.pos_emb_cfg.pos_emb"):
        sizes = replace(sizes, num_segments=(rows - _SPECIAL_TOKENS) // _TOKENS_PER_SEGMENT)
    return sizes


def _width(shapes: Shapes, prefix: str) -> int:
    """Return the commonest length of a vector: those of norms and biases have the width."""
    lengths = [shape[0] for n, shape in shapes.items() if n.startswith(prefix) and len(shape) == 1]
    return max(set(lengths), key=lengths.count, default=0)


def _rows(shapes: Shapes, name: str) -> int | None:
    """Return the length of a table of positions, if there is one."""
    shape = shapes.get(name, ())
    return shape[1] if len(shape) == 3 else None


def build_config(kind: Kind, sizes: Sizes) -> ModelConfig:
    """Return the config of one of Synchformer's models."""
    found = registry()
    audio = _as_published(
        found.extractor(AUDIO),
        dim=sizes.audio_dim,
        depth=sizes.audio_depth,
        heads=count_heads(sizes.audio_dim, _EXTRACTOR_HEAD),
    )
    vision = _as_published(
        found.extractor(VISION),
        dim=sizes.vision_dim,
        depth=sizes.vision_depth,
        heads=count_heads(sizes.vision_dim, _EXTRACTOR_HEAD),
    )
    vision.config["frontend"] |= {  # type: ignore[operator]
        "size": sizes.pixels,
        "short_side": round(sizes.pixels * 256 / 224),
    }
    head = task = None
    if kind != "avclip":
        heads = count_heads(sizes.head_dim, _SYNC_HEAD)
        wanted = {"dim": sizes.head_dim, "depth": sizes.head_depth, "heads": heads}
        head = _as_published(found.head(kind), **wanted)
        task = _as_published(found.task(found.head(kind).tasks[0]))
    parts = {
        modality: ModalityConfig(
            extractor=extractor,
            aggregator=_as_published(
                found.aggregator(AGGREGATOR), heads=count_heads(dim, _EXTRACTOR_HEAD)
            ),
        )
        for modality, extractor, dim in (
            ("audio", audio, sizes.audio_dim),
            ("vision", vision, sizes.vision_dim),
        )
    }
    layout = SegmentLayout(num_segments=sizes.num_segments)
    encoder = pair_component(TwoTowerConfig(**parts))
    return ModelConfig(encoder=encoder, objective=_objective(), task=task, head=head, layout=layout)


def _objective(**settings: float) -> Component:
    """Return the objective that the extractors were trained with."""
    return _as_published(registry().objective(OBJECTIVE), **settings)


def _as_published(spec: Any, **sizes: float) -> Component:
    config = spec.presets["paper"].model_dump(mode="json") | sizes
    return Component(name=spec.name, config=config)


def write(kind: Kind, model: Model) -> dict[str, Any]:
    """Return what Synchformer's code loads: ``{"model": ...}``, or ``{"state_dict": ...}``.

    Raises:
        ModelError: if the model is not one of this kind.
    """
    check_kind(kind, model.config)
    state = to_published(model.state_dict(), partial(names, kind))
    if kind != "avclip":
        return {"model": state}
    objective = model.config.objective
    given = None if objective is None else objective.config.get("temperature")
    temperature = given if isinstance(given, float) else _PUBLISHED_TEMPERATURE
    return {"state_dict": {LOGIT_SCALE: torch.tensor(temperature), **state}}


def check_kind(kind: Kind, config: ModelConfig) -> None:
    """Check that a model computes what Synchformer's code would with its weights.

    Raises:
        ModelError: naming the first thing that differs.
    """
    check_as_published(config, build_config(kind, _sizes_of(config)), _FREE)


def _sizes_of(config: ModelConfig) -> Sizes:
    pair = config.two_tower()
    audio = {} if pair is None else pair.audio.extractor.config
    vision = {} if pair is None else pair.vision.extractor.config
    head = {} if config.head is None else config.head.config
    frontend = vision.get("frontend")
    given = {
        "audio_dim": audio.get("dim"),
        "audio_depth": audio.get("depth"),
        "vision_dim": vision.get("dim"),
        "vision_depth": vision.get("depth"),
        "pixels": frontend.get("size") if isinstance(frontend, dict) else None,
        "head_dim": head.get("dim"),
        "head_depth": head.get("depth"),
        "num_segments": config.layout.num_segments,
    }
    return Sizes(**{**asdict(Sizes()), **{k: v for k, v in given.items() if isinstance(v, int)}})
