"""The plugin core: what loads plugins, and a registry of everything that they register.

Plugins are found through the entry-point group ``zoo``; single files come with ``--plugin FILE``
or the environment variable ``ZOO_PLUGINS`` (which also reaches Ray workers).  A plugin that fails
to load, or claims a name that is taken, is reported and skipped.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from zoo.contracts import (
    AggregatorSpec,
    CommandSpec,
    DatasetSpec,
    EncoderSpec,
    ExtractorSpec,
    FormatSpec,
    HeadSpec,
    ObjectiveSpec,
    PairSpec,
    TaskSpec,
)
from zoo.errors import MissingComponentError, PluginError, option, suggest
from zoo.registry.collect import NAME, collect
from zoo.registry.hookspecs import GROUP, Hooks
from zoo.registry.kinds import KINDS, Kind
from zoo.registry.plugin_files import (
    PLUGIN_FILES_VARIABLE,
    is_own,
    load_file,
    plugin_files,
    reason_of,
)

S = TypeVar("S")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be loaded."""

    plugin: str
    reason: str


class Registry:
    """Every component that the loaded plugins registered, by kind and name."""

    extractors: dict[str, ExtractorSpec]
    encoders: dict[str, EncoderSpec | PairSpec]
    aggregators: dict[str, AggregatorSpec]
    heads: dict[str, HeadSpec]
    objectives: dict[str, ObjectiveSpec]
    tasks: dict[str, TaskSpec]
    datasets: dict[str, DatasetSpec]
    formats: dict[str, FormatSpec]
    commands: dict[str, CommandSpec]

    def __init__(self) -> None:
        for kind in KINDS:
            setattr(self, kind, {})
        self.plugins: dict[str, str] = {}
        """``"kinds name" -> plugin`` that registered it."""
        self.names: list[str] = []
        """Of the plugins that were loaded."""
        self.failures: list[Failure] = []

    def of_kind(self, kind: Kind) -> dict[str, Any]:
        """Return the components of a kind by name."""
        specs: dict[str, Any] = getattr(self, kind.name)
        return specs

    def extractor(self, name: str) -> ExtractorSpec:
        """Return an extractor by name, or say which name is closest."""
        return self._lookup("extractors", self.extractors, name)

    def aggregator(self, name: str) -> AggregatorSpec:
        """Return an aggregator by name."""
        return self._lookup("aggregators", self.aggregators, name)

    def head(self, name: str) -> HeadSpec:
        """Return a head by name."""
        return self._lookup("heads", self.heads, name)

    def objective(self, name: str) -> ObjectiveSpec:
        """Return a stage I objective by name."""
        return self._lookup("objectives", self.objectives, name)

    def task(self, name: str) -> TaskSpec:
        """Return a task by name."""
        return self._lookup("tasks", self.tasks, name)

    def default_task(self) -> TaskSpec:
        """Return the task that is trained where nobody names one."""
        return _default("task", self.tasks.values())

    def default_aggregator(self) -> AggregatorSpec:
        """Return the aggregator that is taken where nobody names one."""
        return _default("aggregator", self.aggregators.values())

    def default_objective(self) -> ObjectiveSpec:
        """Return the objective that is taken where nobody names one."""
        return _default("objective", self.objectives.values())

    def default_head(self, task: str) -> HeadSpec | None:
        """Return the head that is taken for a task where nobody names one; None if none is."""
        found = [head for head in self.heads_of(task) if head.is_default]
        return min(found, key=lambda head: head.tasks.index(task), default=None)

    def heads_of(self, task: str) -> list[HeadSpec]:
        """Return the heads that give the outputs of a task."""
        return [head for head in self.heads.values() if task in head.tasks]

    def dataset(self, name: str) -> DatasetSpec:
        """Return a dataset adapter by name."""
        return self._lookup("datasets", self.datasets, name)

    def format(self, name: str) -> FormatSpec:
        """Return a layout of published models by name."""
        return self._lookup("formats", self.formats, name)

    def encoder(self, name: str) -> EncoderSpec | PairSpec:
        """Return an encoder by name, or the pair that ``audio+vision`` puts together."""
        if "+" in name:
            return self._ad_hoc_pair(name)
        if name not in self.encoders and name in self.extractors:
            raise self._half_a_pair(self.extractors[name])
        return self._lookup("encoders", self.encoders, name)

    def _ad_hoc_pair(self, name: str) -> PairSpec:
        parts = name.split("+")
        specs = [self.extractor(part) for part in parts] if len(parts) == 2 and all(parts) else []
        found = {spec.modality: spec.name for spec in specs}
        if set(found) != {"audio", "vision"}:
            named = " and ".join(f"'{spec.name}' reads {spec.modality}" for spec in specs)
            raise PluginError(
                f"'{name}' is not one audio and one vision extractor joined by '+'"
                f"{f': {named}' if named else ''}; see: zoo list extractors"
            )
        audio, vision = found["audio"], found["vision"]
        for pair in self.encoders.values():
            if isinstance(pair, PairSpec) and (pair.audio, pair.vision) == (audio, vision):
                return pair
        return PairSpec(name=name, summary="ad hoc pair", audio=audio, vision=vision)

    def _half_a_pair(self, spec: ExtractorSpec) -> PluginError:
        others = [other for other in self.extractors.values() if other.modality != spec.modality]
        joined = [
            "+".join((spec.name, o.name) if spec.modality == "audio" else (o.name, spec.name))
            for o in others
        ]
        wanted = "a vision" if spec.modality == "audio" else "an audio"
        return PluginError(
            f"'{spec.name}' reads {spec.modality} only",
            f"join it with {wanted} extractor, such as {option('extractor')} "
            f"{' or '.join(joined[:2])}",
        )

    def find(self, kind: str, name: str) -> Any:
        """Return a component by its kind (``extractors``, ``heads``, ...) and name."""
        if kind == "encoders":
            return self.encoder(name)
        return self._lookup(kind, getattr(self, kind), name)

    def _lookup(self, kind: str, specs: dict[str, S], name: str) -> S:
        if name in specs:
            return specs[name]
        skipped = "".join(f"; plugin '{f.plugin}' was skipped: {f.reason}" for f in self.failures)
        closest = suggest(name, specs) or "."
        noun = KINDS[kind].noun
        unknown = MissingComponentError(
            f"unknown {noun} '{name}'{closest} See: zoo list {kind}{skipped}"
        )
        unknown.component = f"{noun} {name}"
        raise unknown


D = TypeVar("D", AggregatorSpec, ObjectiveSpec, TaskSpec)


def _default(kind: str, specs: Iterable[D]) -> D:
    found = next((spec for spec in specs if spec.is_default), None)
    if found is None:
        raise PluginError(f"no {kind} is registered as the default; name one")
    return found


def load_registry(
    found: list[tuple[str, Callable[[], ModuleType]]] | None = None,
) -> Registry:
    """Load every plugin and collect what it registers.

    Args:
        found: ``(name, loader)`` of each plugin; by default the entry points of the group ``zoo``,
            those of this distribution first, and then the files of ``ZOO_PLUGINS``.
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
        if manager.has_plugin(name):
            raise PluginError(f"another plugin is named '{name}'; rename one of them")
        module = loader()
        if module in manager.get_plugins():
            return  # a package that is installed from the folder it is given by
        manager.register(module, name=name)
        specs = collect(module, manager)
        claimed = _claim(registry, specs, name)
    except (Exception, SystemExit) as error:
        # A broken plugin of a third party must not take `zoo list` down, whatever it raises.
        if name not in registry.names and manager.has_plugin(name):
            manager.unregister(name=name)
        reason = reason_of(error)
        registry.failures.append(Failure(name, reason))
        log.warning("plugin '%s' was skipped: %s", name, reason)
        return
    registry.names.append(name)
    for kind, key, spec in claimed:
        registry.of_kind(kind)[key] = spec
        registry.plugins[f"{kind.name} {key}"] = name


def _claim(
    registry: Registry, specs: list[tuple[Kind, Any]], plugin: str
) -> list[tuple[Kind, str, Any]]:
    """Return (kind, name, spec) of everything a plugin registers, if no name is taken."""
    claimed: dict[tuple[Kind, str], Any] = {}
    for kind, spec in specs:
        key = kind.key(spec)
        if not NAME.fullmatch(spec.name):
            raise PluginError(
                f"{kind.noun} '{spec.name}' cannot be chosen by that name; take letters, digits "
                "and any of _ . : / -"
            )
        if (kind, key) in claimed:
            raise PluginError(f"it registers {kind.noun} '{key}' twice; rename one of the two")
        if key in registry.of_kind(kind):
            owner = registry.plugins.get(f"{kind.name} {key}", plugin)
            raise PluginError(
                f"plugins '{owner}' and '{plugin}' both register {kind.noun} '{key}'; uninstall or "
                "rename one of them"
            )
        claimed[kind, key] = spec
    return [(kind, key, spec) for (kind, key), spec in claimed.items()]


def _find_plugins() -> list[tuple[str, Callable[[], ModuleType]]]:
    points = sorted(entry_points(group=GROUP), key=_own_first)
    found: list[tuple[str, Callable[[], ModuleType]]] = [(p.name, p.load) for p in points]
    return found + [(file.stem, partial(load_file, file)) for file in plugin_files()]


def _own_first(point: EntryPoint) -> tuple[bool, str]:
    """A name that a third party claims too stays ours, so that our models go on loading."""
    return not is_own(point.dist.name if point.dist else None), point.name


def add_plugin_file(path: Path) -> None:
    """Make a plugin known to this process and to those it starts: a file, or a package's folder.

    Raises:
        PluginError: if there is no such file.
    """
    path = path.resolve()
    if not path.is_file() and not (path / "__init__.py").is_file():
        what = "it has no __init__.py" if path.is_dir() else "there is none"
        raise PluginError(f"no plugin file at {path}: {what}")
    files = plugin_files()
    if path not in files:
        os.environ[PLUGIN_FILES_VARIABLE] = os.pathsep.join(str(f) for f in [*files, path])
    registry.cache_clear()


@cache
def registry() -> Registry:
    """Return the registry of this process."""
    return load_registry()
