"""What the confidence of an offset model is worth: a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.evaluation.tables import ReportTable
from zoo.plots import CHANCE, TRAIN, VALID, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.timeline import OffsetGrid

Row = dict[str, Any]


def confidence_table(rows: Sequence[Row], grid: OffsetGrid) -> ReportTable:
    """Return mean confidence beside how often it was right, for each number of windows."""
    cells = [
        [
            str(row["windows"]),
            f"{row['temperature']:.2f}, fitted" if row["is_calibrated"] else "1",
            f"{row['confidence']:.1%}",
            f"{row['right']:.1%}",
            f"{row['ece']:.1%}",
            str(row["count"]),
        ]
        for row in rows
    ]
    header = ["windows", "temperature", "confidence", "right", "calibration error", "offsets"]
    text = (
        f"Right means within a class ({grid.step_s:g} s), which is what confidence is about. The "
        "expected calibration error is how far both are apart, bin by bin."
    )
    return ReportTable("Confidence", header, cells, text)


def plot_reliability(rows: Sequence[Row]) -> Figure:
    """Draw how often the model was right against how sure it was, without and with temperatures."""
    kinds = [kind for kind in (False, True) if any(r["is_calibrated"] == kind for r in rows)]
    figure, axes = new_figure(4.4 * len(kinds), 4.2, 1, len(kinds))
    for axis, is_calibrated in zip(axes[0], kinds, strict=True):
        chosen = [row for row in rows if row["is_calibrated"] == is_calibrated]
        axis.plot([0, 1], [0, 1], color=CHANCE, linestyle="--", linewidth=1, label="as it says")
        for row, color in zip((chosen[0], *chosen[1:][-1:]), (TRAIN, VALID), strict=False):
            name = f"{row['windows']} window{'s' if row['windows'] > 1 else ''}"
            x, y, counts = zip(
                *((b["confidence"], b["right"], b["count"]) for b in row["bins"]), strict=True
            )
            error = f"{name}, calibration error {row['ece']:.1%}"
            axis.plot(x, y, color=color, linewidth=1.2, label=error)
            sizes = [10 + 120 * count / row["count"] for count in counts]
            axis.scatter(x, y, s=sizes, color=color, zorder=3)
        axis.set_xlim(0, 1.02)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("confidence")
        axis.set_title(
            "fitted temperatures" if is_calibrated else "as the head answers", fontsize=10
        )
        axis.legend(fontsize=8, frameon=False, loc="lower right")
        tidy(axis)
    axes[0, 0].set_ylabel("share that is right to within a class")
    return figure
