"""A training that diverges stops, and a model whose weights are not finite is no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo.model_cache import ModelCache
from zoo.catalog.entries import CatalogEntry, add_entry, user_catalog
from zoo.catalog.model_folder import load_model, save_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ModelError, TrainingError, ZooError
from zoo.files import sha256_of
from zoo.models.model import Model
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.overrides import override
from zoo.training.recipe import Recipe
from zoo.training.runlog import read_metrics

SMALL = (
    "stage1.clips=2 stage1.num_segments=6 stage1.valid_clips=2 stage1.steps=1 "
    "stage2.batch=2 stage2.valid_rounds=1 stage2.steps=1 data.features=online"
)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_stops_at_the_first_step_that_is_not_finite(
    stage: int, recipe: Recipe, clips: Manifest, tmp_path: Path
) -> None:
    chosen = override(recipe, [*SMALL.split(), f"stage{stage}.steps=9", f"stage{stage}.lr=1e30"])
    job = Job(chosen, clips.folder / "manifest.parquet", tmp_path, (1, 2))
    with pytest.raises(TrainingError) as refused:
        run_job(LocalEngine(tmp_path / "checkpoints"), job)
    said = str(refused.value)
    assert said.startswith(f"stage {stage}: training diverged at step ")
    assert "lower lr (now 1e+30), or raise warmup_steps" in said
    assert not list(tmp_path.glob("model.*"))
    assert not any(r["kind"] == "done" and r["stage"] == stage for r in read_metrics(tmp_path))


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_setting_that_is_not_finite_is_refused(recipe: Recipe, value: str) -> None:
    with pytest.raises(ConfigError, match=r"stage2\.lr"):
        override(recipe, [f"stage2.lr={value}"])


def spoil(folder: Path, part: str = "model") -> str:
    """Put a NaN into the weights of a model folder, as earlier versions wrote them."""
    weights, description = folder / f"{part}.safetensors", folder / "model.json"
    tensors = load_file(weights)
    name = next(n for n, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, weights)
    given = json.loads(description.read_text())
    hashes = given if part == "model" else given["beside"]
    hashes["sha256" if part == "model" else part] = sha256_of(weights)
    description.write_text(json.dumps(given))
    return name


@pytest.fixture(scope="module")
def spoilt(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoilt") / "model"
    save_model(folder, model)
    spoil(folder)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "predict MODEL CLIP",
        "fix MODEL CLIP -o OUT.mp4",
        "attribute MODEL CLIP -o OUT.png",
        "features MODEL CLIP -o OUT",
        "retrieve MODEL CLIP --in CLIPS --index OUT",
        "desync MODEL --videos CLIPS -o OUT",
        "evaluate MODEL --data DATA",
        "evaluate MODEL --data DATA --protocol retrieval",
        "evaluate tiny-synthetic --synchronizability MODEL --data DATA",
        "export MODEL -o OUT.pt2",
        "convert MODEL --to published -o OUT.pt",
        "catalog add MODEL --name spoilt",
    ],
)
def test_a_model_that_is_not_finite_is_refused_everywhere(
    command: str,
    spoilt: Path,
    clips: Manifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stands_for = {
        "MODEL": str(spoilt),
        "CLIP": str(clips.clips[0].path),
        "CLIPS": str(clips.clips[0].path.parent),
        "DATA": str(clips.folder / "manifest.parquet"),
    }
    words = [stands_for.get(word, word.replace("OUT", f"{tmp_path}/o")) for word in command.split()]
    assert run(words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "holds NaN or infinity ('encoder." in told
    assert "its training diverged; train again with a lower learning rate" in told
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("in_process")
def test_no_training_starts_from_such_a_model(
    spoilt: Path, clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(clips.folder / "manifest.parquet")
    given = ["--extractor", "ast_motionformer", "--init", str(spoilt), "--stage", "2"]
    assert run(["train", *given, "--data", data, "--out", str(tmp_path / "run")]) == 2
    assert "holds NaN or infinity" in capsys.readouterr().err


def test_the_demo_refuses_it_too(spoilt: Path) -> None:
    user_catalog().parent.mkdir(parents=True, exist_ok=True)
    add_entry("spoilt", CatalogEntry(summary="s", folder=str(spoilt)))
    with pytest.raises(ModelError, match="holds NaN or infinity"):
        ModelCache().take("spoilt")


def test_what_is_not_finite_is_not_saved_and_a_decoder_not_read(
    recipe: Recipe, tmp_path: Path
) -> None:
    model = Model(recipe.model)
    name, parameter = next(iter(model.named_parameters()))
    objective = {"decoder": torch.ones(3)}
    save_model(tmp_path / "whole", model, objective)
    spoil(tmp_path / "whole", "objective")
    with pytest.raises(ModelError, match=r"objective\.safetensors holds NaN or infinity"):
        load_model(tmp_path / "whole").beside["objective"]()
    with torch.no_grad():  # whose sum is not finite, though all of them are
        parameter.fill_(3e38)
    save_model(tmp_path / "large", model)
    load_model(tmp_path / "large")
    with torch.no_grad():
        parameter.view(-1)[0] = torch.inf
    with pytest.raises(ModelError, match=f"the model holds NaN or infinity \\('{name}'\\)"):
        save_model(tmp_path / "no", model)
    assert not (tmp_path / "no").exists()


def test_a_run_whose_last_step_diverges_leaves_no_model(
    recipe: Recipe, clips: Manifest, tmp_path: Path
) -> None:
    chosen = override(recipe, [*SMALL.split(), "stage2.lr=1e38", "stage2.warmup_steps=1"])
    job = Job(chosen, clips.folder / "manifest.parquet", tmp_path, (1, 2))
    with pytest.raises(ZooError, match="diverged"):
        run_job(LocalEngine(tmp_path / "checkpoints"), job)
    assert not (tmp_path / "model.json").exists()
