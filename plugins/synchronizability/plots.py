"""Plots of synchronizability models: ROC curve, and offsets by how sure such a model is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.plots import CHANCE, OTHER, TRAIN, VALID, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Tiers = list[dict[str, Any]]


def plot_roc(scores: Mapping[str, Any]) -> Figure:
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
        f"Synchronizability of {pooled['num']} samples: AUC {pooled['roc_auc']:.3f}, "
        f"accuracy {100 * pooled['accuracy']:.1f} %",
        fontsize=10,
    )
    tidy(axis)
    axis.legend(fontsize=8, framealpha=0.85, edgecolor="none", loc="lower right")
    return figure


def _shares(counts: list[list[int]]) -> list[list[float]]:
    return [[100 * value / max(1, sum(row)) for value in row] for row in counts]


def plot_tiers(report: Mapping[str, Any]) -> Figure:
    """Draw offset accuracy on the samples that probably can be synchronized."""
    tiers: Tiers = report["tiers"]
    figure, axes = new_figure(6.4, 5.4, 2, 1)
    accuracy, share = axes[:, 0]
    accuracy.set_title(
        f"Offsets of samples that {report['trust']} calls synchronizable; shaded: 95 % over clips",
        fontsize=10,
    )
    _accuracy(accuracy, tiers)
    _kept(share, tiers, report["synchronizability"]["pooled"]["num"])
    for axis in (accuracy, share):
        axis.set_xlim(-0.5, len(tiers) - 0.5)
        axis.set_xticks(range(len(tiers)), [f"{tier['threshold']:g}" for tier in tiers])
        tidy(axis)
        axis.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    return figure


def _accuracy(axis: Axes, tiers: Tiers) -> None:
    kept = [i for i, tier in enumerate(tiers) if tier["accuracy"] is not None]
    rows = [tiers[i] for i in kept]
    for key, color, name in (
        ("within_one", OTHER, "within 1 class"),
        ("accuracy", VALID, "accuracy"),
    ):
        values = np.array([100 * tier[key] for tier in rows])
        axis.plot(kept, values, color=color, marker="o", markersize=4, label=name)
        if all(tier["interval"] for tier in rows):
            ends = 100 * np.array([tier["interval"][key] for tier in rows]).reshape(-1, 2)
            axis.fill_between(kept, ends[:, 0], ends[:, 1], color=color, alpha=0.15, linewidth=0)
    axis.set_ylim(0, 102)
    axis.set_ylabel("of the offsets, %")


def _kept(axis: Axes, tiers: Tiers, total: int) -> None:
    apart = np.array([tier["num_unsynchronizable"] for tier in tiers])
    shared = np.array([tier["num"] for tier in tiers]) - apart
    places = np.arange(len(tiers))
    axis.bar(places, 100 * shared / total, 0.6, color=TRAIN, label="can be synchronized")
    axis.bar(
        places, 100 * apart / total, 0.6, bottom=100 * shared / total, color=CHANCE, label="cannot"
    )
    axis.set_ylabel("samples kept, %")
    axis.set_xlabel("kept where P(can be synchronized) is above")
