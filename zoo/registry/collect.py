"""What the hooks of one plugin return, checked before any of it is registered."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import pluggy

from zoo.errors import PluginError, suggest
from zoo.registry.former import FORMER_HOOKS
from zoo.registry.hookspecs import GROUP
from zoo.registry.kinds import KINDS, Kind

NAME = re.compile(r"\w[\w.:/-]*")


def collect(module: ModuleType, manager: pluggy.PluginManager) -> list[tuple[Kind, Any]]:
    """Return (kind, spec) of everything a plugin returns, if that is what its hooks are for.

    Raises:
        PluginError: if a hook is not one of ours, or returns something else than a list of specs.
    """
    hooks = _hooks_of(module)
    others = [p for p in manager.get_plugins() if p is not module]
    collected: list[tuple[Kind, Any]] = []
    for kind in KINDS.values():
        returned = manager.subset_hook_caller(kind.hook, remove_plugins=others)()
        if kind.hook in hooks and not returned:
            raise PluginError(f"{kind.hook} returns nothing; it must {kind.wanted}")
        for specs in returned:
            parts = specs if isinstance(specs, list | tuple) else [specs]
            wrong = [part for part in parts if not isinstance(part, kind.specs)]
            if wrong or parts is not specs:
                found = type((wrong or parts)[0]).__name__
                raise PluginError(f"{kind.hook} returns {found}; it must {kind.wanted}")
            collected += [(kind, spec) for spec in specs]
    for kind, spec in collected:
        _check_build(kind, spec)
    return collected


def _check_build(kind: Kind, spec: Any) -> None:
    """Check that a component can be built from what it will be given.

    Raises:
        PluginError: if its ``build`` takes something else.
    """
    build = getattr(spec, "build", None)
    if build is None or not kind.given:
        return
    try:
        signature = inspect.signature(build)
    except ValueError:  # of something built into Python
        return
    try:
        signature.bind(*kind.given)
    except TypeError:
        raise PluginError(
            f"build of {kind.noun} '{spec.name}' takes {signature}; it must take "
            f"({', '.join(kind.given)})"
        ) from None


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
    known = {kind.hook for kind in KINDS.values()}
    for name in sorted(marked & set(FORMER_HOOKS)):
        raise PluginError(f"{name} is a hook of earlier versions: {FORMER_HOOKS[name]}")
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
