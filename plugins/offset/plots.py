"""Plots of offset models: of a report, and of the last look at a trained head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.plots import CHANCE, OTHER, TRAIN, VALID, new_figure, signed, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_confusion(counts: list[list[int]], offsets_s: list[float], samples: str) -> Figure:
    """Draw how often each true offset is taken for each other one.

    Args:
        counts: row is the true class, column the predicted one.
        offsets_s: of the classes, seconds.
        samples: what was counted.
    """
    numbers = np.asarray(counts, dtype=float)
    shares = 100 * numbers / numbers.sum(1, keepdims=True).clip(min=1)
    figure, axes = new_figure(5.6, 4.8)
    axis = axes[0, 0]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, origin="lower")
    ticks = np.linspace(0, len(offsets_s) - 1, min(5, len(offsets_s))).round().astype(int)
    names = [signed(offsets_s[i], 1) for i in ticks]
    axis.set_xticks(ticks, names)
    axis.set_yticks(ticks, names)
    axis.set_xlabel("predicted offset, s (positive: the audio is early)")
    axis.set_ylabel("true offset, s")
    accuracy = 100 * numbers.trace() / max(1.0, numbers.sum())
    axis.set_title(
        f"Offsets of {numbers.sum():.0f} {samples}: accuracy {accuracy:.1f} % "
        f"(chance {100 / len(offsets_s):.1f} %)",
        fontsize=10,
    )
    figure.colorbar(image, ax=axis, label="share of the true offset's samples, %", shrink=0.9)
    return figure


def plot_by_offset(report: Mapping[str, Any]) -> Figure:
    """Draw accuracy by true offset, and how far off predictions are."""
    counts = np.asarray(report["confusion"], dtype=float)
    offsets_s = np.asarray(report["offset_classes_s"])
    figure, axes = new_figure(10.4, 3.9, 1, 2)
    _by_true_offset(axes[0, 0], counts, offsets_s)
    _errors(axes[0, 1], counts, float(offsets_s[1] - offsets_s[0]))
    for axis in axes[0]:
        tidy(axis)
        axis.xaxis.set_major_formatter(lambda value, _: signed(value, 1))
    axes[0, 0].legend(fontsize=8, frameon=False, ncols=3, loc="upper center")
    return figure


def _distance(num: int) -> np.ndarray:
    """Return how many classes lie between every true and every predicted class."""
    return np.abs(np.subtract.outer(np.arange(num), np.arange(num)))


def _by_true_offset(axis: Axes, counts: np.ndarray, offsets_s: np.ndarray) -> None:
    num, step_s = len(offsets_s), float(offsets_s[1] - offsets_s[0])
    rows = counts.sum(1)
    seen = rows > 0
    for limit, color, name in ((1, TRAIN, "within 1 class"), (0, VALID, "accuracy")):
        shares = 100 * (counts * (_distance(num) <= limit)).sum(1) / rows.clip(min=1)
        axis.bar(offsets_s[seen], shares[seen], 0.8 * step_s, color=color, label=name)
    chance = 100 / num
    axis.axhline(chance, color=CHANCE, linewidth=1, linestyle="--", label=f"chance {chance:.1f} %")
    axis.set_xlabel("true offset, s (positive: the audio is early)")
    axis.set_ylabel("share of right predictions, %")
    axis.set_title("Accuracy by offset", fontsize=10)
    axis.set_ylim(0, 118)
    axis.set_yticks(range(0, 101, 20))


def _errors(axis: Axes, counts: np.ndarray, step_s: float) -> None:
    num, total = len(counts), max(1.0, counts.sum())
    shifts = np.arange(1 - num, num)
    shares = 100 * np.array([np.trace(counts, shift) for shift in shifts]) / total
    colors = [VALID if shift == 0 else TRAIN if abs(shift) == 1 else OTHER for shift in shifts]
    axis.bar(shifts * step_s, shares, 0.8 * step_s, color=colors)
    axis.set_xlabel("predicted minus true offset, s")
    axis.set_ylabel("share of samples, %")
    far = 100 * (counts * (_distance(num) > 1)).sum() / total
    axis.set_title(f"Errors: {far:.1f} % of samples are off by more than a class", fontsize=10)


def plot_similarity(findings: dict[str, Any]) -> Figure:
    """Draw which audio segments resemble which video segments in a few crops."""
    examples, starts_s = findings["examples"], findings["segment_starts_s"]
    figure, axes = new_figure(3.5 * len(examples) + 0.6, 3.8, 1, len(examples))
    step_s = starts_s[1] - starts_s[0] if len(starts_s) > 1 else 1.0
    first_s, last_s = starts_s[0] - step_s / 2, starts_s[-1] + step_s / 2
    limit = max(np.abs(example["similarity"]).max() for example in examples)
    for axis, example in zip(axes[0], examples, strict=True):
        image = axis.imshow(
            np.asarray(example["similarity"]),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            origin="lower",
            extent=(first_s, last_s, first_s, last_s),
        )
        # The audio crop starts offset_s later, so what belongs together lies earlier in it.
        line = np.asarray([first_s, last_s])
        axis.plot(line - example["offset_s"], line, color="black", linestyle="--", linewidth=1)
        axis.set_xlim(first_s, last_s)
        axis.set_ylim(first_s, last_s)
        axis.set_title(f"{example['clip']}, offset {signed(example['offset_s'], 1)} s", fontsize=9)
        axis.set_xlabel("audio segment starts at, s")
    axes[0, 0].set_ylabel("video segment starts at, s")
    figure.colorbar(image, ax=list(axes[0]), label="cosine similarity", shrink=0.8)
    figure.suptitle("Segment similarity; dashed: segments of the same moment", fontsize=10)
    return figure


def plot_correlation(findings: dict[str, Any]) -> Figure:
    """Draw the correlation head's curve over all offsets for a few crops."""
    examples, offsets_s = findings["examples"], findings["offsets_s"]
    figure, axes = new_figure(6.4, 1.9 * len(examples) + 0.8, len(examples), 1)
    for axis, example in zip(axes[:, 0], examples, strict=True):
        curve = np.asarray(example["curve"])
        fine_s = np.linspace(offsets_s[0], offsets_s[-1], len(curve))
        axis.plot(fine_s, curve, color=VALID, linewidth=1.5, label="correlation")
        best_s = fine_s[curve.argmax()]
        axis.axvline(
            example["offset_s"], color=OTHER, linestyle="--", linewidth=1.2, label="true offset"
        )
        axis.plot(best_s, curve.max(), "o", color=VALID, markersize=5, label="highest")
        true = signed(example["offset_s"], 2)
        axis.set_title(
            f"{example['clip']}: true {true} s, highest at {signed(best_s, 2)} s", fontsize=9
        )
        axis.set_ylabel("correlation")
        axis.set_xlim(offsets_s[0], offsets_s[-1])
        tidy(axis)
    axes[-1, 0].set_xlabel("offset, s (positive: the audio is early)")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    figure.align_ylabels()
    return figure
