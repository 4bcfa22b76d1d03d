"""What all plots share: colours, figures, axes, files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.files import part_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALID, OTHER, CHANCE = "#9db7d5", "#1f5fa8", "#d9730d", "#8a8a8a"


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with part_beside(path) as part:
        figure.savefig(part, dpi=150, facecolor="white")
        part.replace(path)
    return path


def save_all(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures by name into a folder, as PNG; return the files."""
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure without pyplot's global state, and its axes as an array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def tidy(axis: Axes) -> None:
    """Leave out what an axis does not need."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)


def mark_chance(axis: Axes, level: float, label: str) -> None:
    """Draw what guessing gives as a dashed line, with its name."""
    axis.axhline(level, color=CHANCE, linewidth=1, linestyle="--")
    axis.annotate(
        label,
        (1, level),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=7.5,
        color=CHANCE,
    )


def signed(value: float, digits: int) -> str:
    """Write a number with its sign, zero without one."""
    return f"{value:+.{digits}f}".replace("-", "\u2212") if round(value, digits) else "0"
