"""The plot of the evidence: filmstrip, both curves and spectrogram on one time axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torchaudio.functional import amplitude_to_DB
from torchaudio.transforms import MelSpectrogram

from zoo.attribution.evidence import CLEAR, Attribution, Evidence
from zoo.inference.offset_plot import save_whole
from zoo.media import Window, decode
from zoo.plots import CHANCE, OTHER, VALID, tidy
from zoo.timeline import clock_tenths, describe_offset

WIDTH, STRIP_HEIGHT = 10.0, 0.95  # inches, of the figure and of its filmstrip
FPS, SHORT_SIDE = 25.0, 120
SAMPLE_RATE_HZ, HOP, MELS, RANGE_DB = 16_000, 160, 64, 70.0


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
    frames = window.frames
    aspect = frames.shape[2] / frames.shape[1]
    num = int(np.clip(round(0.85 * WIDTH / (STRIP_HEIGHT * aspect)), 1, len(frames)))
    middles = ((np.arange(num) + 0.5) * len(frames) / num).astype(int)
    axis.imshow(
        np.concatenate(list(frames[middles]), axis=1),
        extent=(attribution.start_s, attribution.end_s, 0, 1),
        aspect="auto",
        interpolation="bilinear",
    )
    _outline(axis, attribution, attribution.vision, VALID)
    axis.set_yticks([])
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
    mel = MelSpectrogram(SAMPLE_RATE_HZ, n_fft=512, win_length=400, hop_length=HOP, n_mels=MELS)
    power = mel(torch.from_numpy(window.samples))  # (F, Ta)
    level_db = amplitude_to_DB(power, 10.0, 1e-10, 0.0).numpy()
    top_db = float(level_db.max())
    axis.imshow(
        level_db,
        extent=(attribution.start_s, attribution.end_s, 0, MELS),
        aspect="auto",
        origin="lower",
        cmap="magma",
        vmin=top_db - RANGE_DB,
        vmax=top_db,
    )
    _outline(axis, attribution, attribution.audio, OTHER)
    axis.set_yticks([])
    axis.set_ylabel("audio, mel", color=OTHER)


def _outline(axis: Axes, attribution: Attribution, evidence: Evidence, color: str) -> None:
    """Outline the moments that clearly hold evidence."""
    for start_s, end_s in attribution.moments_s(evidence):
        axis.axvspan(start_s, end_s, facecolor="none", edgecolor=color, linewidth=2.5)
