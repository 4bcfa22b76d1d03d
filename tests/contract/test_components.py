"""Every registered component keeps its promises."""

from pathlib import Path

import pytest

from zoo import testing
from zoo.data.manifest import Manifest
from zoo.registry.kinds import KINDS
from zoo.registry.manager import registry

COMPONENTS = [
    (kind.name, name)
    for kind in KINDS.values()
    for name in registry().of_kind(kind)
    if kind.name != "datasets"
]


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=map(" ".join, COMPONENTS))
def test_component(kind: str, name: str) -> None:
    testing.CHECKS[kind](name)  # formats: round trips in tests/unit/test_convert


@pytest.mark.parametrize("name", registry().datasets)
def test_dataset(name: str, clips: Manifest) -> None:
    folder: Path = clips.clips[0].path.parents[1]
    is_listed = "meta" in registry().dataset(name).config_class.model_fields
    testing.check_dataset(name, None if is_listed else folder)  # those: tests/unit/test_datasets


def test_no_built_in_plugin_fails_to_load() -> None:
    assert registry().failures == []
