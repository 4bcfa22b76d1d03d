"""Audio: struck timbres, and everything that hides them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic.config import SAMPLE_RATE_HZ, Nuisance, SyntheticConfig
from plugins.synthetic.scene import Wander

Array = NDArray[np.float32]

NYQUIST_HZ = SAMPLE_RATE_HZ / 2
ATTACK_S = 0.001  # rise of a struck sound, from its onset sample on
LOUD_S = 0.25  # the stretch after an onset over which the signal-to-noise ratio is defined


@dataclass(frozen=True)
class Timbre:
    """How one class of objects sounds when it hits something."""

    base_hz: float
    harmonics: tuple[float, ...]
    noise: float
    decay_s: float
    chirp: float
    """Pitch at the onset over the final pitch, minus 1."""


def strike(rng: np.random.Generator, timbre: Timbre, octaves: float) -> Array:
    """Return the sound of one impact, from its onset, with a peak of about 1.

    Args:
        rng: source of the noise in the sound.
        timbre: class of the object.
        octaves: pitch above the timbre's base, octaves.
    """
    times_s = np.arange(round(min(1.2, 6 * timbre.decay_s) * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    pitch_hz = timbre.base_hz * 2.0**octaves
    glide_s = 0.04
    cycles = pitch_hz * (times_s + timbre.chirp * glide_s * (1 - np.exp(-times_s / glide_s)))
    audio = np.zeros_like(times_s)
    for number, weight in enumerate(timbre.harmonics, start=1):
        if number * pitch_hz * (1 + max(0.0, timbre.chirp)) < NYQUIST_HZ:
            fade = np.exp(-times_s * (0.7 + 0.3 * number) / timbre.decay_s)
            audio += weight * fade * np.sin(2 * np.pi * number * cycles)
    hiss = rng.standard_normal(times_s.size) * np.exp(-2 * times_s / timbre.decay_s)
    audio += timbre.noise * hiss
    audio *= np.minimum(1, (times_s + 1 / SAMPLE_RATE_HZ) / ATTACK_S)
    return (audio / np.abs(audio).max()).astype(np.float32)


def add(track: Array, audio: Array, onset_s: float) -> None:
    """Add audio to a track at round(onset_s * rate); parts outside the track are lost."""
    start = round(onset_s * SAMPLE_RATE_HZ)
    first, last = max(0, start), min(track.size, start + audio.size)
    if first < last:
        track[first:last] += audio[first - start : last - start]


def sample_offscreen(rng: np.random.Generator) -> Array:
    """Return a short sound of no visible cause: a rustle, a whistle or a knock, peak 1."""
    length_s = rng.uniform(0.08, 0.4)
    times_s = np.arange(round(length_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    window = np.sin(np.pi * times_s / length_s) ** 2
    kind = rng.integers(3)
    if kind == 0:
        audio = coloured_noise(rng, times_s.size, rng.uniform(-0.5, 1.0)) * window
    elif kind == 1:
        start_hz, stop_hz = rng.uniform(300, 3000, 2)
        slope = (stop_hz - start_hz) / length_s
        audio = np.sin(2 * np.pi * (start_hz + slope * times_s / 2) * times_s) * window
    else:
        fade = np.exp(-times_s / rng.uniform(0.02, 0.08))
        audio = fade * np.sin(2 * np.pi * rng.uniform(90, 2500) * times_s)
    return (audio / np.abs(audio).max()).astype(np.float32)


def coloured_noise(rng: np.random.Generator, num_samples: int, slope: float) -> Array:
    """Return noise of unit power whose amplitude falls as ``1 / f**slope`` above 100 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples, np.float32))
    hz = np.linspace(0, NYQUIST_HZ, spectrum.size, dtype=np.float32)
    spectrum *= np.maximum(hz, 100) ** -slope
    noise = np.fft.irfft(spectrum, num_samples).astype(np.float32)
    return noise / np.float32(np.sqrt(np.mean(noise**2)))


def room_noise(rng: np.random.Generator, num_samples: int, hum_share: float) -> Array:
    """Return coloured noise of unit power with its own slow drift, and at times a hum."""
    noise = coloured_noise(rng, num_samples, rng.uniform(0.0, 0.9))
    times_s = np.arange(0, num_samples + 800, 800) / SAMPLE_RATE_HZ
    drift_db = Wander(rng, 2.0, 0.03, 0.2)(times_s)
    at = np.arange(num_samples) / 800
    noise *= np.interp(at, np.arange(times_s.size), 10 ** (drift_db / 20)).astype(np.float32)
    if rng.random() < hum_share:
        seconds = np.arange(num_samples, dtype=np.float32) / SAMPLE_RATE_HZ
        mains_hz = rng.choice([50, 60])
        for number in (1, 2, 3, 5):
            phase = rng.uniform(0, 2 * np.pi)
            level = rng.uniform(0.1, 0.5) / number
            hum = np.sin(np.float32(2 * np.pi * mains_hz * number) * seconds + np.float32(phase))
            noise += np.float32(level) * hum
    return noise / np.float32(np.sqrt(np.mean(noise**2)))


def mix(
    rng: np.random.Generator, foreground: Array, loud_power: float, stray: Array, nuisance: Nuisance
) -> Array:
    """Bury the foreground in noise and stray sounds, at a random gain.

    Args:
        rng: source of randomness.
        foreground: what the video explains.
        loud_power: its mean power while it sounds, to which the noise is set.
        stray: sounds without a visible cause.
        nuisance: how much noise.
    """
    snr_db = rng.uniform(*nuisance.snr_db)
    level = np.sqrt(loud_power / 10 ** (snr_db / 10))
    track = foreground + stray
    track += np.float32(level) * room_noise(rng, track.size, nuisance.hum_share)
    peak = rng.uniform(0.15, 0.9)
    return np.asarray(track * np.float32(peak / np.abs(track).max()), np.float32)


def sample_stray(rng: np.random.Generator, config: SyntheticConfig, nuisance: Nuisance) -> Array:
    """Return a track of sounds without a visible cause, anywhere in the clip."""
    track = np.zeros(config.num_samples, np.float32)
    for _ in range(sample_count(rng, nuisance.offscreen, config.seconds)):
        level = np.float32(rng.uniform(0.2, 0.8))
        add(track, level * sample_offscreen(rng), rng.uniform(-0.4, config.seconds))
    return track


def sample_count(rng: np.random.Generator, per_9_s: tuple[int, int], seconds: float) -> int:
    """Sample how many there are in a clip, given the smallest and largest number per 9 s."""
    low, high = (round(number * seconds / 9) for number in per_9_s)
    return int(rng.integers(low, high, endpoint=True))
