"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.contracts import Score

MISSING = "–"
Interval = tuple[float, float]


@dataclass(frozen=True)
class ReportTable:
    """A table of a report.

    Attributes:
        title: of the table.
        header: titles of the columns.
        rows: cells, as many as columns.
        text: what to know to read it.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    text: str = ""


def score_table(
    report: Mapping[str, Any],
    columns: Sequence[Score],
    title: str,
    all_samples: str,
    more: Mapping[str, Mapping[str, float]],
) -> ReportTable:
    """Return the table of scores: pooled, interval, what a task adds, controls, chance.

    Args:
        report: of an evaluation.
        columns: which scores.
        title: of the table.
        all_samples: what the samples are called.
        more: further scores by the name of their row.
    """
    spread = report["spread"] if report["rounds"] > 1 else None

    def row(name: str, scores: Mapping[str, float]) -> list[str]:
        return [name, *(show_score(column, scores.get(column.name)) for column in columns)]

    rows = [
        [
            all_samples,
            *(
                show_score(c, report["pooled"].get(c.name), (spread or {}).get(c.name))
                for c in columns
            ),
        ]
    ]
    ends = report["interval"]
    if ends:
        rows.append(["95 % over clips", *(show_interval(c, ends.get(c.name)) for c in columns)])
    rows += [row(name, scores) for name, scores in more.items()]
    rows += [row(f"control: {name}", scores) for name, scores in report["controls"].items()]
    rows.append(row("chance", report["chance"]))
    return ReportTable(title, ["", *(column.title for column in columns)], rows)


def show_score(column: Score, value: float | None, spread: float | None = None) -> str:
    """Write a score, with its spread over rounds where there is one: ``98.9% ± 2.1``."""
    if value is None:
        return MISSING
    told = f"{value:.3f} s" if column.unit == "seconds" else column.show(value)
    if spread is None:
        return told
    return f"{told} ± {100 * spread:.1f}" if column.unit == "share" else f"{told} ± {spread:.3f}"


def show_interval(column: Score, ends: Interval | None) -> str:
    """Write an interval: ``96.8 … 100.0 %``."""
    if ends is None:
        return MISSING
    low, high = ends
    if column.unit == "share":
        return f"{100 * low:.1f} … {100 * high:.1f} %"
    return f"{low:.3f} … {high:.3f}" + (" s" if column.unit == "seconds" else "")
