"""The plot of an offset over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from zoo.errors import MediaError, option
from zoo.inference.prediction import Prediction
from zoo.media.encode import replacing
from zoo.plots import CHANCE, OTHER, VALID, new_figure, save
from zoo.timeline import clock_time

SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".jpeg")


def require_plot(path: Path, *, overwrite: bool) -> None:
    """Refuse at once what could not be written in the end.

    Raises:
        MediaError: if matplotlib cannot tell the format, the file exists, or lies in no folder.
    """
    if path.exists() and not overwrite:
        raise MediaError(
            f"{path} exists", f"choose another file, or replace it with {option('overwrite')}"
        )
    if not path.parent.is_dir():
        raise MediaError(f"there is no folder {path.parent} to write {path.name} to")
    if path.suffix.lower() not in SUFFIXES:
        raise MediaError(f"{path} is no plot; end its name in {', '.join(SUFFIXES)}")


def draw(prediction: Prediction, path: Path, window_s: float) -> Path:
    """Draw every crop's offset at the crop's centre, and what follows from them.

    Args:
        prediction: of one clip.
        path: plot to write; its suffix chooses the format.
        window_s: length of a crop, seconds.

    Raises:
        MediaError: if the plot cannot be written.
    """
    figure, axes = new_figure(9.0, 3.6)
    axis = axes[0, 0]
    times_s = np.asarray([w.start_s for w in prediction.windows]) + window_s / 2
    offsets_s = np.asarray([w.offset_s for w in prediction.windows])
    sureness = np.asarray([w.probability for w in prediction.windows])
    axis.axhline(0, color=CHANCE, linestyle="--", linewidth=1)
    axis.scatter(
        times_s, offsets_s, s=14, color=VALID, alpha=0.1 + 0.9 * sureness, linewidths=0, zorder=3
    )
    axis.plot([], [], "o", color=VALID, markersize=4, label="one crop; pale: unsure")
    _draw_answer(axis, prediction)
    if prediction.rule is not None:
        rule_s = prediction.rule.offset_s
        axis.axhline(
            rule_s, color=CHANCE, linestyle=":", linewidth=2, label="rule without learning"
        )
    axis.set_xlim(0, prediction.duration_s)
    drift = prediction.over_time.drift
    ends_s = [] if drift is None else [drift.start_offset_s, drift.end_offset_s]
    ends_s += [] if prediction.rule is None else [prediction.rule.offset_s]
    low_s, high_s = min(offsets_s.min(), -0.5, *ends_s), max(offsets_s.max(), 0.5, *ends_s)
    axis.set_ylim(low_s - 0.1 * (high_s - low_s), high_s + 0.1 * (high_s - low_s))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock_time(seconds)))
    axis.set_xlabel("time in the clip")
    axis.set_ylabel("offset, s (positive: audio early)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    name = Path(prediction.path).name.replace("$", r"\$")
    axis.set_title(f"{name}: {prediction.over_time.meaning}", fontsize=10)
    return save_whole(figure, path)


def save_whole(figure: Figure, path: Path) -> Path:
    """Write a figure so that it is whole or not there; the suffix chooses the format.

    Raises:
        MediaError: if it cannot be written.
    """
    with replacing(path) as temporary:
        try:
            save(figure, temporary)
        except OSError as error:
            raise MediaError(f"cannot write {path}: {error.strerror}") from error
    return path


def _draw_answer(axis: Axes, prediction: Prediction) -> None:
    drift = prediction.over_time.drift
    if drift is not None:
        ends_s = [0.0, prediction.duration_s]
        values_s = [drift.start_offset_s, drift.end_offset_s]
        axis.plot(ends_s, values_s, color=OTHER, linewidth=2, label="drift")
        return
    for number, stretch in enumerate(prediction.over_time.stretches):
        axis.plot(
            [stretch.start_s, stretch.end_s],
            [stretch.offset_s] * 2,
            color=OTHER,
            linewidth=2,
            label=None if number else "all crops of a stretch",
        )
