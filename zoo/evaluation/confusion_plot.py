"""The plot of which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoo.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 30  # of a confusion matrix that can be read


def plot_confusion(counts: list[list[int]], classes: Sequence[str], items: str) -> Figure:
    """Draw how often each class is taken for each other one.

    Args:
        counts: row is the true class, column the predicted one.
        classes: their names.
        items: what is counted: ``clips``.
    """
    numbers = np.asarray(counts, dtype=float)
    shares = 100 * numbers / numbers.sum(1, keepdims=True).clip(min=1)
    side = 2.6 + 0.3 * len(classes)
    figure, axes = new_figure(side + 0.8, side)
    axis = axes[0, 0]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axis.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    accuracy = 100 * numbers.trace() / max(1.0, numbers.sum())
    axis.set_title(f"{numbers.sum():.0f} {items}: accuracy {accuracy:.1f} %", fontsize=10)
    figure.colorbar(image, ax=axis, label="share of the true class, %", shrink=0.8)
    return figure
