"""The plot of a reconstruction: input, what was hidden, and what the model puts there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from zoo.contracts import Frames
from zoo.data.frontend import per_channel
from zoo.inference.offset_plot import save_whole
from zoo.inference.reconstruction import Reconstruction
from zoo.timeline import clock_tenths

ROWS = ("input", "hidden", "rebuilt")
WIDTH, MOST_FRAMES = 10.0, 8  # inches, and frames side by side
GREY = 0.78  # of what is hidden
QUANTILES = (0.005, 0.995)  # of the input's spectrogram, between which colours differ
Images = npt.NDArray[np.float32]


def draw(found: Reconstruction, path: Path) -> Path:
    """Draw input, hidden and rebuilt frames and spectrograms.

    Several frames are shown as a strip above the spectrogram, a single one beside it.

    Args:
        found: what to draw.
        path: plot to write; its suffix chooses the format.

    Raises:
        MediaError: if the plot cannot be written.
    """
    frames, spectrograms = frames_of(found), spectrograms_of(found)
    shown = frames[ROWS[0]].shape[0]
    figure, seen, heard = _lay_out(shown)
    for name, axis in zip(ROWS, seen, strict=True):
        axis.imshow(_strip(frames[name]), aspect="equal", interpolation="nearest")
        axis.set_ylabel(f"video\n{name}", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    limits = np.quantile(spectrograms[ROWS[0]], QUANTILES)
    for name, axis in zip(ROWS, heard, strict=True):
        _draw_spectrogram(axis, spectrograms[name], found, limits)
        axis.set_ylabel(f"audio\n{name}", fontsize=9)
    heard[-1].tick_params(bottom=True, labelbottom=True)
    heard[-1].set_xlabel("time in the clip")
    name = Path(found.path).name.replace("$", r"\$")
    model = Path(found.model).name.replace("$", r"\$")
    figure.suptitle(f"{name}, hidden in part and rebuilt by {model}", fontsize=11)
    return save_whole(figure, path)


def _lay_out(num_frames: int) -> tuple[Figure, list[Axes], list[Axes]]:
    """Return a figure, the axes of video and those of audio, from top to bottom."""
    if num_frames == 1:
        figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
        grid: Any = figure.subplots(3, 2, width_ratios=[1, 3.2])
        return figure, list(grid[:, 0]), list(grid[:, 1])
    strip = WIDTH / num_frames
    figure = Figure(figsize=(WIDTH, 3 * (strip + 1.2) + 0.8), layout="constrained")
    grid = figure.subplots(6, 1, height_ratios=[strip] * 3 + [1.2] * 3)
    return figure, list(grid[:3]), list(grid[3:])


def frames_of(found: Reconstruction) -> dict[str, Images]:
    """Return some frames ``(T, H, W, 3)`` of 0 to 1, as the model sees them, by row of the plot."""
    part = found.vision
    given, rebuilt = (_to_rgb(x, found.frontend) for x in (part.given, part.rebuilt))
    hidden = _in_time(part.hidden).cpu().numpy()
    num = min(MOST_FRAMES, len(given))
    chosen = ((np.arange(num) + 0.5) * len(given) / num).astype(int)
    masked = np.where(hidden, np.float32(GREY), given)
    return dict(zip(ROWS, (given[chosen], masked[chosen], rebuilt[chosen]), strict=True))


def _to_rgb(segments: Tensor, frontend: Frames) -> Images:
    std, mean = (
        per_channel(values).to(segments.device) for values in (frontend.std, frontend.mean)
    )
    rgb: Images = _in_time(segments.float() * std + mean).clamp(0, 1).cpu().numpy()
    return rgb


def _in_time(segments: Tensor) -> Tensor:
    """Put the frames of all segments one after the other; ``(N, C, Tv, H, W)``."""
    return segments.permute(0, 2, 3, 4, 1).flatten(0, 1)  # (N*Tv, H, W, C)


def spectrograms_of(found: Reconstruction) -> dict[str, Any]:
    """Return the spectrograms ``(F, S*Ta)`` of all segments, by row of the plot."""
    part = found.audio
    given, rebuilt, hidden = (
        x.permute(1, 0, 2).flatten(1).cpu().numpy() for x in (part.given, part.rebuilt, part.hidden)
    )
    return dict(zip(ROWS, (given, np.ma.masked_array(given, hidden), rebuilt), strict=True))


def _draw_spectrogram(
    axis: Axes, spectrogram: Any, found: Reconstruction, limits: npt.NDArray[np.float64]
) -> None:
    axis.set_facecolor(str(GREY))  # shines through where cells are masked
    axis.imshow(
        spectrogram,
        extent=(found.start_s, found.end_s, 0, len(spectrogram)),
        aspect="auto",
        origin="lower",
        cmap="magma",
        interpolation="nearest",
        vmin=limits[0],
        vmax=limits[1],
    )
    axis.set_yticks([])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock_tenths(seconds)))
    axis.tick_params(bottom=False, labelbottom=False)


def _strip(frames: Images) -> Images:
    """Lay frames side by side, with a white gap between them."""
    gap = max(1, frames.shape[2] // 24)
    padded = np.pad(frames, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=1.0)
    return np.concatenate(list(padded), axis=1)[:, :-gap]
