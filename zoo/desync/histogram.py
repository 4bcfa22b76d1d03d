"""The histogram of offsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.plots import CHANCE, VALID, new_figure, save


def draw(summary: dict[str, Any], path: Path) -> Path:
    """Draw how often each offset was the most probable one, as PNG."""
    offsets_s = np.asarray([bar["offset_s"] for bar in summary["histogram"]])
    counts = np.asarray([bar["count"] for bar in summary["histogram"]])
    shares = 100 * counts / max(1, counts.sum())
    figure, axes = new_figure(6.4, 3.6)
    axis = axes[0, 0]
    axis.bar(offsets_s, shares, width=0.8 * (offsets_s[1] - offsets_s[0]), color=VALID)
    axis.axhline(100 / len(offsets_s), color=CHANCE, linestyle="--", linewidth=1)
    axis.annotate(
        "chance",
        (1, 100 / len(offsets_s)),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=CHANCE,
    )
    axis.set_xlabel("predicted offset, s (positive: the audio is early)")
    axis.set_ylabel("share of the predictions, %")
    axis.spines[["top", "right"]].set_visible(False)
    score = "no score" if summary["desync_s"] is None else f"DeSync {summary['desync_s']:.3f} s"
    axis.set_title(
        f"{score} ({summary['mode']}), {summary['scored']} of {summary['clips']} clips, "
        f"{summary['model']}",
        fontsize=10,
    )
    return save(figure, path)
