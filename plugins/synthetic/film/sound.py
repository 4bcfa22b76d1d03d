"""What film clips sound like: things that are struck, voices, motors, music, rooms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plugins.synthetic.config import SAMPLE_RATE_HZ
from plugins.synthetic.film.cast import envelope
from plugins.synthetic.film.schedule import Schedule, sample_schedule
from plugins.synthetic.synthesis import NYQUIST_HZ, Array, add, coloured_noise
from zoo.data.vary_sound import reverberate

LONGEST_S = 1.5
NUM_HARMONICS = 20
Sound = Callable[[np.random.Generator, Schedule, int], Array]


def struck(rng: np.random.Generator, schedule: Schedule, num_samples: int) -> Array:
    """Return a track of something that is struck at every event: modes that ring, and noise."""
    num = int(rng.integers(1, 12))
    lowest, highest = np.sort(np.exp(rng.uniform(np.log(60), np.log(6000), 2)))
    hz = rng.uniform(lowest, highest, num)
    ring_s = np.exp(rng.uniform(np.log(0.015), np.log(0.6))) * rng.uniform(0.4, 1, num)
    levels = rng.exponential(1, num) * (rng.random() < 0.8)
    noise, noise_s = rng.choice([0.0, 0.3, 1.5]), np.exp(rng.uniform(np.log(0.01), np.log(0.3)))
    slope, attack_s = rng.uniform(-0.3, 1.2), np.exp(rng.uniform(np.log(0.0005), np.log(0.02)))
    if not levels.any():
        noise = 1.0
    length_s = min(LONGEST_S, 5 * max(float(ring_s.max()), noise_s))
    at_s = np.arange(round(length_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    fade = np.minimum(1, (at_s + 1 / SAMPLE_RATE_HZ) / attack_s)
    fade *= np.minimum(1, (length_s - at_s) / 0.02)
    bend = rng.choice([0.0, 0.0, 0.5, 2.0])  # pitch at the onset over the final one, minus 1
    hz = np.minimum(hz, 0.85 * NYQUIST_HZ / (1 + bend))
    glide = bend * 0.03 * (1 - np.exp(-at_s / 0.03))

    def once(strength: float) -> Array:
        pitch, hit = np.exp(rng.normal(0, 0.03)), np.zeros(at_s.size)
        for f, decay_s, level in zip(hz, ring_s, levels, strict=True):
            phase = 2 * np.pi * f * pitch * (at_s + glide)
            hit += level * rng.uniform(0.6, 1.4) * np.exp(-at_s / decay_s) * np.sin(phase)
        hit /= max(np.abs(hit).max(), 1e-6)
        hit += noise * np.exp(-at_s / noise_s) * coloured_noise(rng, at_s.size, slope)
        hit *= fade
        return np.asarray(strength**1.5 * hit / max(np.abs(hit).max(), 1e-6), np.float32)

    track = np.zeros(num_samples, np.float32)
    for time_s, strength in zip(schedule.times_s, schedule.strengths, strict=True):
        add(track, once(float(strength)), float(time_s))
    return track


def voiced(rng: np.random.Generator, schedule: Schedule, num_samples: int) -> Array:
    """Return a track of a voice that sounds as long as every event lasts: barks, cries, babble."""
    at_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    loud = envelope(schedule, at_s, rng.uniform(0.01, 0.08), rng.uniform(0.3, 0.9))
    since_s, _, following = schedule.around(at_s)
    event = np.maximum(following - 1, 0)
    part = since_s / schedule.lengths_s[event]
    base_hz = np.exp(rng.uniform(np.log(80), np.log(700)))
    heights = rng.normal(0, 0.25, schedule.times_s.size)[event]
    bends = rng.normal(rng.normal(0, 0.4), 0.2, schedule.times_s.size)[event]
    pitch_hz = base_hz * 2 ** np.clip(heights + bends * np.clip(part, 0, 1), -1.5, 1.5)
    turns = (np.cumsum(pitch_hz) / SAMPLE_RATE_HZ % 1).astype(np.float32)
    formants = np.sort(np.exp(rng.uniform(np.log(250), np.log(4000), 3)))
    wave = np.zeros(num_samples, np.float32)
    for number in range(1, NUM_HARMONICS + 1):
        if number * pitch_hz.max() > NYQUIST_HZ:
            break
        near = np.exp(-0.5 * (np.log(number * base_hz / formants) / 0.25) ** 2).sum()
        level = np.float32((0.1 + near) * number ** -rng.uniform(0.2, 0.6))
        wave += level * np.sin(np.float32(2 * np.pi * number) * turns)
    wave /= max(float(np.sqrt(np.mean(wave**2))), 1e-6)
    breath = rng.choice([0.05, 0.3, 1.0]) * coloured_noise(rng, num_samples, rng.uniform(0, 0.6))
    return ((wave + breath) * loud**1.3).astype(np.float32)


def droning(rng: np.random.Generator, schedule: Schedule, num_samples: int) -> Array:
    """Return a track of noise or a motor that is as loud as every event is strong."""
    at_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    loud = envelope(schedule, at_s, rng.uniform(0.03, 0.2), rng.uniform(0.3, 0.9))
    wave = coloured_noise(rng, num_samples, rng.uniform(-0.2, 1.2))
    if rng.random() < 0.5:
        hz = rng.uniform(20, 120) * (1 + 0.5 * loud)
        pulses = np.cumsum(hz) / SAMPLE_RATE_HZ % 1
        wave *= (0.3 + np.exp(-6 * pulses)).astype(np.float32)
    return np.asarray(wave * loud**1.3, np.float32)


def music(rng: np.random.Generator, seconds: float, num_samples: int) -> Array:
    """Return chords that change with a beat, with or without drums; nobody is seen to play."""
    beat_s, root_hz = rng.uniform(0.3, 0.9), np.exp(rng.uniform(np.log(80), np.log(300)))
    begun_s = rng.uniform(0, 4 * beat_s)  # before the clip
    at_s = begun_s + np.arange(num_samples) / SAMPLE_RATE_HZ
    bar = (at_s / (beat_s * rng.choice([2, 4]))).astype(np.int64)
    track = np.zeros(num_samples, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        notes = rng.choice([0, 2, 4, 5, 7, 9, 11, 12], int(bar[-1]) + 1)
        turns = np.cumsum(root_hz * 2 ** (notes[bar] / 12)) / SAMPLE_RATE_HZ % 1
        tone = np.sin(2 * np.pi * turns) + rng.uniform(0, 0.6) * np.sin(6 * np.pi * turns)
        track += (tone * np.exp(-rng.uniform(0, 3) * (at_s / beat_s % 1))).astype(np.float32)
    if rng.random() < 0.6:
        times_s = np.arange(0, begun_s + seconds, beat_s * rng.choice([0.5, 1.0])) - begun_s
        beats = Schedule(times_s, rng.uniform(0.5, 1, times_s.size), np.full(times_s.size, 0.1))
        track += rng.uniform(0.5, 3) * struck(rng, beats, num_samples)
    return track / np.float32(max(np.sqrt(np.mean(track**2)), 1e-4))


def offscreen(rng: np.random.Generator, seconds: float, num_samples: int) -> Array:
    """Return a track of something that is heard and not seen, at a power of 1 while it sounds."""
    sound: Sound = (struck, voiced, droning)[rng.integers(3)]
    schedule = sample_schedule(rng, seconds)
    kept = rng.random(schedule.times_s.size) < rng.uniform(0.3, 1)
    kept[0] = True
    fewer = Schedule(schedule.times_s[kept], schedule.strengths[kept], schedule.lengths_s[kept])
    return at_loudness(sound(rng, fewer, num_samples))


def at_loudness(track: Array) -> Array:
    """Return a track at a power of 1 while it sounds: in its loudest tenth, by blocks of 50 ms."""
    block = SAMPLE_RATE_HZ // 20
    powers = (track[: track.size // block * block].reshape(-1, block) ** 2).mean(axis=1)
    loudest = np.sort(powers)[-max(1, powers.size // 10) :].mean()
    return track / np.float32(max(np.sqrt(loudest), 1e-4))


def room(rng: np.random.Generator, track: Array, lead_s: float) -> Array:
    """Let a track pass a room, a microphone and a loudness, as chance has it.

    Args:
        rng: source of randomness.
        track: begins before the clip.
        lead_s: by so many seconds, which are cut off: echoes do not begin with the clip.
    """
    if rng.random() < 0.6:
        track = reverberate(track, SAMPLE_RATE_HZ, rng)
    track = track[round(lead_s * SAMPLE_RATE_HZ) :]
    spectrum = np.fft.rfft(track)
    hz = np.linspace(0, NYQUIST_HZ, spectrum.size)
    spectrum *= np.maximum(hz / 1000, 0.05) ** rng.normal(0, 0.35)
    if rng.random() < 0.25:  # a telephone, a cheap camera
        low, high = rng.uniform(50, 400), rng.uniform(2500, 7000)
        spectrum *= 1 / np.sqrt(1 + (low / np.maximum(hz, 1)) ** 4) / np.sqrt(1 + (hz / high) ** 8)
    track = np.fft.irfft(spectrum, track.size).astype(np.float32)
    if rng.random() < 0.15:
        track = np.tanh(track / max(track.std(), 1e-6) * rng.uniform(0.3, 1))
    peak = np.exp(rng.uniform(np.log(0.08), np.log(0.95)))
    return np.asarray(peak * track / max(np.abs(track).max(), 1e-9), np.float32)


def sound_of(rng: np.random.Generator, lasts: bool) -> Sound:
    """Choose the sound of something that lasts, or that happens at once."""
    if lasts:
        return voiced if rng.random() < 0.7 else droning
    return struck if rng.random() < 0.75 else voiced
