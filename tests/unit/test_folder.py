import json
import shutil
from pathlib import Path

import pytest
import torch

from zoo.catalog.model_folder import CONFIG, WEIGHTS, load_model, read_description, save_model
from zoo.errors import ModelError, PluginError
from zoo.models.model import Model


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def edit(folder: Path, **changes: object) -> None:
    description = read_description(folder)
    (folder / CONFIG).write_text(json.dumps(description | changes))


def test_a_model_comes_back_as_it_was(model: Model, model_folder: Path) -> None:
    again = load_model(model_folder)
    assert again.config == model.config
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_the_description_says_what_is_inside(model_folder: Path) -> None:
    description = read_description(model_folder)
    assert description["parameters"] > 0
    assert len(description["sha256"]) == 64
    assert description["scores"]["nothing"]["accuracy"] == 0.05


def test_damaged_weights_are_noticed(copy: Path) -> None:
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match="is damaged: its hash differs"):
        load_model(copy)


def test_truncated_weights_are_noticed(copy: Path) -> None:
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(ModelError, match="is damaged"):
        load_model(copy)


def test_missing_files_are_named(copy: Path, tmp_path: Path) -> None:
    (copy / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=f"has no {WEIGHTS}"):
        load_model(copy)
    with pytest.raises(ModelError, match="is not a model folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '"words"', "null"])
def test_a_description_that_is_not_one_is_refused(copy: Path, text: str) -> None:
    (copy / CONFIG).write_text(text)
    with pytest.raises(ModelError, match=f"{CONFIG} is damaged"):
        load_model(copy)


def test_a_config_with_extra_keys_is_refused(copy: Path) -> None:
    config = read_description(copy)["config"]
    edit(copy, config={**config, "hed": {}})
    with pytest.raises(ModelError, match="unknown key 'hed'; did you mean 'head'"):
        load_model(copy)


def test_a_config_without_the_model_is_refused(copy: Path) -> None:
    (copy / CONFIG).write_text(json.dumps({"sha256": read_description(copy)["sha256"]}))
    with pytest.raises(ModelError, match=CONFIG):
        load_model(copy)


def test_weights_of_another_model_are_refused(copy: Path) -> None:
    config = read_description(copy)["config"]
    config["head"]["config"]["width"] = 8
    edit(copy, config=config)
    with pytest.raises(ModelError, match="does not fit") as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)


def test_a_component_that_is_not_installed_is_named(copy: Path) -> None:
    config = read_description(copy)["config"]
    config["head"]["name"] = "corelation"
    edit(copy, config=config)
    with pytest.raises(PluginError, match="did you mean 'correlation'"):
        load_model(copy)


def test_saving_over_a_model_replaces_it_whole(model: Model, copy: Path) -> None:
    save_model(copy, model, note="second")
    assert read_description(copy)["note"] == "second"
    assert {file.name for file in copy.iterdir()} == {WEIGHTS, CONFIG}
    load_model(copy)
