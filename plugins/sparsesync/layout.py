"""SparseSync's models read and written: sizes from the shapes, everything else as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from plugins.sparsesync.names import Kind, names
from zoo.checkpoints.tensors import Shapes, to_published
from zoo.checkpoints.whole import check_as_published, count_blocks, read_best_fit
from zoo.contracts import PairSpec
from zoo.models.config import (
    Component,
    ModalityConfig,
    ModelConfig,
    TwoTowerConfig,
    pair_component,
)
from zoo.models.model import Model
from zoo.registry.manager import registry

PAIR, TASK = "sparsesync", "offset"
HEADS: dict[Kind, str] = {"sparsesync": "sparse_selector", "avst": "avst"}
_CHANNELS = 64  # per attention head
_STAGES = 8  # times the width of the stem is the width of ResNet's last stage
_PLACE = 32  # pixels per place of the last feature map
# What training does with a model, not what it is.
_FREE = ("dropout", "norm_momentum", "objective", "step_s")


@dataclass(frozen=True)
class Sizes:
    """All that differs between models of this family; the defaults are the published sizes."""

    dim: int = 512
    vision_width: int = 64
    pixels: int = 224
    depth: int = 3
    selectors: int = 16
    selector_depth: int = 3


def read(kind: Kind, tensors: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config and our state dict of one of SparseSync's models.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    configs = [partial(build_config, kind, sizes) for sizes in (Sizes(), _sizes_in(kind, shapes))]
    return read_best_fit(tensors, configs, partial(names, kind))


def _sizes_in(kind: Kind, shapes: Shapes) -> Sizes:
    """Read the sizes of a model off the shapes of its tensors, as far as they tell."""

    def last(name: str, axis: int, otherwise: int) -> int:
        shape = shapes.get(name, ())
        return shape[axis] if len(shape) > 1 else otherwise

    whole = "transformer.global_transformer." if kind == "sparsesync" else "transformer."
    published = Sizes()
    rows = last("transformer.vis_pos_emb.height_embed.weight", 0, published.pixels // _PLACE)
    sizes = replace(
        published,
        dim=_width(shapes) or published.dim,
        vision_width=last("vfeat_extractor.base.0.conv_s.weight", 0, published.vision_width),
        pixels=rows * _PLACE,
        depth=count_blocks(shapes, f"{whole}blocks."),
    )
    if kind == "avst":
        return sizes
    return replace(
        sizes,
        selectors=last("transformer.v_selector.selectors", 0, published.selectors),
        selector_depth=count_blocks(shapes, "transformer.v_selector.blocks."),
    )


def _width(shapes: Shapes) -> int:
    """Return the commonest length of a vector of the head: those of norms have the width."""
    lengths = [s[0] for n, s in shapes.items() if n.startswith("transformer.") and len(s) == 1]
    return max(set(lengths), key=lengths.count, default=0)


def build_config(kind: Kind, sizes: Sizes) -> ModelConfig:
    """Return the config of one of SparseSync's models."""
    found = registry()
    pair = found.encoder(PAIR)
    assert isinstance(pair, PairSpec)
    audio = _as_published(found.extractor(pair.audio), width=sizes.dim // _STAGES)
    vision = _as_published(found.extractor(pair.vision), width=sizes.vision_width, bridge=sizes.dim)
    vision.config["frontend"] |= {  # type: ignore[operator]
        "size": sizes.pixels,
        "short_side": round(sizes.pixels * 256 / 224),
    }
    wanted = {"dim": sizes.dim, "depth": sizes.depth, "heads": max(1, sizes.dim // _CHANNELS)}
    if kind == "sparsesync":
        wanted |= {"selectors": sizes.selectors, "selector_depth": sizes.selector_depth}
    aggregator = _as_published(found.aggregator(pair.aggregator))
    parts = (ModalityConfig(extractor=x, aggregator=aggregator) for x in (audio, vision))
    return ModelConfig(
        encoder=pair_component(
            TwoTowerConfig(**dict(zip(("audio", "vision"), parts, strict=True)))
        ),
        task=_as_published(found.task(TASK)),
        head=_as_published(found.head(HEADS[kind]), **wanted),
        layout=pair.layout,
    )


def _as_published(spec: Any, **sizes: int) -> Component:
    config = spec.presets["paper"].model_dump(mode="json") | sizes
    return Component(name=spec.name, config=config)


def write(kind: Kind, model: Model) -> dict[str, Any]:
    """Return what SparseSync's code loads: ``{"model": ...}``.

    Raises:
        ModelError: if the model is not one of this kind.
    """
    published = build_config(kind, _sizes_of(model.config))
    check_as_published(model.config, published, _FREE)
    return {"model": to_published(model.state_dict(), partial(names, kind))}


def _sizes_of(config: ModelConfig) -> Sizes:
    pair = config.two_tower()
    vision = {} if pair is None else pair.vision.extractor.config
    head = {} if config.head is None else config.head.config
    frontend = vision.get("frontend")
    given = {
        "vision_width": vision.get("width"),
        "pixels": frontend.get("size") if isinstance(frontend, dict) else None,
        **{key: head.get(key) for key in ("dim", "depth", "selectors", "selector_depth")},
    }
    return replace(Sizes(), **{k: v for k, v in given.items() if isinstance(v, int)})
