"""What earlier versions wrote goes on loading, and answers the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import zoo
from zoo.catalog.model_folder import CONFIG, load_model, read_description, save_model
from zoo.errors import ModelError
from zoo.export.inputs import random_crops
from zoo.models.upgrade import FORMAT_VERSION
from zoo.training.recipe import Recipe, read_recipe
from zoo.training.recipe_builder import build_recipe

SHIPPED = Path(zoo.__file__).parent / "shipped"
OLD = Path(__file__).parents[1] / "old"
# The first logits of two random crops, by the version that wrote these folders (format 1).
LOGITS = {
    "tiny-synthetic": ("offset", [-13.32284, -13.72392, -13.57851, -13.85308]),
    "tiny-synthetic-sync": ("offset", [-0.19646, -0.49842, 0.00819, 1.84537]),
    "tiny-synthetic-trust": ("synchronizability", [1.06592, -1.06592]),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "tiny-synthetic", tmp_path / "copy"))


def edit(folder: Path, **changes: object) -> None:
    (folder / CONFIG).write_text(json.dumps({**read_description(folder), **changes}))


@pytest.mark.parametrize("name", LOGITS)
def test_a_folder_of_the_first_format_answers_as_it_did(name: str, tmp_path: Path) -> None:
    task, expected = LOGITS[name]
    assert "format_version" not in read_description(SHIPPED / name)
    model = load_model(SHIPPED / name)
    assert model.config.task is not None
    assert model.config.task.name == task
    assert model.can_compare
    with torch.no_grad():
        logits = model(*random_crops(model, 2))
    assert logits[0, : len(expected)].tolist() == pytest.approx(expected, abs=1e-3)
    save_model(tmp_path / name, model)
    assert read_description(tmp_path / name)["format_version"] == FORMAT_VERSION
    again = load_model(tmp_path / name)
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again(*random_crops(model, 2)), logits)


def test_a_folder_of_a_later_version_is_refused_in_one_sentence(copy: Path) -> None:
    edit(copy, format_version=FORMAT_VERSION + 1)
    with pytest.raises(ModelError, match=r"has the format version 3, and .* reads 2 and earl"):
        load_model(copy)
    edit(copy, format_version="new")
    with pytest.raises(ModelError, match="has the format version new"):
        load_model(copy)


@pytest.mark.parametrize("config", [{"audio": {}, "vision": {}}, {"audio": 3}, {}, None, "words"])
def test_a_damaged_description_is_one_sentence(copy: Path, config: object) -> None:
    edit(copy, config=config)
    with pytest.raises(ModelError) as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)


def test_a_recipe_of_an_earlier_version_is_the_one_of_today() -> None:
    small = ["audio.dim=16", "audio.depth=1", "vision.dim=16", "vision.depth=1"]
    projections = ["model.audio.projection_dim=16", "model.vision.projection_dim=16"]
    head = ["head.dim=16", "head.depth=1", "layout.num_segments=13"]
    stages = [
        *("stage1.steps=4", "stage1.clips=2", "stage1.num_segments=9", "stage1.log_every=1"),
        *("stage1.valid_every=4", "stage1.checkpoint_every=4", "stage2.steps=6", "stage2.batch=8"),
        *("stage2.log_every=2", "stage2.valid_every=6", "stage2.checkpoint_every=6"),
    ]
    today = build_recipe(
        extractor="ast_motionformer",
        head="synchronizability",
        preset="tiny",
        overrides=[*small, *projections, *head, *stages],
    )
    assert read_recipe(OLD / "recipe-synchronizability.json") == today


def test_a_recipe_that_trained_its_extractors_trains_its_encoder() -> None:
    recipe = read_recipe(OLD / "recipe-sparsesync.json")
    assert recipe.stage2.encoder == "trained"
    assert recipe.model.task is not None
    assert (recipe.model.task.name, recipe.objective.name) == ("offset", "segment_avclip")
    assert Recipe.model_validate(recipe.model_dump()) == recipe
