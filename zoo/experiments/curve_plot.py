"""Stage I of the variants of a table as curves: the mean over seeds bold, every seed thin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts import Score
from zoo.experiments.result_tables import column_title, in_unit
from zoo.plots import OTHER, VALID, mark_chance, new_figure, save, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (VALID, OTHER, "#3a7d44", "#8e44ad", "#b03a2e", "#16a085")
Curve = Mapping[int, float]
"""A score of the validations of one training, by step."""


@dataclass(frozen=True)
class CurvePanel:
    """Curves on one axis.

    Attributes:
        title: above it.
        score: what is drawn.
        lines: for every variant the curve of each seed; all seeds are validated at the same steps.
        chance: what guessing scores, if that is known.
    """

    title: str
    score: Score
    lines: dict[str, list[Curve]]
    chance: float | None = None


def plot_curves(title: str, panels: Sequence[CurvePanel], path: Path) -> Path:
    """Draw panels beside each other and return the file; panels of one score share their scale."""
    figure, axes = new_figure(4.2 * len(panels), 3.8, 1, len(panels))
    scales: dict[str, Axes] = {}
    for axis, panel in zip(axes[0], panels, strict=True):
        if panel.score.name in scales:
            axis.sharey(scales[panel.score.name])
        scales.setdefault(panel.score.name, axis)
        _draw(axis, panel)
    figure.suptitle(title, fontsize=11)
    return save(figure, path)


def _draw(axis: Axes, panel: CurvePanel) -> None:
    for (name, curves), color in zip(panel.lines.items(), cycle(COLORS), strict=False):
        for curve in curves:
            shown = [in_unit(panel.score, value) for value in curve.values()]
            axis.plot(list(curve), shown, color=color, linewidth=0.7, alpha=0.45)
        common = sorted(set.intersection(*map(set, curves)))  # a seed that failed ends early
        means = [in_unit(panel.score, float(np.mean([c[s] for c in curves]))) for s in common]
        axis.plot(common, means, color=color, linewidth=1.9, marker="o", markersize=3, label=name)
    if panel.chance is not None:
        mark_chance(axis, in_unit(panel.score, panel.chance), "chance")
    unit = ", %" if panel.score.unit == "share" else ""
    axis.set(title=panel.title, xlabel="optimiser step", ylabel=column_title(panel.score) + unit)
    axis.set_xlim(left=0)
    axis.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    tidy(axis)
