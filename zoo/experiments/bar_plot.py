"""A table as a plot: the mean over seeds a bar, every seed a dot."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Score
from zoo.experiments.result_tables import column_title, in_unit, show_value
from zoo.experiments.results import SeedResults
from zoo.plots import CHANCE, OTHER, TRAIN, VALID, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_WIDTH, LINE = 36, 0.17  # letters of a name on a line; height of a line of text, inches
LABEL = 0.09  # width of the number beside a bar, share of the axis
COLORS = (VALID, TRAIN, "#3a7d44", "#8e44ad")
DASHES: tuple[Any, ...] = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 1)), (0, (3, 1, 1, 1)))


@dataclass(frozen=True)
class Panel:
    """Bars of every row on one data set: of all shares, or of one other score.

    Attributes:
        title: above it.
        scores: one bar of each row for each.
        rows: results; None where a row has none here.
        published: scores that others report, for every row.
        chances: what guessing scores.
    """

    title: str
    scores: tuple[Score, ...]
    rows: Sequence[SeedResults[Any] | None]
    published: Sequence[Mapping[str, float]]
    chances: Sequence[Mapping[str, float]]


def panel_scores(scores: Sequence[Score]) -> list[tuple[Score, ...]]:
    """Group scores by what can stand on one axis."""
    shares = tuple(score for score in scores if score.unit == "share")
    others = [(score,) for score in scores if score.unit != "share"]
    return [shares, *others] if shares else list(others)


def plot_bars(title: str, names: Sequence[str], panels: Sequence[Panel], path: Path) -> Path:
    """Draw panels beside each other, a row for every name, and return the file."""
    names = [textwrap.fill(name, NAME_WIDTH) for name in names]
    lines = sum(max(2.6, name.count("\n") + 1.4) for name in names)
    width = 0.075 * min(NAME_WIDTH, max(map(len, names))) + 3.9 * len(panels)
    figure, axes = new_figure(width, 1.5 + LINE * lines, 1, len(panels))
    for axis, panel in zip(axes[0], panels, strict=True):
        _tidy(axis, panel)
        for chance in panel.chances:
            for dashes, score in zip(cycle(DASHES), panel.scores, strict=False):
                if score.name in chance:
                    level = in_unit(score, chance[score.name])
                    axis.axvline(level, color=CHANCE, linewidth=1, linestyle=dashes)
        for place in range(len(names)):
            _draw_row(axis, place, panel)
    axes[0, 0].set_yticklabels(names, fontsize=8.5)
    _add_legend(figure, panels)
    figure.suptitle(title, fontsize=11)
    return save(figure, path)


def _draw_row(axis: Axes, place: int, panel: Panel) -> None:
    seeds, published = panel.rows[place], panel.published[place]
    num = len(panel.scores)
    for number, (color, score) in enumerate(zip(cycle(COLORS), panel.scores, strict=False)):
        y = place + (number - (num - 1) / 2) * 0.72 / max(2, num)
        others = published.get(score.name)
        if others is not None:
            axis.plot(in_unit(score, others), y, "D", color=OTHER, markersize=4.5, zorder=4)
        mean = None if seeds is None else seeds.mean(score.name)
        if seeds is None or mean is None:
            continue
        axis.barh(y, in_unit(score, mean), 0.68 / max(2, num), color=color, zorder=2)
        values = [in_unit(score, value) for value in seeds.values(score.name)]
        dot: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6}
        axis.plot(values, [y] * len(values), "o", color="black", markersize=3.6, zorder=3, **dot)
        end, low_high = max(values), axis.get_xlim()
        if others is not None and 0 < in_unit(score, others) - end < LABEL * low_high[1]:
            end = in_unit(score, others)
        beside: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(show_value(score, mean), (end, y), fontsize=7, color="#555555", **beside)
    if seeds is None or not seeds.results:
        text = "not trained on these" if seeds is None else ".."
    else:
        text = "" if seeds.scored else "failed"
    start = ("axes fraction", "data")
    axis.annotate(text, (0.014, place), xycoords=start, va="center", fontsize=7.5, color=CHANCE)


def _tidy(axis: Axes, panel: Panel) -> None:
    rows, first = len(panel.rows), panel.scores[0]
    axis.set_title(panel.title, fontsize=10)
    if first.unit == "share":
        axis.set_xlim(0, 108)
        axis.set_xticks(range(0, 101, 20))
        axis.set_xlabel(f"{first.title}, %" if len(panel.scores) == 1 else "%")
    else:
        found = [v for seeds in panel.rows if seeds is not None for v in seeds.values(first.name)]
        found += [chance[first.name] for chance in panel.chances if first.name in chance]
        axis.set_xlim(min(0.0, *found, 0.0), 1.15 * max(*found, 0.0, 1e-9))
        axis.set_xlabel(column_title(first))
    axis.set_yticks(range(rows), [""] * rows)
    axis.set_ylim(rows - 0.4, -0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axis.tick_params(axis="y", length=0)
    axis.set_axisbelow(True)


def _add_legend(figure: Figure, panels: Sequence[Panel]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found = [seeds for panel in panels for seeds in panel.rows if seeds is not None]
    mean = ", mean" if any(seeds.num_seeds > 1 for seeds in found) else ""
    bars: dict[str, Any] = {}
    chances: dict[str, Any] = {}
    for panel in panels:
        for color, dashes, score in zip(cycle(COLORS), cycle(DASHES), panel.scores, strict=False):
            bars[score.name] = Patch(color=color, label=score.title + mean)
            line = Line2D([], [], color=CHANCE, linewidth=1, linestyle=dashes)
            line.set_label(f"chance, {score.title}")
            chances[score.name] = line
    dot = Line2D([], [], marker="o", color="black", linestyle="", markersize=3.6, label="one seed")
    handles = [*bars.values(), dot, *chances.values()]
    if any(published for panel in panels for published in panel.published):
        mark: dict[str, Any] = {"marker": "D", "linestyle": "", "markersize": 4.5}
        handles.append(Line2D([], [], color=OTHER, label="paper", **mark))
    columns = 3 * min(2, len(panels))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
