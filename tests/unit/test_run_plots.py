"""Plots of runs: what is drawn is up to the objective and the task."""

import json
from pathlib import Path

import pytest

from zoo.contracts import Score
from zoo.models.model import build_task
from zoo.plots import new_figure
from zoo.training.recipe import Recipe
from zoo.training.run_plots import _score_curves, _training_curve, curves, plot_run

TRAIN1 = {"stage": 1, "kind": "train", "loss": 3.0, "segment_accuracy": 0.2}
VALID1 = {"stage": 1, "kind": "valid", "precision": 0.5, "chance": 0.2}
TRAIN2 = {"stage": 2, "kind": "train", "loss": 3.0, "accuracy": 0.1}
VALID2 = {"stage": 2, "kind": "valid", "cross_entropy": 2.5, "accuracy": 0.2, "within_one": 0.4}


def test_an_objective_need_not_log_what_ours_does() -> None:
    _, axes = new_figure(3, 3)
    _training_curve(axes[0, 0], [{"step": 1, "loss": 2.0}], "segment_accuracy")
    assert not axes[0, 0].lines


def test_both_stages_are_drawn_against_chance(recipe: Recipe) -> None:
    assert recipe.model.task is not None
    kinds = (TRAIN1, VALID1, TRAIN2, VALID2)
    records = [{**kind, "step": step} for kind in kinds for step in (1, 2, 3)]
    figure = curves(records, recipe, build_task(recipe.model.task))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["Stage I: segment_avclip", "Stage II: correlation head, task offset"]
    told = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert told >= {
        "chance: ln 48 = 3.87",
        "chance, right segment of the batch: 2.1%",
        "chance, right shifted window: 20.0%",
        "chance: ln 21 = 3.04",
        "chance, accuracy: 4.8%",
        "chance, within 1 class: 13.8%",
    }


def test_scores_that_are_no_shares_are_drawn_too() -> None:
    _, axes = new_figure(3, 3)
    score = Score(name="error", title="mean error", unit="number", is_higher_better=False)
    valid = [{"step": step, "error": 1 / step} for step in (1, 2, 3)]
    _score_curves(axes[0, 0], [], valid, (score,), {"error": 1.0})
    assert axes[0, 0].get_ylabel() == "mean error"
    assert [text.get_text() for text in axes[0, 0].texts] == ["chance, mean error: 1.000"]


@pytest.mark.parametrize("has_curve", [True, False])
def test_findings_of_an_offset_run_are_drawn(
    recipe: Recipe, tmp_path: Path, has_curve: bool
) -> None:
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    example = {"clip": "a.mp4", "offset_s": 0.4, "similarity": [[0.1] * 14] * 14}
    findings = {
        "offsets_s": [round(0.2 * i - 2, 1) for i in range(21)],
        "segment_starts_s": recipe.model.layout.starts_s,
        "confusion": [[1] * 21] * 21,
        "examples": [{**example, **({"curve": [0.0, 1.0, 0.0]} if has_curve else {})}] * 2,
    }
    (tmp_path / "findings.json").write_text(json.dumps(findings))
    names = {file.name for file in plot_run(tmp_path)}
    expected = {"curves.png", "confusion.png", "similarity.png"}
    assert names == expected | ({"correlation.png"} if has_curve else set())
    assert {file.name for file in (tmp_path / "plots").iterdir()} == names
