import os
from pathlib import Path

import pytest
import yaml

from zoo.catalog.entries import (
    CatalogEntry,
    add_entry,
    read_catalog,
    resolve,
    second_model,
    user_catalog,
    zoo_home,
)
from zoo.catalog.model_folder import add_model, load_model
from zoo.catalog.remove import Removed, remove_model
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


def test_a_removed_model_is_gone_and_the_run_it_was_made_of_stays(model_folder: Path) -> None:
    target = add_model(model_folder, "mine", "")
    add_model(model_folder, "other", "")
    removed = remove_model("mine")
    assert removed == Removed(True, target, removed.num_bytes)
    assert removed.num_bytes > 100_000
    assert not target.exists()
    assert "mine" not in read_catalog()
    load_model(resolve("other"))
    load_model(model_folder)


def test_an_entry_for_a_folder_elsewhere_leaves_the_folder(model_folder: Path) -> None:
    add_entry("elsewhere", CatalogEntry(summary="s", folder=str(model_folder)))
    assert remove_model("elsewhere") == Removed(True, None, 0)
    load_model(model_folder)


def test_what_was_pulled_can_be_pulled_again() -> None:
    folder = zoo_home() / "models" / "synchformer-audioset"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    assert remove_model("synchformer-audioset") == Removed(False, folder, 2)
    assert "synchformer-audioset" in read_catalog()
    with pytest.raises(ModelError, match="'synchformer-audioset' is not here"):
        remove_model("synchformer-audioset")


def test_a_model_of_the_package_stays() -> None:
    with pytest.raises(ModelError, match="'tiny-synthetic' comes with the package"):
        remove_model("tiny-synthetic")
    with pytest.raises(ModelError, match=r"no model 'tiny-sinthetic'.* 'tiny-synthetic'"):
        remove_model("tiny-sinthetic")


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
