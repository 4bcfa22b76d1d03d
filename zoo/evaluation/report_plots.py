"""Pictures of an evaluation, drawn from its report alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.plots import (
    CHANCE,
    OTHER,
    TRAIN,
    VALID,
    confusion,
    new_figure,
    save,
    signed,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_report(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what a report has to show into a folder and return the files."""
    figures: dict[str, Figure] = {}
    judged = report.get("synchronizability")
    if "within_one" in report["pooled"]:
        findings = {"confusion": report["confusion"], "offsets_s": report["offset_classes_s"]}
        figures["confusion"] = confusion(findings, "draws")
        figures["offsets"] = by_offset(report)
    else:
        judged = report
    if judged is not None:
        figures["roc"] = roc(judged)
    if "tiers" in report:
        figures["tiers"] = trusted(report)
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def by_offset(report: dict[str, Any]) -> Figure:
    """Draw accuracy by true offset, and how far off predictions are."""
    counts = np.asarray(report["confusion"], dtype=float)
    offsets_s = np.asarray(report["offset_classes_s"])
    num, step_s = len(offsets_s), float(offsets_s[1] - offsets_s[0])
    figure, axes = new_figure(10.4, 3.9, 1, 2)
    left, right = axes[0]
    rows = counts.sum(1)
    distance = np.abs(np.subtract.outer(np.arange(num), np.arange(num)))
    seen = rows > 0
    for limit, color, name in ((1, TRAIN, "±1 class"), (0, VALID, "exact")):
        shares = 100 * (counts * (distance <= limit)).sum(1) / rows.clip(min=1)
        left.bar(offsets_s[seen], shares[seen], 0.8 * step_s, color=color, label=name)
    guess = 100 / num
    left.axhline(guess, color=CHANCE, linewidth=1, linestyle="--", label=f"chance {guess:.1f} %")
    left.set_xlabel("true offset, s (positive: the audio is early)")
    left.set_ylabel("share of right predictions, %")
    left.set_title("Accuracy by offset", fontsize=10)
    left.set_ylim(0, 118)
    left.set_yticks(range(0, 101, 20))
    shifts = np.arange(1 - num, num)
    shares = np.array([np.trace(counts, shift) for shift in shifts])
    shares = 100 * shares / max(1.0, counts.sum())
    colors = [VALID if shift == 0 else TRAIN if abs(shift) == 1 else OTHER for shift in shifts]
    right.bar(shifts * step_s, shares, 0.8 * step_s, color=colors)
    right.set_xlabel("predicted minus true offset, s")
    right.set_ylabel("share of draws, %")
    far = 100 * (counts * (distance > 1)).sum() / max(1.0, counts.sum())
    right.set_title(f"Errors: {far:.1f} % of draws are off by more than a class", fontsize=10)
    for axis in (left, right):
        tidy(axis)
        _signed_ticks(axis)
    left.legend(fontsize=8, frameon=False, ncols=3, loc="upper center")
    return figure


def _signed_ticks(axis: Axes) -> None:
    axis.xaxis.set_major_formatter(lambda value, _: signed(value, 1))


def roc(scores: dict[str, Any]) -> Figure:
    """Draw the ROC curve of a synchronizability model."""
    curve, pooled = scores["roc"], scores["pooled"]
    figure, axes = new_figure(4.9, 4.6)
    axis = axes[0, 0]
    false_rate = np.asarray(curve["false_positive_rate"])
    true_rate = np.asarray(curve["true_positive_rate"])
    axis.fill_between(100 * false_rate, 100 * true_rate, color=TRAIN, alpha=0.25, linewidth=0)
    axis.plot(100 * false_rate, 100 * true_rate, color=VALID, linewidth=1.8)
    axis.plot([0, 100], [0, 100], color=CHANCE, linewidth=1, linestyle="--", label="chance")
    (_, missed), (_, found) = _shares(scores["confusion"])
    axis.plot(missed, found, "o", color=OTHER, markersize=6, label="P(can be synchronized) > 0.5")
    axis.set_xlabel("cannot be synchronized, but taken for it, %")
    axis.set_ylabel("can be synchronized, and taken for it, %")
    axis.set_xlim(-1, 101)
    axis.set_ylim(-1, 101)
    axis.set_aspect("equal")
    axis.set_title(
        f"Synchronizability of {pooled['num']} draws: AUC {pooled['roc_auc']:.3f}, "
        f"accuracy {100 * pooled['accuracy']:.1f} %",
        fontsize=10,
    )
    tidy(axis)
    axis.legend(fontsize=8, framealpha=0.85, edgecolor="none", loc="lower right")
    return figure


def _shares(counts: list[list[int]]) -> list[list[float]]:
    return [[100 * value / max(1, sum(row)) for value in row] for row in counts]


def trusted(report: dict[str, Any]) -> Figure:
    """Draw offset accuracy on the draws that a synchronizability model trusts."""
    rows = [tier for tier in report["tiers"] if tier["accuracy"] is not None]
    figure, axes = new_figure(6.4, 5.4, 2, 1)
    accuracy, share = axes[:, 0]
    places = np.arange(len(report["tiers"]))
    kept = [i for i, tier in enumerate(report["tiers"]) if tier["accuracy"] is not None]
    for key, color, name in (("within_one", OTHER, "±1 class"), ("accuracy", VALID, "exact")):
        values = np.array([100 * tier[key] for tier in rows])
        accuracy.plot(kept, values, color=color, marker="o", markersize=4, label=name)
        if all(tier["interval"] for tier in rows):
            ends = 100 * np.array([tier["interval"][key] for tier in rows]).reshape(-1, 2)
            accuracy.fill_between(
                kept, ends[:, 0], ends[:, 1], color=color, alpha=0.15, linewidth=0
            )
    accuracy.set_ylim(0, 102)
    accuracy.set_ylabel("offset accuracy, %")
    accuracy.set_title(
        f"Offsets trusted by {report['trust']}; shaded: 95 % over clips", fontsize=10
    )
    apart = np.array([tier["num_unsynchronizable"] for tier in report["tiers"]])
    nums = np.array([tier["num"] for tier in report["tiers"]])
    total = report["synchronizability"]["pooled"]["num"]
    share.bar(places, 100 * (nums - apart) / total, 0.6, color=TRAIN, label="can be synchronized")
    share.bar(
        places,
        100 * apart / total,
        0.6,
        bottom=100 * (nums - apart) / total,
        color=CHANCE,
        label="cannot",
    )
    share.set_ylabel("draws kept, %")
    share.set_xlabel("kept where P(can be synchronized) is above")
    for axis in (accuracy, share):
        axis.set_xlim(-0.5, len(places) - 0.5)
        axis.set_xticks(places, [f"{tier['threshold']:g}" for tier in report["tiers"]])
        tidy(axis)
        axis.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    return figure
