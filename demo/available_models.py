"""The models that can be chosen, as the catalog and the plugins are at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from demo.memory import total_bytes
from zoo.catalog.entries import CONFIG, CatalogEntry, read_catalog, read_description
from zoo.catalog.model_folder import read_config
from zoo.errors import ModelError, PluginError, ZooError, suggest
from zoo.inference.reconstruction import can_rebuild
from zoo.models.config import Component
from zoo.models.model import build_task
from zoo.registry.manager import registry

BYTES_PER_WEIGHT = 4


@dataclass(frozen=True, kw_only=True)
class AvailableModel:
    """A model that can be asked about a clip.

    Attributes:
        name: in the catalog.
        entry: what the catalog says of it.
        is_here: it needs no download.
        problem: why it cannot run here, or empty.
        parameters: number of weights; None before it is here.
        finds_offsets: it can be compared, tested, and repair a clip.
    """

    name: str
    entry: CatalogEntry
    is_here: bool = True
    problem: str = ""
    parameters: int | None = None
    finds_offsets: bool = True

    @property
    def is_ready(self) -> bool:
        """Whether it can be used at once."""
        return self.is_here and not self.problem

    def card(self) -> dict[str, Any]:
        """Return what one should know before one trusts it, as JSON types."""
        facts = self.entry.model_dump(
            include={"summary", "trained_on", "scores", "license", "source", "recipe"}
        )
        return {
            "name": self.name,
            "is_here": self.is_here,
            "problem": self.problem,
            "parameters": self.parameters,
            "finds_offsets": self.finds_offsets,
            **facts,
        }


def available_models() -> dict[str, AvailableModel]:
    """Return every model of the catalog that has a head, by name.

    Raises:
        ModelError: if a catalog cannot be read.
    """
    found = {}
    for name, (entry, path) in read_catalog().items():
        model = _describe(name, entry, path) if entry.kind == "model" else None
        if model is not None:
            found[name] = model
    return found


def find_model(name: str | None) -> AvailableModel:
    """Return a model that can be used at once.

    Raises:
        ModelError: if there is none of this name, or it must be pulled first, or cannot run here.
    """
    if not name:
        raise ModelError("there is no model yet: choose one")
    models = available_models()
    if name not in models:
        raise ModelError(f"no model '{name}' is offered here{suggest(name, models)}")
    model = models[name]
    if model.problem:
        raise ModelError(f"'{name}' cannot run here: {model.problem}")
    if not model.is_here:
        raise ModelError(f"'{name}' is not on this server yet: pull it first")
    return model


def models_with_decoder() -> list[str]:
    """Return the names of the models that can rebuild what is hidden from them."""
    return [
        name
        for name, (entry, path) in read_catalog().items()
        if entry.kind == "model" and (path / CONFIG).exists() and _has_decoder(path)
    ]


def find_decoder(name: str | None) -> str:
    """Return the name of a model that can rebuild what is hidden from it.

    Raises:
        ModelError: if there is none of this name.
    """
    names = models_with_decoder()
    if name not in names:
        raise ModelError(
            f"no model '{name}' with a decoder is offered here{suggest(str(name), names)}"
        )
    return name


def _has_decoder(path: Path) -> bool:
    return _holds_decoder(path, (path / CONFIG).stat().st_mtime_ns)


@lru_cache
def _holds_decoder(path: Path, _written: int) -> bool:
    try:
        return can_rebuild(path)
    except (ZooError, AttributeError, KeyError, TypeError, ValueError):
        return False  # damaged, or a plugin is missing


def _describe(name: str, entry: CatalogEntry, path: Path) -> AvailableModel | None:
    """Return a model of the catalog, or None if it has no head and cannot be asked."""
    if not path.exists():
        return _absent(name, entry)
    try:
        parameters = int(read_description(path)["parameters"])
        config = read_config(path)
        if config.head is None or config.task is None:
            return None
        finds_offsets = build_task(config.task).answers_offsets
    except PluginError as error:
        return AvailableModel(name=name, entry=entry, problem=str(error))
    except (ZooError, AttributeError, KeyError, TypeError, ValueError):
        return AvailableModel(name=name, entry=entry, problem="its folder is damaged")
    needed = BYTES_PER_WEIGHT * parameters
    problem = ""
    if needed > total_bytes():
        problem = f"its weights take {needed / 1e9:.1f} GB, more memory than there is"
    return AvailableModel(
        name=name, entry=entry, problem=problem, parameters=parameters, finds_offsets=finds_offsets
    )


def _absent(name: str, entry: CatalogEntry) -> AvailableModel | None:
    if entry.download is None:
        problem = "the folder that the catalog names is not there"
        return AvailableModel(name=name, entry=entry, is_here=False, problem=problem)
    layout = registry().formats.get(entry.download.format)
    if layout is None:
        problem = f"no plugin knows the layout '{entry.download.format}' of its weights"
        return AvailableModel(name=name, entry=entry, is_here=False, problem=problem)
    if layout.task is None:
        return None
    try:
        finds_offsets = _finds_offsets(layout.task)
    except ZooError as error:
        return AvailableModel(name=name, entry=entry, is_here=False, problem=str(error))
    return AvailableModel(name=name, entry=entry, is_here=False, finds_offsets=finds_offsets)


def _finds_offsets(name: str) -> bool:
    """Say whether a task is about offsets, whatever its settings."""
    spec = registry().task(name)
    config = next(iter(spec.presets.values()), None) or spec.config_class()
    return build_task(Component.of(spec, config)).answers_offsets
