"""Plots of a run, drawn from the files it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts import Chance, Score
from zoo.models.model import build_task
from zoo.models.task import Task
from zoo.plots import OTHER, TRAIN, VALID, mark_chance, new_figure, save_all, tidy
from zoo.registry.manager import registry
from zoo.training.diagnostics import FINDINGS
from zoo.training.recipe import Recipe, read_recipe
from zoo.training.runlog import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = "plots"
MORE = "#2f8f5b", "#8d5fb3"
SMOOTHED = 9  # logged steps that the bold line of a training curve averages
Record = dict[str, Any]


def plot_run(run: Path) -> list[Path]:
    """Draw what a run has to show into ``RUN/plots`` and return the files."""
    recipe = read_recipe(run / "recipe.json")
    assert recipe.model.task is not None
    task = build_task(recipe.model.task)
    figures: dict[str, Figure] = {"curves": curves(read_metrics(run), recipe, task)}
    if (run / FINDINGS).exists():
        figures |= task.plot_diagnosis(json.loads((run / FINDINGS).read_text()))
    return save_all(figures, run / FOLDER)


def curves(records: list[Record], recipe: Recipe, task: Task) -> Figure:
    """Draw loss and scores of the stages that were trained, against chance."""
    stages = [s for s in (1, 2) if any(r["stage"] == s and r["kind"] == "train" for r in records)]
    stages = stages or [2]
    figure, axes = new_figure(5.2 * len(stages), 6.4, 2, len(stages))
    for column, stage in enumerate(stages):
        train = [r for r in records if r["stage"] == stage and r["kind"] == "train"]
        valid = [r for r in records if r["stage"] == stage and r["kind"] == "valid"]
        loss, scores = axes[:, column]
        if stage == 1:
            _stage1_curves(loss, scores, train, valid, recipe)
        else:
            _stage2_curves(loss, scores, train, valid, recipe, task)
        for axis in (loss, scores):
            axis.set_xlabel("optimiser step")
            axis.set_xlim(left=0)
            tidy(axis)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    return figure


def _stage1_curves(
    loss: Axes, scores: Axes, train: list[Record], valid: list[Record], recipe: Recipe
) -> None:
    spec, stage1 = registry().objective(recipe.objective.name), recipe.stage1
    config = recipe.objective.parse(spec)
    chance: Chance = spec.chance(config, stage1.clips, stage1.num_segments)
    loss.set_title(f"Stage I: {spec.name}")
    _training_curve(loss, train, "loss")
    if chance.loss is not None:
        mark_chance(loss, chance.loss, f"chance: {chance.words or f'{chance.loss:.2f}'}")
    loss.set_ylabel("loss")
    _score_curves(scores, train, valid, spec.curves, chance.scores)


def _stage2_curves(
    loss: Axes,
    scores: Axes,
    train: list[Record],
    valid: list[Record],
    recipe: Recipe,
    task: Task,
) -> None:
    head = recipe.model.head.name if recipe.model.head else ""
    loss.set_title(f"Stage II: {head} head, task {task.spec.name}")
    _training_curve(loss, train, "loss")
    _points(loss, valid, task.loss_name, VALID, "valid clips")
    chance = task.chance[task.loss_name]
    mark_chance(loss, chance, f"chance: {task.chance_words}")
    loss.set_ylabel("loss")
    top = 1.3 * chance
    loss.set_ylim(0, max(top, *(min(r[task.loss_name], 2 * top) for r in valid), 0))
    _score_curves(scores, train, valid, task.spec.scores, task.chance)


def _score_curves(
    axis: Axes,
    train: list[Record],
    valid: list[Record],
    scores: Sequence[Score],
    chance: Mapping[str, float],
) -> None:
    """Draw the scores that are shares; where none is, the first one.

    A score is drawn of the validations, and of the training steps where it is the first one or is
    known of them only.
    """
    shares = [score for score in scores if score.unit == "share"]
    factor = 100 if shares else 1
    chances: dict[float, list[Score]] = {}
    for number, (score, color) in enumerate(
        zip(shares or scores[:1], cycle((VALID, OTHER, *MORE)), strict=False)
    ):
        known = [record for record in valid if score.name in record]
        if number == 0 or not known:
            _training_curve(axis, train, score.name, factor, f"{score.title}, training")
        if known:
            _points(axis, known, score.name, color, f"{score.title}, valid clips", factor)
        if score.name in chance:
            chances.setdefault(chance[score.name], []).append(score)
    for level, alike in chances.items():
        titles = " and ".join(score.title for score in alike)
        mark_chance(axis, factor * level, f"chance, {titles}: {alike[0].show(level)}")
    if shares:
        axis.set_ylim(0, 102)
        axis.set_ylabel("share, %")
    elif scores:
        unit = ", s" if scores[0].unit == "seconds" else ""
        axis.set_ylabel(f"{scores[0].title}{unit}")


def _training_curve(
    axis: Axes, records: list[Record], key: str, factor: float = 1, label: str = "training"
) -> None:
    records = [r for r in records if key in r]  # what is logged is up to objective and task
    if not records:
        return
    steps = [r["step"] for r in records]
    values = np.asarray([r[key] for r in records], dtype=float) * factor
    width = min(SMOOTHED, max(1, len(values) // 4))
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    smooth = np.convolve(padded, np.ones(width) / width, mode="valid")
    axis.plot(steps, values, color=TRAIN, linewidth=0.7, alpha=0.6)
    axis.plot(steps, smooth, color=TRAIN, linewidth=1.8, label=label)


def _points(
    axis: Axes, records: list[Record], key: str, color: str, label: str, factor: float = 1
) -> None:
    steps, values = [r["step"] for r in records], [r[key] * factor for r in records]
    axis.plot(steps, values, color=color, linewidth=1.6, marker="o", markersize=3, label=label)
