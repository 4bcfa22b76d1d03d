"""What the hooks of one plugin return, checked before any of it is registered."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

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
from zoo.errors import PluginError, suggest
from zoo.registry.plugin_files import GROUP

NAME = re.compile(r"\w[\w.:/-]*")
SPECS: dict[str, tuple[type, ...]] = {
    "extractors": (ExtractorSpec,),
    "encoders": (EncoderSpec, PairSpec),
    "aggregators": (AggregatorSpec,),
    "heads": (HeadSpec,),
    "objectives": (ObjectiveSpec,),
    "tasks": (TaskSpec,),
    "datasets": (DatasetSpec,),
    "formats": (FormatSpec,),
    "commands": (CommandSpec,),
}
"""What a plugin registers, by kind: the hook is ``register_`` and the kind."""

FORMER = {
    "register_pairs": "rename it to register_encoders, which returns the same zoo.PairSpec",
}
"""Hooks of earlier versions, and what to change."""


def collect(module: ModuleType, manager: pluggy.PluginManager) -> list[tuple[str, Any]]:
    """Return (kind, spec) of everything a plugin returns, if that is what its hooks are for.

    Raises:
        PluginError: if a hook is not one of ours, or returns something else than a list of specs.
    """
    hooks = _hooks_of(module)
    others = [p for p in manager.get_plugins() if p is not module]
    collected: list[tuple[str, Any]] = []
    for kind, spec_classes in SPECS.items():
        hook = f"register_{kind}"
        returned = manager.subset_hook_caller(hook, remove_plugins=others)()
        if hook in hooks and not returned:
            raise PluginError(f"{hook} returns nothing; it must {_wanted(spec_classes)}")
        for specs in returned:
            parts = specs if isinstance(specs, list | tuple) else [specs]
            wrong = [part for part in parts if not isinstance(part, spec_classes)]
            if wrong or parts is not specs:
                found = type((wrong or parts)[0]).__name__
                raise PluginError(f"{hook} returns {found}; it must {_wanted(spec_classes)}")
            collected += [(kind, spec) for spec in specs]
    return collected


def _wanted(spec_classes: tuple[type, ...]) -> str:
    return f"return a list of {' or '.join(f'zoo.{c.__name__}' for c in spec_classes)}"


def _hooks_of(module: ModuleType) -> set[str]:
    """Return the names of the hooks that a plugin implements.

    Raises:
        PluginError: if there is none, or one that nobody calls: a name misspelt, a mark forgotten.
    """
    marked = {
        mark.get("specname") or name
        for name, value in vars(module).items()
        if (mark := getattr(value, f"{GROUP}_impl", None))
    }
    known = {f"register_{kind}" for kind in SPECS}
    for name in sorted(marked & set(FORMER)):
        raise PluginError(f"{name} is a hook of earlier versions: {FORMER[name]}")
    for name in sorted(marked - known):
        raise PluginError(f"there is no hook '{name}'{suggest(name, known) or '; see zoo.Hooks'}")
    bare = sorted(known & set(vars(module)) - marked)
    if bare:
        raise PluginError(f"{bare[0]} is not marked as a hook; put @zoo.hookimpl above it")
    if not marked:
        raise PluginError(
            "it has no hook: a plugin has functions such as register_extractors, marked with "
            "@zoo.hookimpl"
        )
    return marked
