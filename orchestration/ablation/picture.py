"""The table as a picture: the mean over seeds a bar, every seed a dot."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.ablation.outcome import Result
from orchestration.ablation.plan import Job, Key
from orchestration.ablation.summary import Cell, Row, guesses, summarise
from orchestration.ablation.table import PaperScores, Table
from zoo.plots import CHANCE, OTHER, TRAIN, VALID, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_WIDTH, LINE = 36, 0.17  # letters of a name on a line; height of a line of text, inches
HEIGHT, LABEL = 0.34, 9  # of a bar, rows; width of the number beside it, percent
BARS = (("exact", -0.18, VALID, "exact"), ("within_one", 0.18, TRAIN, "±1 class"))
DASHES = {"exact": (0, (4, 2)), "within_one": (0, (1, 1.5))}


def draw_table(table: Table, jobs: list[Job], results: Mapping[Key, Result], path: Path) -> Path:
    """Draw a panel for every data set and return the file."""
    rows = summarise(table, jobs, results)
    names = [textwrap.fill(row.variant, NAME_WIDTH) for row in rows]
    lines = sum(max(2.6, name.count("\n") + 1.4) for name in names)
    width = min(NAME_WIDTH, max(map(len, names)))
    figure, axes = new_figure(
        0.075 * width + 3.9 * len(table.data), 1.5 + LINE * lines, 1, len(table.data)
    )
    for axis, data in zip(axes[0], table.data, strict=True):
        for guess in guesses(jobs):
            for score, dashes in DASHES.items():
                axis.axvline(100 * guess[score], color=CHANCE, linewidth=1, linestyle=dashes)
        for place, row in enumerate(rows):
            paper = table.variants[row.variant].paper
            is_apart = paper is not None and paper.data not in {None, data}
            _draw_row(axis, place, row.cells.get(data), None if is_apart else paper)
        _tidy(axis, rows, data)
    axes[0, 0].set_yticklabels(names, fontsize=8.5)
    _add_legend(figure, axes[0, 0], table)
    figure.suptitle(table.title, fontsize=11)
    return save(figure, path)


def _draw_row(axis: Axes, place: int, cell: Cell | None, paper: PaperScores | None) -> None:
    for score, shift, color, _ in BARS:
        published = None if paper is None else getattr(paper, score)
        if published is not None:
            axis.plot(100 * published, place + shift, "D", color=OTHER, markersize=4.5, zorder=4)
        mean = None if cell is None else cell.mean(score)
        if cell is None or mean is None:
            continue
        axis.barh(place + shift, 100 * mean, HEIGHT, color=color, zorder=2)
        values = [100 * value for value in cell.values(score)]
        axis.plot(
            values,
            [place + shift] * len(values),
            "o",
            color="black",
            markersize=3.6,
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=3,
        )
        end = max(values)
        if published is not None and 0 < 100 * published - end < LABEL:
            end = 100 * published
        axis.annotate(
            f"{100 * mean:.1f}",
            (end, place + shift),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color="#555555",
        )
    if cell is None or not cell.results:
        text = "not trained on these" if cell is None else ".."
    else:
        text = "" if cell.done else "failed"
    axis.annotate(text, (1.5, place), va="center", fontsize=7.5, color=CHANCE)


def _tidy(axis: Axes, rows: list[Row], data: str) -> None:
    axis.set_title(data, fontsize=10)
    axis.set_xlim(0, 108)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("right offsets, %")
    axis.set_yticks(range(len(rows)), [""] * len(rows))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axis.tick_params(axis="y", length=0)
    axis.set_axisbelow(True)


def _add_legend(figure: Figure, axis: Axes, table: Table) -> None:
    """Draw a legend from marks that lie outside the axes."""
    for _, _, color, name in BARS:
        axis.barh(-9, 1, color=color, label=f"{name}, mean" if len(table.seeds) > 1 else name)
    axis.plot([], [], "o", color="black", markersize=3.6, label="one seed")
    for score, _, _, name in BARS:
        dashes = DASHES[score]
        axis.plot([], [], color=CHANCE, linewidth=1, linestyle=dashes, label=f"chance, {name}")
    if any(variant.paper for variant in table.variants.values()):
        axis.plot([], [], "D", color=OTHER, markersize=4.5, label="paper")
    figure.legend(
        loc="outside lower center", ncols=3 * min(2, len(table.data)), frameon=False, fontsize=8
    )
