"""The last look at a trained offset head, from which the plots of a run are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugins.offset.plots import plot_confusion, plot_correlation, plot_similarity
from zoo.evaluation.ranking import count_confusion
from zoo.timeline import OffsetGrid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.training.diagnostics import Example

CURVE_STEP_S = 0.02


def find(
    outputs: Float[Tensor, "N K"],
    targets: Int[Tensor, N],
    examples: Sequence[Example],
    grid: OffsetGrid,
) -> dict[str, Any]:
    """Return the confusion of all samples, and what the model makes of a few examples.

    An example has the similarity of its audio and video segments, where they can be compared, and
    the curve of its head, where it has one.
    """
    return {
        "offsets_s": list(grid.offsets_s),
        "segment_starts_s": examples[0].model.config.layout.starts_s if examples else [],
        "confusion": count_confusion(outputs, targets),
        "examples": [_of_example(example, grid) for example in examples],
    }


def _of_example(example: Example, grid: OffsetGrid) -> dict[str, Any]:
    found: dict[str, Any] = {
        "clip": example.clip,
        "offset_s": grid.offsets_s[example.sample.target],
        "probabilities": _rounded(example.outputs.softmax(0)),
    }
    similarity = example.similarity()
    if similarity is not None:
        found["similarity"] = similarity
    curve = getattr(example.model.head, "curve", None)
    if curve is not None:
        num = round((grid.max_s - grid.min_s) / CURVE_STEP_S) + 1
        device = example.audio.values.device
        offsets_s = torch.linspace(grid.min_s, grid.max_s, num, device=device)
        found["curve"] = _rounded(curve(example.audio, example.vision, offsets_s)[0])
    return found


def _rounded(values: Tensor) -> list[float]:
    numbers: list[float] = torch.round(values.float().cpu(), decimals=5).tolist()
    return numbers


def plot(findings: dict[str, Any]) -> dict[str, Figure]:
    """Draw what was found."""
    counts, offsets_s = findings["confusion"], findings["offsets_s"]
    figures = {"confusion": plot_confusion(counts, offsets_s, "validation samples")}
    examples = findings["examples"]
    if examples and all("similarity" in example for example in examples):
        figures["similarity"] = plot_similarity(findings)
    if examples and all("curve" in example for example in examples):
        figures["correlation"] = plot_correlation(findings)
    return figures
