"""What a report says of a classifier beyond its scores, and how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from zoo.evaluation.ranking import average_precision, d_prime, roc_auc
from zoo.evaluation.tables import ReportTable
from zoo.plots import CHANCE, VALID, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 30  # of a plot that can be read


def precision_by_class(
    probabilities: Float[Tensor, "N K"], is_class: Bool[Tensor, "N K"], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return average precision, ROC AUC and number of clips of every class that some clip has."""
    scores, truth = probabilities.double().numpy(), is_class.numpy()
    return {
        name: {
            "average_precision": average_precision(scores[:, k], truth[:, k]),
            "auc": roc_auc(scores[:, k], truth[:, k]),
            "num": int(truth[:, k].sum()),
        }
        for k, name in enumerate(classes)
        if truth[:, k].any()
    }


def exact_means(classes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the means over classes of `precision_by_class`, which know no bins."""
    precision, auc = (
        float(np.mean([found[name] for found in classes.values()]))
        for name in ("average_precision", "auc")
    )
    return {"mean_average_precision": precision, "mean_auc": auc, "d_prime": d_prime(auc)}


def class_table(report: Mapping[str, Any]) -> ReportTable:
    """Return the table of classes, the best first."""
    found = sorted(report["classes"].items(), key=lambda item: -item[1]["average_precision"])
    rows = [[name, str(c["num"]), f"{c['average_precision']:.1%}"] for name, c in found]
    missing = report["classes_without_clips"]
    text = f"{missing} classes have no clip here and do not count in the mAP." if missing else ""
    return ReportTable("Classes", ["class", "clips", "average precision"], rows, text)


def plot_classes(report: Mapping[str, Any]) -> Figure:
    """Draw the average precision of every class against its share of the clips."""
    found = sorted(report["classes"].items(), key=lambda item: item[1]["average_precision"])
    found = found[-MOST_CLASSES:]
    names = [name for name, _ in found]
    values = [100 * c["average_precision"] for _, c in found]
    total = max(1, report["pooled"]["num"])
    shares = [100 * c["num"] / total for _, c in found]
    figure, axes = new_figure(6.4, 1.2 + 0.28 * len(names))
    axis = axes[0, 0]
    axis.barh(names, values, color=VALID, label="average precision")
    axis.barh(names, shares, color=CHANCE, height=0.25, label="chance")
    axis.set_xlim(0, 101)
    axis.set_xlabel("average precision, %")
    axis.set_title(f"mAP {100 * report['pooled']['mean_average_precision']:.1f} %", fontsize=10)
    tidy(axis)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
