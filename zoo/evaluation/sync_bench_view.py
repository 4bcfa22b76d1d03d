"""How a report of the protocol ``av-syncbench`` is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.evaluation.protocol import PAIRWISE
from zoo.evaluation.tables import ReportTable, show_interval, show_score
from zoo.evaluation.views import ReportView
from zoo.plots import OTHER, TRAIN, VALID, mark_chance, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PairwiseView(ReportView):
    """Shows the share of right pairs by shift."""

    def tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return one table: all pairs, their interval, either direction, a control, chance."""
        columns = [score for score in PAIRWISE.scores if score.name in report["pooled"]]

        def row(name: str, scores: Mapping[str, float]) -> list[str]:
            return [name, *(show_score(column, scores.get(column.name)) for column in columns)]

        ends = [show_interval(column, report["interval"].get(column.name)) for column in columns]
        rows = [row("all pairs", report["pooled"]), ["95 % over clips", *ends]]
        rows += [row(way, scores) for way, scores in report["by_direction"].items()]
        rows += [row(f"control: {name}", scores) for name, scores in report["controls"].items()]
        rows.append(row("chance", report["chance"]))
        title = (
            f"{report['model']}: the original scored above a moved copy, {len(report['pairs'])} "
            f"pairs of {report['num_clips']} clips, windows of {report['window_s']:g} s"
        )
        return [ReportTable(title, ["", *(column.title for column in columns)], rows)]

    def plots(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the share of right pairs by shift."""
        return {"pairs": plot_pairs(report)}


def plot_pairs(report: Mapping[str, Any]) -> Figure:
    """Draw how often the original is preferred, by how far the copy is moved."""
    columns = [s for s in PAIRWISE.scores if s.name in report["pooled"] and s.name != "overall"]
    figure, axes = new_figure(5.6, 4.0)
    axis, titles = axes[0, 0], [column.title for column in columns]
    shares = [100 * report["pooled"][column.name] for column in columns]
    axis.plot(titles, shares, "o-", color=VALID, linewidth=1.8, label="all pairs", zorder=3)
    for (way, scores), color in zip(report["by_direction"].items(), (TRAIN, OTHER), strict=False):
        values = [100 * scores.get(column.name, float("nan")) for column in columns]
        axis.plot(titles, values, color=color, linewidth=1, label=way)
    mark_chance(axis, 50, "chance")
    axis.set_ylim(0, 103)
    axis.set_xlabel("the copy is moved by")
    axis.set_ylabel("original scored above it, %")
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    tidy(axis)
    return figure
