"""Whole models of others: which config their tensors fit, and whether ours computes what theirs do.

What every layout of whole models needs, beside its own names and sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from zoo.checkpoints.names import Names
from zoo.checkpoints.tensors import (
    Shapes,
    check_tensors,
    find_misfit,
    from_published,
    shapes_of,
)
from zoo.errors import ModelError, ZooError
from zoo.models.config import Component, ModelConfig
from zoo.models.model import LEFTOVER, OBJECTIVE, Model
from zoo.models.without_values import without_values

_PARTS = ("audio extractor", "video extractor", "audio aggregator", "video aggregator", "head")


def read_best_fit(
    tensors: Mapping[str, Tensor],
    configs: Iterable[Callable[[], ModelConfig]],
    names: Names,
    *,
    with_objective: bool = False,
    leftover: Callable[[ModelConfig], Shapes] = lambda _config: {},
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config that fits published tensors best, and our state dict made of them.

    Args:
        tensors: theirs.
        configs: what to try, the published sizes first and then those that the shapes tell: a
            tensor of a wrong shape must not make all others seem wrong.
        names: ours to theirs.
        with_objective: the layout holds the objective's parameters too.
        leftover: their names and shapes of what has no use here.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    tried = []
    for build in configs:
        try:
            config = build()
            with without_values():
                model = Model(config)
                state = dict(model.state_dict())
                if with_objective and model.objective is not None:
                    own = model.objective.state_dict()
                    state |= {f"{OBJECTIVE}.{name}": tensor for name, tensor in own.items()}
        except (ZooError, ValidationError, AssertionError, RuntimeError):
            continue  # sizes that no model can have
        shapes = {**shapes_of(state, names), **leftover(config)}
        misfit = find_misfit(tensors, shapes)
        tried.append((0 if misfit is None else misfit.count, (config, state, shapes)))
        if misfit is None:
            break
    config, state, shapes = min(tried, key=lambda entry: entry[0])[1]
    check_tensors(tensors, shapes)
    rest = {f"{LEFTOVER}.{name}": tensors[name] for name in leftover(config)}
    return config, {**from_published(tensors, state, names), **rest}


def check_as_published(config: ModelConfig, published: ModelConfig, free: Collection[str]) -> None:
    """Check that a model computes what the code of its authors would with its weights.

    Args:
        config: of ours.
        published: of theirs, of the same sizes.
        free: settings that are about training only, and may differ.

    Raises:
        ModelError: naming the first thing that differs.
    """
    for part, ours, theirs in zip(_PARTS, _components(config), _components(published), strict=True):
        found = [None if component is None else component.name for component in (ours, theirs)]
        if found[0] != found[1]:
            raise ModelError(f"its {part} is {found[0]!r}, not {found[1]!r}")
    told, wanted = (_settings(each.completed()) for each in (config, published))
    if difference := _difference(told, wanted, free):
        raise ModelError(difference)


def _components(config: ModelConfig) -> list[Component | None]:
    pair = config.two_tower()
    if pair is None:
        return [config.encoder, config.encoder, None, None, config.head]
    parts = (pair.audio, pair.vision)
    return [*(part.extractor for part in parts), *(part.aggregator for part in parts), config.head]


def _settings(config: ModelConfig) -> dict[str, Any]:
    """Return all settings, those of the encoder beside the others."""
    settings = config.model_dump(mode="json")
    return {**settings, **settings.pop("encoder")["config"]}


def _difference(ours: Any, theirs: Any, free: Collection[str], place: str = "") -> str | None:
    """Name the first setting that differs from theirs."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            if key in free:
                continue
            within = f"{place}.{key}".lstrip(".")
            if inside := _difference(ours.get(key), theirs.get(key), free, within):
                return inside
        return None
    return None if ours == theirs else f"its '{place}' is {ours!r}, not {theirs!r}"


def count_blocks(shapes: Shapes, prefix: str) -> int:
    """Count the blocks whose tensors begin with a prefix and their number."""
    return len({n.removeprefix(prefix).split(".")[0] for n in shapes if n.startswith(prefix)})


def count_heads(width: int, channels: int) -> int:
    """Return how many attention heads of so many channels a width holds; 1 if that is not whole."""
    return width // channels if width % channels == 0 else 1
