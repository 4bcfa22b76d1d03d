"""Which layout a checkpoint is of: where in it the weights are, and who knows their names.

A model is read from a checkpoint, and written as one, by the plugin that knows the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.checkpoints.reader import read_checkpoint
from zoo.contracts import (
    EncoderSpec,
    ExtractorSpec,
    FormatSpec,
    InitialWeights,
    PairSpec,
    WeightsFormat,
)
from zoo.errors import ConfigError, ModelError, option
from zoo.models.config import ModelConfig
from zoo.models.model import LEFTOVER, OBJECTIVE, Model
from zoo.models.without_values import without_values
from zoo.registry.manager import registry

Tensors = dict[str, Tensor]
PUBLISHED = "published"
_WRAPPERS = ("module.", "_orig_mod.")  # of distributed training and of torch.compile


def read_model(
    path: Path,
    format_name: str | None = None,
    change: Callable[[ModelConfig], ModelConfig] = lambda config: config,
) -> tuple[str, Model]:
    """Read a model from a published checkpoint; return the name of its layout as well.

    Its weights are views into the file; buffers that are no weights stay on the meta device, so
    it can be saved, not run.

    Args:
        path: the checkpoint.
        format_name: name of the layout, where it must be a certain one.
        change: adds to the config what the checkpoint does not tell.

    Raises:
        ModelError: if the file cannot be read, or is not of a known layout, or is broken.
        ConfigError: if a setting changes what the weights are of.
        PluginError: if there is no layout of that name.
    """
    spec, tensors = find_model(path, read_tensors(path), format_name)
    try:
        config, state = spec.read(tensors)
    except ModelError as error:
        raise ModelError(f"{path} does not fit the layout '{spec.name}': {error}") from None
    try:
        return spec.name, build_around(change(config), state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{path} does not fit the settings that were changed: {reason}") from None


def build_around(config: ModelConfig, state: dict[str, Tensor]) -> Model:
    """Build a model around weights, without memory of its own (see `FormatSpec.read`)."""
    with without_values():
        model = Model(config)
    give(model, state, assign=True)
    return model


def give(model: Model, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Give a model its weights, and what is kept beside them."""
    parts: dict[str, Tensors] = {OBJECTIVE: {}, LEFTOVER: {}}
    mine: Tensors = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        parts.get(first, mine)[rest if first in parts else name] = tensor
    model.load_state_dict(mine, assign=assign)
    for kind, tensors in parts.items():
        if tensors:
            model.beside[kind] = partial(dict, tensors)


def as_published(
    model: Model, name: str, format_name: str = PUBLISHED
) -> tuple[FormatSpec, dict[str, Any]]:
    """Return what the authors' code loads in place of a model, and the layout.

    Args:
        model: to be written.
        name: of the model, for messages.
        format_name: of the layout, or ``published`` for the one that holds such models.

    Raises:
        ModelError: if the layout cannot hold this model.
        PluginError: if there is no such layout.
    """
    known = registry().formats.values()
    specs = list(known) if format_name == PUBLISHED else [registry().format(format_name)]
    reasons = []
    for spec in specs:
        try:
            return spec, spec.write(model)
        except ModelError as error:
            reasons.append(f"{spec.name}: {error}")
    raise ModelError(f"{name} fits no published layout: {'; '.join(reasons)}")


def read_tensors(path: Path) -> list[Tensors]:
    """Read a checkpoint and return what may be its weights: the file itself, then its parts.

    Where tensors lie deeper, as in files of Flax, every group of groups may be the weights too;
    the names of its tensors are joined: ``Transformer/encoder_norm/scale``.

    Raises:
        ModelError: if it cannot be read, or holds no tensors.
    """
    checkpoint = read_checkpoint(path)
    parts = [checkpoint, *(part for part in checkpoint.values() if isinstance(part, dict))]
    found = [tensors for part in parts if (tensors := unwrapped(part))]
    joined = _joined(checkpoint, set())
    if any(name.count("/") > 1 for name in joined):
        found += _groups(joined)
    if not found:
        raise ModelError(f"{path} holds no tensors that have a name")
    return found


def _joined(group: Mapping[Any, Any], seen: set[int]) -> Tensors:
    """Return all tensors inside a group; what stands in it several times counts once."""
    seen.add(id(group))
    found: Tensors = {}
    for key, value in group.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            found[key] = value
        elif isinstance(key, str) and isinstance(value, dict) and id(value) not in seen:
            found |= {f"{key}/{name}": x for name, x in _joined(value, seen).items()}
    return found


def _groups(tensors: Tensors) -> Iterator[Tensors]:
    """Yield tensors, then those of the groups within that hold groups, the outermost first."""
    yield tensors
    below: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        if rest:
            below.setdefault(group, {})[rest] = tensor
    for inside in below.values():
        if any("/" in name for name in inside):
            yield from _groups(inside)


def unwrapped(part: Mapping[Any, Any]) -> Tensors:
    """Return the tensors of a dictionary, without what distributed training puts before names."""
    tensors = {
        key: value
        for key, value in part.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    for wrapper in _WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors


def find_model(
    path: Path, parts: list[Tensors], format_name: str | None = None
) -> tuple[FormatSpec, Tensors]:
    """Return the layout of a whole model, and its tensors.

    Args:
        path: the file, for messages.
        parts: of `read_tensors`.
        format_name: consider this layout only.

    Raises:
        ModelError: if no layout recognises them.
        PluginError: if there is no layout of that name.
    """
    known = registry().formats.values()
    specs = list(known) if format_name is None else [registry().format(format_name)]
    for tensors in parts:
        for spec in specs:
            if spec.recognises(tensors):
                return spec, tensors
    if format_name is not None:
        raise ModelError(f"{path} is not of the layout '{format_name}'{_first_of(parts)}")
    found = [f"the extractor '{spec.name}'" for spec, _, _ in find_extractors(parts)]
    encoders = [spec.name for spec, _, _ in find_starts(parts)]
    if found or encoders:
        of_what = found[0] if found else "an image model"
        which = f" with {option('extractor')} {' or '.join(encoders)}" if encoders else ""
        raise ModelError(
            f"{path} holds the weights of {of_what} only",
            f"start a training from it{which}: {option('init')} {path}",
        )
    raise ModelError(f"{path} is of no known layout{_first_of(parts)}; see: zoo list formats")


def find_extractors(
    parts: list[Tensors],
) -> Iterator[tuple[ExtractorSpec, WeightsFormat, Tensors]]:
    """Yield the extractors whose weights these may be."""
    for tensors in parts:
        for spec in registry().extractors.values():
            for layout in spec.formats:
                if layout.recognises(tensors):
                    yield spec, layout, tensors


def find_starts(
    parts: list[Tensors],
) -> Iterator[tuple[EncoderSpec, InitialWeights, Tensors]]:
    """Yield the encoders of both modalities that may start from these weights."""
    for tensors in parts:
        for spec in registry().encoders.values():
            if isinstance(spec, PairSpec):
                continue
            for layout in spec.formats:
                if layout.recognises(tensors):
                    yield spec, layout, tensors


def _first_of(parts: list[Tensors]) -> str:
    largest = max(parts, key=len)
    return f" (it holds {len(largest)} tensors, the first is {next(iter(largest))[:80]!r})"
