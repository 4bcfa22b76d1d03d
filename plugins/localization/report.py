"""What a report says of each event, and how reports and timelines are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.tables import ReportTable
from zoo.plots import CHANCE, VALID, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 30  # of a plot that can be read
COLOURS = ("#1f5fa8", "#d9730d", "#2e8b57", "#a83279", "#7a5cc0", "#b8860b", "#2f8f9d", "#b03a2e")


def scores_by_class(
    confusion: Sequence[Sequence[int]], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return number of slots, precision, recall and F1 of every label that some slot has."""
    counts = np.asarray(confusion, dtype=float)
    right, truth, found = counts.diagonal(), counts.sum(1), counts.sum(0)
    return {
        name: {
            "num": int(truth[k]),
            "precision": float(right[k] / max(1.0, found[k])),
            "recall": float(right[k] / truth[k]),
            "f1": float(2 * right[k] / (truth[k] + found[k])),
        }
        for k, name in enumerate(labels)
        if truth[k]
    }


def class_table(report: Mapping[str, Any]) -> ReportTable:
    """Return the table of labels, the best first."""
    found = sorted(report["classes"].items(), key=lambda item: -item[1]["f1"])
    rows = [
        [name, str(c["num"]), *(f"{c[key]:.1%}" for key in ("precision", "recall", "f1"))]
        for name, c in found
    ]
    text = "Precision: share of the slots with this answer that are right; recall: share found."
    return ReportTable("Events", ["event", "slots", "precision", "recall", "F1"], rows, text)


def plot_classes(report: Mapping[str, Any]) -> Figure:
    """Draw precision, recall and F1 of every label."""
    found = sorted(report["classes"].items(), key=lambda item: item[1]["f1"])[-MOST_CLASSES:]
    names, at = [name for name, _ in found], np.arange(len(found))
    figure, axes = new_figure(6.4, 1.4 + 0.3 * len(names))
    axis = axes[0, 0]
    axis.barh(at, [100 * c["f1"] for _, c in found], color=VALID, label="F1")
    for key, mark in (("precision", "o"), ("recall", "|")):
        values = [100 * c[key] for _, c in found]
        axis.plot(values, at, mark, color=CHANCE, markersize=8, markeredgewidth=2, label=key)
    axis.set_yticks(at, names)
    axis.set_xlim(0, 103)
    axis.set_xlabel("%")
    tidy(axis)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def draw_timeline(axis: Axes, slots: Sequence[Mapping[str, Any]], background: str) -> None:
    """Draw slots with an event as bars, pale where the model is unsure, a row for each event."""
    names = list(dict.fromkeys(s["label"] for s in slots if s["label"] != background))
    for row, name in enumerate(names):
        for slot in (slot for slot in slots if slot["label"] == name):
            start_s, end_s = slot["start_s"], slot["end_s"]
            axis.barh(
                row,
                end_s - start_s,
                left=start_s,
                height=0.7,
                color=COLOURS[row % len(COLOURS)],
                alpha=0.2 + 0.8 * slot["probability"],
                linewidth=0,
            )
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if not names:
        axis.text(0.5, 0.5, "no event", ha="center", va="center", transform=axis.transAxes)
