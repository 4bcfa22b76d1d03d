"""Pictures of a run, drawn from the files it leaves behind."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.offset_metrics import OffsetScores
from zoo.training.diagnostics import FINDINGS
from zoo.training.recipe import Recipe, read_recipe
from zoo.training.runlog import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = "pictures"
TRAIN, VALID, OTHER, CHANCE = "#9db7d5", "#1f5fa8", "#d9730d", "#8a8a8a"
SMOOTHED = 9  # logged steps that the bold line of a training curve averages
Record = dict[str, Any]


def draw_pictures(run: Path) -> list[Path]:
    """Draw what a run has to show into ``RUN/pictures`` and return the files."""
    recipe, records = read_recipe(run / "recipe.json"), read_metrics(run)
    figures = {"curves": curves(records, recipe)}
    if (run / FINDINGS).exists():
        findings = json.loads((run / FINDINGS).read_text())
        if "roc" in findings:
            from zoo.evaluation.report_plots import roc  # which draws with what is below

            figures["roc"] = roc(findings)
            return _save_all(figures, run)
        figures["confusion"] = confusion(findings)
        if all("similarity" in example for example in findings["examples"]):
            figures["similarity"] = similarity(findings)
        if all("curve" in example for example in findings["examples"]):
            figures["correlation"] = correlation(findings)
    return _save_all(figures, run)


def _save_all(figures: dict[str, Figure], run: Path) -> list[Path]:
    return [save(figure, run / FOLDER / f"{name}.png") for name, figure in figures.items()]


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white")
    return path


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure without pyplot's global state, and its axes as an array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def curves(records: list[Record], recipe: Recipe) -> Figure:
    """Draw loss and accuracy of the stages that were trained, against chance."""
    stages = [s for s in (1, 2) if any(r["stage"] == s and r["kind"] == "train" for r in records)]
    stages = stages or [2]
    figure, axes = new_figure(5.2 * len(stages), 6.4, 2, len(stages))
    for column, stage in enumerate(stages):
        train = [r for r in records if r["stage"] == stage and r["kind"] == "train"]
        valid = [r for r in records if r["stage"] == stage and r["kind"] == "valid"]
        draw = _stage1_curves if stage == 1 else _stage2_curves
        draw(axes[0, column], axes[1, column], train, valid, recipe)
        for axis in axes[:, column]:
            axis.set_xlabel("optimiser step")
            axis.set_xlim(left=0)
            tidy(axis)
            axis.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    return figure


def _stage1_curves(
    loss: Axes, accuracy: Axes, train: list[Record], valid: list[Record], recipe: Recipe
) -> None:
    rows = recipe.stage1.clips * recipe.stage1.num_segments
    loss.set_title("Stage I: segment contrast")
    _training_curve(loss, train, "loss")
    _chance(loss, math.log(rows), f"chance: ln {rows} = {math.log(rows):.2f}")
    loss.set_ylabel("loss, nats")
    _training_curve(
        accuracy, train, "segment_accuracy", scale=100, label="right segment of the batch, training"
    )
    _chance(accuracy, 100 / rows, f"chance, segment: {100 / rows:.1f} %")
    if valid:
        _points(accuracy, valid, "precision", OTHER, "right shifted window, valid clips")
        guess = 100 * valid[-1]["chance"]
        _chance(accuracy, guess, f"chance, shifted window: {guess:.0f} %")
    accuracy.set_ylabel("accuracy, %")
    accuracy.set_ylim(0, 102)


def _stage2_curves(
    loss: Axes, accuracy: Axes, train: list[Record], valid: list[Record], recipe: Recipe
) -> None:
    goal = goal_of(recipe.task, recipe.model.grid)
    guess, num = goal.guess, recipe.model.grid.num_classes if goal.task == "offset" else 2
    head = recipe.model.head.name if recipe.model.head else ""
    loss.set_title(f"Stage II: {head} head")
    _training_curve(loss, train, "loss")
    _points(loss, valid, "cross_entropy", VALID, "valid clips", scale=1)
    _chance(loss, guess.cross_entropy, f"chance: ln {num} = {guess.cross_entropy:.2f}")
    loss.set_ylabel("cross-entropy, nats")
    top = 1.3 * guess.cross_entropy
    loss.set_ylim(0, max(top, *(min(r["cross_entropy"], 2 * top) for r in valid), 0))
    right = "exact" if goal.task == "offset" else "right"
    _training_curve(accuracy, train, "accuracy", scale=100, label=f"{right}, training")
    _points(accuracy, valid, "accuracy", VALID, f"{right}, valid clips")
    _chance(accuracy, 100 * guess.accuracy, f"chance, {right}: {100 * guess.accuracy:.1f} %")
    if isinstance(guess, OffsetScores):
        within = 100 * guess.within_one
        _points(accuracy, valid, "within_one", OTHER, "±1 class, valid clips")
        _chance(accuracy, within, f"chance, ±1 class: {within:.1f} %")
    accuracy.set_ylabel("accuracy, %")
    accuracy.set_ylim(0, 102)


def _training_curve(
    axis: Axes, records: list[Record], key: str, scale: float = 1, label: str = "training"
) -> None:
    records = [r for r in records if key in r]  # an objective of others may log other scalars
    steps = [r["step"] for r in records]
    values = np.asarray([r[key] for r in records], dtype=float) * scale
    width = min(SMOOTHED, max(1, len(values) // 4))
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    smooth = np.convolve(padded, np.ones(width) / width, mode="valid") if len(values) else values
    axis.plot(steps, values, color=TRAIN, linewidth=0.7, alpha=0.6)
    axis.plot(steps, smooth, color=TRAIN, linewidth=1.8, label=label)


def _points(
    axis: Axes, records: list[Record], key: str, color: str, label: str, scale: float = 100
) -> None:
    steps, values = [r["step"] for r in records], [r[key] * scale for r in records]
    axis.plot(steps, values, color=color, linewidth=1.6, marker="o", markersize=3, label=label)


def _chance(axis: Axes, level: float, label: str) -> None:
    axis.axhline(level, color=CHANCE, linewidth=1, linestyle="--")
    axis.annotate(
        label,
        (1, level),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=7.5,
        color=CHANCE,
    )


def tidy(axis: Axes) -> None:
    """Leave out what an axis does not need."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)


def confusion(findings: dict[str, Any], what: str = "validation draws") -> Figure:
    """Draw how often each true offset is taken for each other one."""
    counts = np.asarray(findings["confusion"], dtype=float)
    offsets_s = findings["offsets_s"]
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    figure, axes = new_figure(5.6, 4.8)
    axis = axes[0, 0]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, origin="lower")
    ticks = np.linspace(0, len(offsets_s) - 1, min(5, len(offsets_s))).round().astype(int)
    names = [signed(offsets_s[i], 1) for i in ticks]
    axis.set_xticks(ticks, names)
    axis.set_yticks(ticks, names)
    axis.set_xlabel("predicted offset, s (positive: the audio is early)")
    axis.set_ylabel("true offset, s")
    exact = 100 * counts.trace() / max(1.0, counts.sum())
    axis.set_title(
        f"Offsets of {counts.sum():.0f} {what}: {exact:.1f} % exact "
        f"(chance {100 / len(offsets_s):.1f} %)",
        fontsize=10,
    )
    figure.colorbar(image, ax=axis, label="share of the true offset's draws, %", shrink=0.9)
    return figure


def similarity(findings: dict[str, Any]) -> Figure:
    """Draw which audio segments resemble which video segments in a few crops."""
    examples, starts_s = findings["examples"], findings["segment_starts_s"]
    figure, axes = new_figure(3.5 * len(examples) + 0.6, 3.8, 1, len(examples))
    step_s = starts_s[1] - starts_s[0] if len(starts_s) > 1 else 1.0
    first_s, last_s = starts_s[0] - step_s / 2, starts_s[-1] + step_s / 2
    limit = max(np.abs(example["similarity"]).max() for example in examples)
    for axis, example in zip(axes[0], examples, strict=True):
        image = axis.imshow(
            np.asarray(example["similarity"]),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            origin="lower",
            extent=(first_s, last_s, first_s, last_s),
        )
        # The audio crop starts offset_s later, so what belongs together lies earlier in it.
        line = np.asarray([first_s, last_s])
        axis.plot(line - example["offset_s"], line, color="black", linestyle="--", linewidth=1)
        axis.set_xlim(first_s, last_s)
        axis.set_ylim(first_s, last_s)
        axis.set_title(f"{example['clip']}, offset {signed(example['offset_s'], 1)} s", fontsize=9)
        axis.set_xlabel("audio segment starts at, s")
    axes[0, 0].set_ylabel("video segment starts at, s")
    figure.colorbar(image, ax=list(axes[0]), label="cosine similarity", shrink=0.8)
    figure.suptitle("Segment similarity; dashed: segments of the same moment", fontsize=10)
    return figure


def correlation(findings: dict[str, Any]) -> Figure:
    """Draw the correlation head's curve over all offsets for a few crops."""
    examples, offsets_s = findings["examples"], findings["offsets_s"]
    figure, axes = new_figure(6.4, 1.9 * len(examples) + 0.8, len(examples), 1)
    for axis, example in zip(axes[:, 0], examples, strict=True):
        curve = np.asarray(example["curve"])
        fine_s = np.linspace(offsets_s[0], offsets_s[-1], len(curve))
        axis.plot(fine_s, curve, color=VALID, linewidth=1.5, label="correlation")
        best_s = fine_s[curve.argmax()]
        axis.axvline(
            example["offset_s"], color=OTHER, linestyle="--", linewidth=1.2, label="true offset"
        )
        axis.plot(best_s, curve.max(), "o", color=VALID, markersize=5, label="highest")
        true = signed(example["offset_s"], 2)
        axis.set_title(
            f"{example['clip']}: true {true} s, highest at {signed(best_s, 2)} s", fontsize=9
        )
        axis.set_ylabel("correlation")
        axis.set_xlim(offsets_s[0], offsets_s[-1])
        tidy(axis)
    axes[-1, 0].set_xlabel("offset, s (positive: the audio is early)")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    figure.align_ylabels()
    return figure


def signed(value: float, digits: int) -> str:
    """Write a number with its sign, zero without one."""
    return f"{value:+.{digits}f}".replace("-", "\u2212") if round(value, digits) else "0"
