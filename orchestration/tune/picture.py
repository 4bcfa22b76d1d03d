"""A search as a picture: accuracy against segment length, or against every setting that varied."""

from __future__ import annotations

import math
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.tune.search import LENGTH, OVERLAP, Search
from orchestration.tune.summary import Row, best_of, frontier
from orchestration.tune.writing import guess_of
from zoo.plots import CHANCE, VALID, new_figure, save
from zoo.search_space import Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#1f5fa8", "#d9730d", "#3a7d44", "#8e44ad", "#b03a2e", "#16a085")
FAR = 40.0  # percent above chance from which on the axis need not begin at 0
LABELS = {"exact": "exact offsets, %", "within_one": "offsets within one class, %"}


def draw_search(search: Search, rows: list[Row], path: Path) -> Path:
    """Draw a search and return the file."""
    if search.is_segment_length:
        return _draw_lengths(search, rows, path)
    return _draw_settings(search, rows, path)


def _draw_lengths(search: Search, rows: list[Row], path: Path) -> Path:
    """Draw a line for every overlap, one panel per score, and one against the cost."""
    figure, axes = new_figure(12.5, 4.6, 1, 3)
    for axis, score in zip(axes[0, :2], LABELS, strict=True):
        for color, overlap in zip(cycle(COLORS), search.overlaps(), strict=False):
            line = sorted(
                (row for row in rows if row.params[OVERLAP] == overlap and row.scored),
                key=lambda row: float(row.params[LENGTH]),  # type: ignore[arg-type]
            )
            _draw_line(axis, line, score, color, f"overlap {overlap:g}")
        lengths = sorted({float(row.params[LENGTH]) for row in rows})  # type: ignore[arg-type]
        axis.set_xscale("log", base=2)
        axis.set_xticks(lengths, [f"{length:g}" for length in lengths])
        axis.set_xlabel("segment length, s")
        _tidy(axis, rows, score)
    _draw_cost(axes[0, 2], search, rows)
    axes[0, 0].legend(frameon=False, fontsize=8.5, loc="best")
    figure.suptitle(search.title, fontsize=11)
    return save(figure, path)


def _draw_line(axis: Axes, line: list[Row], score: str, color: str, label: str) -> None:
    lengths = [float(row.params[LENGTH]) for row in line]  # type: ignore[arg-type]
    means = [100 * (row.mean(score) or 0.0) for row in line]
    axis.plot(lengths, means, "-", color=color, linewidth=2, label=label, zorder=2)
    for length, row in zip(lengths, line, strict=True):
        for result in row.scored:
            hollow = "white" if result.status == "stopped" else color
            axis.plot(
                length,
                100 * result.score(score),
                "o",
                color=color,
                markersize=4.5,
                markerfacecolor=hollow,
                zorder=3,
            )


def _tidy(axis: Axes, rows: list[Row], score: str) -> None:
    guess, found = guess_of(rows), [100 * value for row in rows for value in row.values(score)]
    low = 0.0
    if guess is not None:
        level = 100 * guess[score]
        lowest = min(found, default=0.0)
        if lowest > level + FAR:  # what differs would not be seen
            low = math.floor(lowest) - 1.5
        axis.axhline(level, color=CHANCE, linewidth=1, linestyle="--")
        axis.annotate(
            f"chance: {level:.1f} %" + (" \u2193" if low else ""),
            (0.995, max(level, low)),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7.5,
            color=CHANCE,
        )
    axis.set_ylim(low, 100 + (100 - low) / 50)
    axis.set_ylabel(LABELS[score])
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)


def _draw_cost(axis: Axes, search: Search, rows: list[Row]) -> None:
    """Draw accuracy against operations per clip, and join the points that nothing beats."""
    best, front = best_of(rows, search.metric), frontier(rows, search.metric)
    for row in rows:
        mean = row.mean(search.metric)
        if mean is None or row.cost is None:
            continue
        _draw_point(axis, row.cost.flops / 1e9, row, mean, _color(search, row), best)
        if search.is_segment_length:
            axis.annotate(
                f"{row.params[LENGTH]:g} s",
                (row.cost.flops / 1e9, 100 * mean),
                xytext=(7, -2.5),
                textcoords="offset points",
                fontsize=7.5,
                color="#555555",
            )
    axis.plot(
        [row.cost.flops / 1e9 for row in front if row.cost is not None],
        [100 * (row.mean(search.metric) or 0.0) for row in front if row.cost is not None],
        "-",
        color=CHANCE,
        linewidth=1,
        zorder=1,
    )
    axis.set_xlabel("GFLOP per clip")
    axis.margins(x=0.2)
    _tidy(axis, rows, search.metric)
    axis.set_title("ringed: best; joined: frontier; pale: stopped", fontsize=8.5)


def _draw_point(
    axis: Axes, place: Any, row: Row, mean: float, color: str, best: Row | None
) -> None:
    """Draw a point: the best ringed, one that was stopped pale."""
    axis.plot(
        place,
        100 * mean,
        "o",
        color=color,
        markersize=7,
        markeredgecolor="black" if row is best else "white",
        markeredgewidth=1.5 if row is best else 0.5,
        alpha=1.0 if row.status == "done" else 0.35,
        zorder=3,
    )


def _color(search: Search, row: Row) -> str:
    """Return the color of a point: of its overlap, if there are any."""
    if not search.is_segment_length:
        return VALID
    return COLORS[search.overlaps().index(float(row.params[OVERLAP])) % len(COLORS)]  # type: ignore[arg-type]


def _draw_settings(search: Search, rows: list[Row], path: Path) -> Path:
    """Draw the score against every setting, and against the cost."""
    names = list(search.space)
    figure, axes = new_figure(3.6 * (len(names) + 1), 4.2, 1, len(names) + 1)
    best = best_of(rows, search.metric)
    for axis, name in zip(axes[0], names, strict=False):
        dimension = search.space[name]
        is_range = isinstance(dimension, Range)
        values = list(dimension.extremes)
        for row in rows:
            mean = row.mean(search.metric)
            if mean is None:
                continue
            value = row.params[name]
            place = value if is_range else values.index(value)
            _draw_point(axis, place, row, mean, VALID, best)
        if is_range:
            axis.set_xscale("log" if dimension.log else "linear")  # type: ignore[union-attr]
        else:
            axis.set_xticks(range(len(values)), [str(value) for value in values], fontsize=8)
            axis.set_xlim(-0.5, len(values) - 0.5)
        axis.set_xlabel(name)
        _tidy(axis, rows, search.metric)
    _draw_cost(axes[0, -1], search, rows)
    figure.suptitle(search.title, fontsize=11)
    return save(figure, path)
