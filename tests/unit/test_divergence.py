"""A training that diverges stops, and a model whose weights are not finite is no model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zoo.catalog.model_folder import load_model, save_model
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ModelError, TrainingError
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


def test_a_model_whose_weights_are_not_finite_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    model = Model(recipe.model)
    name, parameter = next(iter(model.named_parameters()))
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nan
    save_model(tmp_path, model)
    with pytest.raises(ModelError, match=f"holds NaN or infinity \\('{name}'\\)"):
        load_model(tmp_path)
    with torch.no_grad():  # whose sum is not finite, though all of them are
        parameter.fill_(3e38)
    save_model(tmp_path, model)
    load_model(tmp_path)
