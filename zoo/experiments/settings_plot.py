"""A search as a plot: a score against the settings that varied, and against the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Score
from zoo.experiments.result_tables import column_title, in_unit, show_value
from zoo.experiments.results import SeedResults
from zoo.plots import CHANCE, VALID, new_figure, save
from zoo.search_space import Dimension, Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#1f5fa8", "#d9730d", "#3a7d44", "#8e44ad", "#b03a2e", "#16a085")
FAR = 40.0  # percent above chance from which on the axis need not begin at 0


@dataclass(frozen=True)
class PlotPoint:
    """A point of a search.

    Attributes:
        params: where it lies.
        seeds: its results.
        gflops: operations per clip; None if they cannot be counted.
        label: what is written beside it where it is drawn against the cost.
        is_done: whether it was trained to the end.
        is_best: whether nothing scores better.
        is_on_frontier: whether nothing scores better and costs less.
    """

    params: Mapping[str, Any]
    seeds: SeedResults[Any]
    gflops: float | None
    label: str = ""
    is_done: bool = True
    is_best: bool = False
    is_on_frontier: bool = False


@dataclass(frozen=True)
class SettingsPlot:
    """What a plot of a search shows.

    Attributes:
        title: above it.
        points: of the search, in the order of their cost.
        metric: the score that counts.
        chance: what guessing scores.
    """

    title: str
    points: Sequence[PlotPoint]
    metric: Score
    chance: Mapping[str, float]

    def draw_lines(
        self, path: Path, scores: Sequence[Score], along: str, label: str, lines: tuple[str, Any]
    ) -> Path:
        """Draw a line for every value of one setting along another, and return the file.

        Args:
            path: of the file.
            scores: a panel for each, and one for the cost.
            along: setting of the horizontal axis, whose values are numbers.
            label: of that axis.
            lines: the other setting and its values.
        """
        name, values = lines
        colors = dict(zip(values, cycle(COLORS), strict=False))
        figure, axes = new_figure(4.2 * (len(scores) + 1), 4.6, 1, len(scores) + 1)
        for axis, score in zip(axes[0], scores, strict=False):
            for value, color in colors.items():
                line = [p for p in self.points if p.params[name] == value and p.seeds.scored]
                line.sort(key=lambda point: float(point.params[along]))
                _draw_line(axis, line, score, along, color, f"{name} {value:g}")
            places = sorted({float(point.params[along]) for point in self.points})
            axis.set_xscale("log", base=2)
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.set_xlabel(label)
            self._tidy(axis, score)
        self._draw_cost(axes[0, -1], [colors[point.params[name]] for point in self.points])
        axes[0, 0].legend(frameon=False, fontsize=8.5, loc="best")
        figure.suptitle(self.title, fontsize=11)
        return save(figure, path)

    def draw_settings(self, path: Path, space: Mapping[str, Dimension]) -> Path:
        """Draw the score that counts against every setting, and return the file."""
        figure, axes = new_figure(3.6 * (len(space) + 1), 4.2, 1, len(space) + 1)
        for axis, (name, dimension) in zip(axes[0], space.items(), strict=False):
            values = list(dimension.extremes)
            for point in self.points:
                value = point.params[name]
                place = value if isinstance(dimension, Range) else values.index(value)
                self._draw_point(axis, place, point, VALID)
            if isinstance(dimension, Range):
                axis.set_xscale("log" if dimension.log else "linear")
            else:
                axis.set_xticks(range(len(values)), [str(value) for value in values], fontsize=8)
                axis.set_xlim(-0.5, len(values) - 0.5)
            axis.set_xlabel(name)
            self._tidy(axis, self.metric)
        self._draw_cost(axes[0, -1], [VALID] * len(self.points))
        figure.suptitle(self.title, fontsize=11)
        return save(figure, path)

    def _draw_cost(self, axis: Axes, colors: Sequence[str]) -> None:
        """Draw the score against operations per clip, and join the points that nothing beats."""
        for point, color in zip(self.points, colors, strict=True):
            height = self._height(point)
            if height is None or point.gflops is None:
                continue
            self._draw_point(axis, point.gflops, point, color)
            beside: dict[str, Any] = {"xytext": (7, -2.5), "textcoords": "offset points"}
            place = (point.gflops, height)
            axis.annotate(point.label, place, fontsize=7.5, color="#555555", **beside)
        front = [p for p in self.points if p.is_on_frontier and p.gflops is not None]
        heights = [self._height(point) for point in front]
        axis.plot([p.gflops for p in front], heights, "-", color=CHANCE, linewidth=1, zorder=1)  # type: ignore[arg-type]
        axis.set_xlabel("GFLOP per clip")
        axis.margins(x=0.2)
        self._tidy(axis, self.metric)
        axis.set_title("ringed: best; joined: frontier; pale: stopped", fontsize=8.5)

    def _height(self, point: PlotPoint) -> float | None:
        mean = point.seeds.mean(self.metric.name)
        return None if mean is None else in_unit(self.metric, mean)

    def _draw_point(self, axis: Axes, place: Any, point: PlotPoint, color: str) -> None:
        """Draw a point: the best ringed, one that was stopped pale."""
        height = self._height(point)
        if height is None:
            return
        axis.plot(
            place,
            height,
            "o",
            color=color,
            markersize=7,
            markeredgecolor="black" if point.is_best else "white",
            markeredgewidth=1.5 if point.is_best else 0.5,
            alpha=1.0 if point.is_done else 0.35,
            zorder=3,
        )

    def _tidy(self, axis: Axes, score: Score) -> None:
        """Draw chance, and begin the axis where what differs can be seen."""
        is_share = score.unit == "share"
        found = [in_unit(score, v) for point in self.points for v in point.seeds.values(score.name)]
        low, lowest = 0.0, min(found, default=0.0)
        if score.name in self.chance:
            level = in_unit(score, self.chance[score.name])
            if is_share and lowest > level + FAR:
                low = math.floor(lowest) - 1.5
            axis.axhline(level, color=CHANCE, linewidth=1, linestyle="--")
            told = f"chance: {show_value(score, self.chance[score.name])}"
            told += (" %" if is_share else "") + (" \u2193" if low else "")
            _annotate_chance(axis, told, max(level, low))
        if is_share:
            axis.set_ylim(low, 100 + (100 - low) / 50)
        axis.set_ylabel(f"{score.title}, %" if is_share else column_title(score))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e6e6", linewidth=0.6)
        axis.set_axisbelow(True)


def _annotate_chance(axis: Axes, told: str, level: float) -> None:
    axis.annotate(
        told,
        (0.995, level),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=7.5,
        color=CHANCE,
    )


def _draw_line(
    axis: Axes, line: list[PlotPoint], score: Score, along: str, color: str, label: str
) -> None:
    line = [point for point in line if point.seeds.values(score.name)]
    places = [float(point.params[along]) for point in line]
    means = [in_unit(score, point.seeds.mean(score.name) or 0.0) for point in line]
    axis.plot(places, means, "-", color=color, linewidth=2, label=label, zorder=2)
    for place, point in zip(places, line, strict=True):
        for result in point.seeds.scored:
            hollow = "white" if result.status == "stopped" else color
            style: dict[str, Any] = {"color": color, "markersize": 4.5, "markerfacecolor": hollow}
            axis.plot(place, in_unit(score, result.scores[score.name]), "o", zorder=3, **style)
