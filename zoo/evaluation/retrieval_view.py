"""How a report of the protocol ``retrieval`` is shown: a row for either way, and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts import Score
from zoo.evaluation.protocol import RETRIEVAL, WAYS
from zoo.evaluation.tables import ReportTable, show_interval, show_score
from zoo.evaluation.views import ReportView
from zoo.plots import CHANCE, OTHER, VALID, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = dict(zip(WAYS, (OTHER, VALID), strict=True))


class RetrievalView(ReportView):
    """Shows recall and median rank, both ways."""

    def tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return one table: the scores of either way, with their intervals, controls, chance."""
        rows = []
        for way in WAYS:
            columns, name = _columns(way), way.replace("_", " ")
            rows.append([name, *_cells(columns, report["pooled"])])
            rows.append(["95 % over queries", *_ends(columns, report["interval"])])
            for control, scores in report["controls"].items():
                rows.append([f"control: {control}", *_cells(columns, scores)])
        rows.append(["chance", *_cells(columns, report["chance"])])
        what = f"subset {report['subset']}" if report["subset"] else f"{report['split']} clips"
        title = f"{report['model']}: retrieval among {report['num_clips']} clips ({what})"
        header = ["", *(column.title.partition(" ")[2] for column in columns)]
        return [ReportTable(title, header, rows)]

    def plots(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Draw recall at every rank, and the similarities where they are few."""
        return {"retrieval": plot_retrieval(report)}


def _columns(way: str) -> list[Score]:
    return [score for score in RETRIEVAL.scores if score.name.startswith(way)]


def _cells(columns: list[Score], scores: Mapping[str, float]) -> list[str]:
    return [
        f"{scores[c.name]:g}" if c.unit == "number" else show_score(c, scores[c.name])
        for c in columns
    ]


def _ends(columns: list[Score], intervals: Mapping[str, Any]) -> list[str]:
    ranks = [None if c.unit != "number" else intervals.get(c.name) for c in columns]
    return [
        show_interval(c, intervals.get(c.name)) if ends is None else f"{ends[0]:g} … {ends[1]:g}"
        for c, ends in zip(columns, ranks, strict=True)
    ]


def plot_retrieval(report: Mapping[str, Any]) -> Figure:
    """Draw a report of retrieval."""
    similarity = report["similarity"]
    figure, axes = new_figure(10.4 if similarity else 5.4, 4.4, 1, 2 if similarity else 1)
    _plot_recall(axes[0, 0], report)
    if similarity:
        image = axes[0, 1].imshow(np.asarray(similarity), cmap="viridis")
        axes[0, 1].set_xlabel("video of clip")
        axes[0, 1].set_ylabel("audio of clip")
        has_classes = any(query["labels"] for query in report["queries"])
        title = "Similarity; pairs lie on the diagonal"
        axes[0, 1].set_title(f"{title}, classes in blocks" if has_classes else title, fontsize=10)
        figure.colorbar(image, ax=axes[0, 1], label="cosine", shrink=0.9)
    return figure


def _plot_recall(axis: Axes, report: Mapping[str, Any]) -> None:
    num = report["num_clips"]
    cuts = np.arange(1, num + 1)
    for way, color in COLORS.items():
        ranks = np.sort([query[way] for query in report["queries"]])
        shares = 100 * np.searchsorted(ranks, cuts, side="right") / num
        axis.plot(cuts, shares, color=color, linewidth=1.8, label=way.replace("_", " "))
    axis.plot(cuts, 100 * cuts / num, color=CHANCE, linestyle="--", linewidth=1, label="chance")
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlim(1, num)
    axis.set_ylim(0, 101)
    axis.set_xlabel(f"k, of {num} clips")
    axis.set_ylabel("right clip among the first k, %")
    axis.set_title("Recall", fontsize=10)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    tidy(axis)
