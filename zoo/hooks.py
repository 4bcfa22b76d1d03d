"""The plugin core: hookspecs, the manager, and a registry of everything registered.

Plugins are found through the entry-point group ``zoo``; single files come with ``--plugin FILE``
or the environment variable ``ZOO_PLUGINS`` (which also reaches Ray workers).  A plugin that fails
to load is reported and skipped.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from zoo.contracts import (
    AggregatorSpec,
    CommandSpec,
    DatasetSpec,
    ExtractorSpec,
    FormatSpec,
    HeadSpec,
    ObjectiveSpec,
    PairSpec,
)
from zoo.errors import PluginError, suggest

GROUP = "zoo"
PLUGIN_FILES_VARIABLE = "ZOO_PLUGINS"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
log = logging.getLogger(__name__)


class Hooks:
    """Everything a plugin can register."""

    @hookspec
    def register_extractors(self) -> list[ExtractorSpec]:
        """Return extractors of one modality each."""

    @hookspec
    def register_pairs(self) -> list[PairSpec]:
        """Return named combinations of an audio and a video extractor."""

    @hookspec
    def register_aggregators(self) -> list[AggregatorSpec]:
        """Return aggregators."""

    @hookspec
    def register_heads(self) -> list[HeadSpec]:
        """Return heads."""

    @hookspec
    def register_objectives(self) -> list[ObjectiveSpec]:
        """Return stage I objectives."""

    @hookspec
    def register_datasets(self) -> list[DatasetSpec]:
        """Return dataset adapters."""

    @hookspec
    def register_formats(self) -> list[FormatSpec]:
        """Return layouts in which others publish whole models."""

    @hookspec
    def register_commands(self) -> list[CommandSpec]:
        """Return verbs of the command line."""


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be loaded."""

    plugin: str
    reason: str


@dataclass
class Registry:
    """Every component that the loaded plugins registered, by kind and name."""

    extractors: dict[str, ExtractorSpec] = field(default_factory=dict)
    pairs: dict[str, PairSpec] = field(default_factory=dict)
    aggregators: dict[str, AggregatorSpec] = field(default_factory=dict)
    heads: dict[str, HeadSpec] = field(default_factory=dict)
    objectives: dict[str, ObjectiveSpec] = field(default_factory=dict)
    datasets: dict[str, DatasetSpec] = field(default_factory=dict)
    formats: dict[str, FormatSpec] = field(default_factory=dict)
    commands: dict[str, CommandSpec] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    """``"kind name" -> plugin`` that registered it."""
    failures: list[Failure] = field(default_factory=list)

    def extractor(self, name: str) -> ExtractorSpec:
        """Return an extractor by name, or say which name is closest."""
        return _lookup("extractor", self.extractors, name)

    def aggregator(self, name: str) -> AggregatorSpec:
        """Return an aggregator by name."""
        return _lookup("aggregator", self.aggregators, name)

    def head(self, name: str) -> HeadSpec:
        """Return a head by name."""
        return _lookup("head", self.heads, name)

    def objective(self, name: str) -> ObjectiveSpec:
        """Return a stage I objective by name."""
        return _lookup("objective", self.objectives, name)

    def dataset(self, name: str) -> DatasetSpec:
        """Return a dataset adapter by name."""
        return _lookup("dataset", self.datasets, name)

    def format(self, name: str) -> FormatSpec:
        """Return a layout of published models by name."""
        return _lookup("format", self.formats, name)

    def pair(self, name: str) -> PairSpec:
        """Return a named pair, or the ad hoc pair ``audio+vision``."""
        if "+" in name:
            return self._ad_hoc_pair(name)
        return _lookup("extractor", self.pairs, name)

    def _ad_hoc_pair(self, name: str) -> PairSpec:
        specs = [self.extractor(part) for part in name.split("+")]
        found = {spec.modality: spec.name for spec in specs}
        if len(specs) != 2 or set(found) != {"audio", "vision"}:
            raise PluginError(f"'{name}' is not one audio and one vision extractor joined by '+'")
        return PairSpec(
            name=name, summary="ad hoc pair", audio=found["audio"], vision=found["vision"]
        )


S = TypeVar("S")


def _lookup(kind: str, specs: dict[str, S], name: str) -> S:
    if name in specs:
        return specs[name]
    raise PluginError(f"unknown {kind} '{name}'{suggest(name, specs) or '.'} See: zoo list {kind}s")


def load_registry(
    found: list[tuple[str, Callable[[], ModuleType]]] | None = None,
) -> Registry:
    """Load every plugin and collect what it registers.

    Args:
        found: ``(name, loader)`` of each plugin; by default the entry points of the group ``zoo``
            and then the files of ``ZOO_PLUGINS``.

    Raises:
        PluginError: if two plugins claim one name.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Hooks)
    registry = Registry()
    for name, loader in _find_plugins() if found is None else found:
        _load(name, loader, manager, registry)
    return registry


def _load(
    name: str, loader: Callable[[], ModuleType], manager: pluggy.PluginManager, registry: Registry
) -> None:
    """Register one plugin whole, or report it and leave no trace of it."""
    try:
        module = loader()
        manager.register(module, name=name)
        specs = _collect(name, module, manager)
    except Exception as error:
        # A broken plugin of a third party must not take `zoo list` down, whatever it raises.
        if manager.has_plugin(name):
            manager.unregister(name=name)
        reason = f"{type(error).__name__}: {error}"
        registry.failures.append(Failure(name, reason))
        log.warning("plugin '%s' was skipped: %s", name, reason)
        return
    for kind, spec in specs:
        _add(registry, kind, spec, name)


def _collect(name: str, module: ModuleType, manager: pluggy.PluginManager) -> list[tuple[str, Any]]:
    others = [p for p in manager.get_plugins() if p is not module]
    collected: list[tuple[str, Any]] = []
    for hook in (key for key in vars(Hooks) if key.startswith("register_")):
        caller = manager.subset_hook_caller(hook, remove_plugins=others)
        for specs in caller():
            collected += [(hook.removeprefix("register_"), spec) for spec in specs]
    return collected


def _add(registry: Registry, kind: str, spec: Any, plugin: str) -> None:
    specs: dict[str, Any] = getattr(registry, kind)
    key = f"{spec.group} {spec.name}".strip() if isinstance(spec, CommandSpec) else spec.name
    owner = f"{kind} {key}"
    if key in specs:
        raise PluginError(
            f"plugins '{registry.plugins[owner]}' and '{plugin}' both register "
            f"{kind.removesuffix('s')} '{key}'; uninstall or rename one of them"
        )
    specs[key] = spec
    registry.plugins[owner] = plugin


def _find_plugins() -> list[tuple[str, Callable[[], ModuleType]]]:
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    found: list[tuple[str, Callable[[], ModuleType]]] = [(p.name, p.load) for p in points]
    return found + [(file.stem, partial(_load_file, file)) for file in plugin_files()]


def plugin_files() -> list[Path]:
    """Return the single-file plugins that ``ZOO_PLUGINS`` names."""
    files = os.environ.get(PLUGIN_FILES_VARIABLE, "").split(os.pathsep)
    return [Path(file) for file in files if file]


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"zoo_plugin_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PluginError(f"no plugin file at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def add_plugin_file(path: Path) -> None:
    """Make a single-file plugin known to this process and to the workers it starts.

    Raises:
        PluginError: if there is no such file.
    """
    path = path.resolve()
    if not path.is_file():
        raise PluginError(f"no plugin file at {path}")
    files = plugin_files()
    if path not in files:
        os.environ[PLUGIN_FILES_VARIABLE] = os.pathsep.join(str(f) for f in [*files, path])
    registry.cache_clear()


@cache
def registry() -> Registry:
    """Return the registry of this process."""
    return load_registry()
