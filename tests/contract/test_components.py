"""Every registered component keeps its promises."""

from pathlib import Path

import pytest

from zoo import testing
from zoo.data.manifest import Manifest
from zoo.models.two_tower import ExtractorEncoder
from zoo.registry.manager import registry


@pytest.mark.parametrize("name", registry().extractors)
def test_extractor(name: str) -> None:
    testing.check_extractor(name)


@pytest.mark.parametrize("name", registry().aggregators)
def test_aggregator(name: str) -> None:
    testing.check_aggregator(name)


@pytest.mark.parametrize("name", registry().heads)
def test_head(name: str) -> None:
    testing.check_head(name)


@pytest.mark.parametrize("name", registry().objectives)
def test_objective(name: str) -> None:
    testing.check_objective(name)


@pytest.mark.parametrize("name", registry().datasets)
def test_dataset(name: str, clips: Manifest) -> None:
    folder: Path = clips.clips[0].path.parents[1]
    is_listed = "meta" in registry().dataset(name).config_class.model_fields
    testing.check_dataset(name, None if is_listed else folder)  # those: tests/unit/test_datasets


@pytest.mark.parametrize("name", registry().pairs)
def test_pair_is_one_audio_and_one_vision_extractor(name: str) -> None:
    testing.check_pair(name)
    assert isinstance(testing.any_tower("audio"), ExtractorEncoder)


@pytest.mark.parametrize("name", registry().formats)
def test_format(name: str) -> None:
    testing.check_format(name)  # round trips: tests/unit/test_convert


def test_no_built_in_plugin_fails_to_load() -> None:
    assert registry().failures == []
