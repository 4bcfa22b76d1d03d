"""What earlier versions called things, and what a plugin that was written for them must change."""

from __future__ import annotations

FORMER_HOOKS = {
    "register_pairs": "rename it to register_encoders, which returns the same zoo.PairSpec",
}

FORMER_MODULES = {
    "zoo.modules": "zoo.models.modules; what it calls SegmentBatch is zoo.Segments now",
    "zoo.model": "zoo.models.model; a Tower is an ExtractorEncoder of zoo.models.two_tower now",
    "zoo.hooks": "zoo.registry.manager",
    "zoo.plugin_files": "zoo.registry.plugin_files",
    "zoo.space": "zoo.search_space",
    "zoo.folder": "zoo.catalog.model_folder",
    "zoo.device": "zoo.models.device",
}
"""Modules that have moved, and where to."""


def moved_module(error: BaseException) -> str | None:
    """Say where a module has gone that a plugin imports under its former name."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in FORMER_MODULES:
        return None
    return f"the module {error.name} has moved: import {FORMER_MODULES[error.name]}"
