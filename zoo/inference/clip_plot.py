"""A stretch of a clip as a filmstrip and as a spectrogram."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from torchaudio.functional import amplitude_to_DB
from torchaudio.transforms import MelSpectrogram

HOP_S, MELS, RANGE_DB = 0.01, 64, 70.0


def draw_film(
    axis: Axes, frames: UInt8[np.ndarray, "T H W C"], span_s: tuple[float, float], num: int
) -> None:
    """Lay frames side by side, each where its middle is shown.

    Args:
        axis: to draw into.
        frames: of the stretch, evenly spaced.
        span_s: start and end of the stretch, seconds.
        num: how many frames to show.
    """
    num = int(np.clip(num, 1, len(frames)))
    middles = ((np.arange(num) + 0.5) * len(frames) / num).astype(int)
    axis.imshow(
        np.concatenate(list(frames[middles]), axis=1),
        extent=(*span_s, 0, 1),
        aspect="auto",
        interpolation="bilinear",
    )
    axis.set_yticks([])


def draw_spectrogram(
    axis: Axes,
    samples: Float[np.ndarray, N],
    sample_rate_hz: int,
    span_s: tuple[float, float],
    hop_s: float = HOP_S,
) -> None:
    """Draw the mel spectrogram of a stretch, low frequencies below.

    Args:
        axis: to draw into.
        samples: mono.
        sample_rate_hz: of the samples.
        span_s: start and end of the stretch, seconds.
        hop_s: from one column to the next, seconds.
    """
    hop = round(hop_s * sample_rate_hz)
    window = round(2.5 * HOP_S * sample_rate_hz)
    mel = MelSpectrogram(sample_rate_hz, n_fft=512, win_length=window, hop_length=hop, n_mels=MELS)
    power = mel(torch.from_numpy(samples))  # (F, Ta)
    level_db = amplitude_to_DB(power, 10.0, 1e-10, 0.0).numpy()
    top_db = float(level_db.max())
    axis.imshow(
        level_db,
        extent=(*span_s, 0, MELS),
        aspect="auto",
        origin="lower",
        cmap="magma",
        vmin=top_db - RANGE_DB,
        vmax=top_db,
    )
    axis.set_yticks([])
