"""The plot of the evidence: filmstrip, both curves and spectrogram on one time axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from zoo.attribution.evidence import CLEAR, Attribution, Evidence
from zoo.inference.clip_plot import draw_film, draw_spectrogram
from zoo.inference.offset_plot import save_whole
from zoo.media import Window, decode
from zoo.plots import CHANCE, OTHER, VALID, tidy
from zoo.timeline import clock_tenths, describe_offset

WIDTH, STRIP_HEIGHT = 10.0, 0.95  # inches, of the figure and of its filmstrip
FPS, SHORT_SIDE = 25.0, 120
SAMPLE_RATE_HZ = 16_000


def draw(attribution: Attribution, path: Path) -> Path:
    """Draw where in the crop the evidence lies; reads the crop once more.

    Args:
        attribution: what to draw.
        path: plot to write; its suffix chooses the format.

    Raises:
        MediaError: if the clip cannot be read, or the plot not written.
    """
    window = decode(
        Path(attribution.path),
        start_s=attribution.start_s,
        duration_s=attribution.end_s - attribution.start_s,
        fps=FPS,
        short_side=SHORT_SIDE,
        sample_rate_hz=SAMPLE_RATE_HZ,
        audio_track=attribution.audio_track,
        video_track=attribution.video_track,
    )
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    axes = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [STRIP_HEIGHT, 2.2, 1.3]}
    )
    _draw_film(axes[0], attribution, window)
    _draw_curves(axes[1], attribution)
    _draw_audio(axes[2], attribution, window)
    axes[2].set_xlim(attribution.start_s, attribution.end_s)
    axes[2].xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock_tenths(seconds)))
    axes[2].set_xlabel("time in the clip")
    figure.align_ylabels()
    name = Path(attribution.path).name.replace("$", r"\$")
    figure.suptitle(
        f"{name}: {describe_offset(attribution.offset_s)} "
        f"(probability {attribution.probability:.2f}). Where that is read from:",
        fontsize=11,
    )
    return save_whole(figure, path)


def _draw_film(axis: Axes, attribution: Attribution, window: Window) -> None:
    """Lay as many frames side by side as fit, each where its middle is shown."""
    assert window.frames is not None
    aspect = window.frames.shape[2] / window.frames.shape[1]
    num = round(0.85 * WIDTH / (STRIP_HEIGHT * aspect))
    draw_film(axis, window.frames, (attribution.start_s, attribution.end_s), num)
    _outline(axis, attribution, attribution.vision, VALID)
    axis.set_ylabel("video", color=VALID)


def _draw_curves(axis: Axes, attribution: Attribution) -> None:
    edges_s = np.append(attribution.chunks_s, attribution.end_s)
    for evidence, color, label in (
        (attribution.vision, VALID, "video"),
        (attribution.audio, OTHER, "audio"),
    ):
        axis.stairs(
            evidence.excess, edges_s, color=color, linewidth=1.8, label=label, baseline=None
        )
    axis.axhspan(-CLEAR, CLEAR, color=CHANCE, alpha=0.15, linewidth=0, label="chance")
    axis.set_ylabel("evidence, standard\ndeviations from chance")
    axis.margins(y=0.2)
    axis.legend(loc="upper right", ncols=3, fontsize=8, framealpha=0.85, edgecolor="none")
    tidy(axis)


def _draw_audio(axis: Axes, attribution: Attribution, window: Window) -> None:
    assert window.samples is not None
    draw_spectrogram(axis, window.samples, SAMPLE_RATE_HZ, (attribution.start_s, attribution.end_s))
    _outline(axis, attribution, attribution.audio, OTHER)
    axis.set_ylabel("audio, mel", color=OTHER)


def _outline(axis: Axes, attribution: Attribution, evidence: Evidence, color: str) -> None:
    """Outline the moments that clearly hold evidence."""
    for start_s, end_s in attribution.moments_s(evidence):
        axis.axvspan(start_s, end_s, facecolor="none", edgecolor=color, linewidth=2.5)
