"""Sounds that vary between two readings of a clip: rooms, noise, pitch."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

REVERBERATION_S = (0.1, 0.6)  # time in which an echo falls by 60 dB
WET = (0.1, 0.7)  # loudness of all echoes together beside the direct sound
QUIETEST_DB = 40.0  # below the sound: noise nobody hears
COLOURS = (0.0, 2.0)  # of noise: its power falls with this power of the frequency


def reverberate(
    samples: Float[np.ndarray, N], sample_rate_hz: int, rng: np.random.Generator
) -> Float[np.ndarray, N]:
    """Let a sound echo in some room; the direct sound stays where it is.

    The echo is decaying noise, as Polack's model of rooms has it.
    """
    length = min(len(samples), round(REVERBERATION_S[1] * sample_rate_hz))
    decay_s, wet = rng.uniform(*REVERBERATION_S), rng.uniform(*WET)
    echo = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / decay_s / sample_rate_hz)
    echo *= wet / max(float(np.sqrt((echo**2).sum())), 1e-9)
    echo[:1] = 1.0
    size = len(samples) + length
    wave = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(echo, size), size)
    return wave[: len(samples)].astype(np.float32)


def add_noise(
    samples: Float[np.ndarray, N], lowest_db: float, rng: np.random.Generator
) -> Float[np.ndarray, N]:
    """Add noise of some colour, at a ratio of sound to noise from the lowest up to 40 dB."""
    ratio_db, colour = rng.uniform(lowest_db, QUIETEST_DB), rng.uniform(*COLOURS)
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** (colour / 2)
    noise = np.fft.irfft(spectrum, len(samples))
    loud, quiet = (float(np.sqrt((x**2).mean())) for x in (samples, noise))
    scale = loud / max(quiet, 1e-9) * 10 ** (-ratio_db / 20)
    return (samples + scale * noise).astype(np.float32)


def shift_rows(
    audio: Float[Tensor, "S F Ta"], reach: int, filling: float, rng: np.random.Generator
) -> Float[Tensor, "S F Ta"]:
    """Move all rows of spectrograms up or down by up to ``reach``: another pitch and another voice.

    The times stay, unlike with tapes that run faster.
    """
    by = int(rng.integers(-reach, reach + 1))
    if not by:
        return audio
    moved = torch.full_like(audio, filling)
    if by > 0:
        moved[:, by:] = audio[:, :-by]
    else:
        moved[:, :by] = audio[:, -by:]
    return moved
