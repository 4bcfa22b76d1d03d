"""Components with a defect, registered for one test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.registry.manager import add_plugin_file, registry


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Load a plugin from its text, and forget it afterwards."""
    monkeypatch.setenv("ZOO_PLUGINS", "")

    def load(text: str) -> None:
        file = tmp_path / "broken.py"
        file.write_text(text)
        add_plugin_file(file)

    yield load
    monkeypatch.undo()
    registry.cache_clear()


@pytest.fixture
def register() -> Iterator[Callable[[str, object], None]]:
    """Register a component as if a built-in plugin had brought it."""

    def register(kind: str, spec: Any) -> None:
        getattr(registry(), kind)[spec.name] = spec
        registry().plugins[f"{kind} {spec.name}"] = "folder"

    yield register
    registry.cache_clear()
