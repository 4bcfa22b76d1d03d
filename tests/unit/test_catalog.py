import os
from pathlib import Path

import pytest
import yaml

from zoo.catalog.entries import read_catalog, resolve, second_model, user_catalog
from zoo.catalog.model_folder import add_model, load_model
from zoo.errors import ModelError


def test_an_added_model_is_known_by_name(model_folder: Path) -> None:
    target = add_model(model_folder, "mine", "a test")
    entry, folder = read_catalog()["mine"]
    assert (entry.summary, folder) == ("a test", target)
    assert entry.scores == {"nothing": {"accuracy": 0.05}}
    assert resolve("mine") == target
    assert target.is_relative_to(os.environ["ZOO_HOME"])
    load_model(target)


def test_a_second_model_leaves_the_first(model_folder: Path) -> None:
    for name in ("one", "two"):
        add_model(model_folder, name, name)
    assert {"one", "two"} <= set(read_catalog())


def test_a_taken_name_is_refused(model_folder: Path) -> None:
    add_model(model_folder, "mine", "")
    with pytest.raises(ModelError, match="already has a model 'mine'; choose another name"):
        add_model(model_folder, "mine", "")


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".", ".."])
def test_a_name_that_is_a_path_is_refused(model_folder: Path, name: str) -> None:
    with pytest.raises(ModelError, match="name"):
        add_model(model_folder, name, "")


def test_a_damaged_model_is_not_added(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder"):
        add_model(tmp_path, "mine", "")
    assert "mine" not in read_catalog()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [", "is not valid YAML"),
        ("- a\n- b", "is not valid YAML"),
        ("models: 3", "is not valid YAML"),
        (yaml.safe_dump({"models": {"x": {"summary": "s"}}}), "folder"),
        (yaml.safe_dump({"models": {"x": {"summary": "s", "folder": "f", "ur": 1}}}), "ur"),
    ],
)
def test_a_damaged_catalog_is_named(text: str, words: str) -> None:
    user_catalog().parent.mkdir(parents=True, exist_ok=True)
    user_catalog().write_text(text)
    with pytest.raises(ModelError, match=words) as caught:
        read_catalog()
    assert str(user_catalog()) in str(caught.value)


def test_an_unknown_model_suggests_the_closest(model_folder: Path) -> None:
    add_model(model_folder, "speech", "")
    with pytest.raises(
        ModelError, match=r"no model 'speach' .*did you mean 'speech'\? See: zoo list"
    ):
        resolve("speach")


def test_a_folder_needs_no_name(model_folder: Path) -> None:
    assert resolve(model_folder) == model_folder


def test_the_older_name_of_a_second_model_is_still_read(model_folder: Path) -> None:
    add_model(model_folder, "mine", "", synchronizability="tiny-synthetic-trust")
    assert second_model("mine") == "tiny-synthetic-trust"
    assert second_model("mine", "none") is None
    text = user_catalog().read_text()
    assert "synchronizability: tiny-synthetic-trust" in text
    user_catalog().write_text(text.replace("synchronizability:", "trust:"))
    assert second_model("mine") == "tiny-synthetic-trust"
