"""Rooms, noise and voices that vary in training: what they do, and that nothing moves in time."""

from __future__ import annotations

import numpy as np
import torch

from zoo.data.vary_sound import add_noise, reverberate, shift_rows

RATE_HZ = 16_000


def click() -> np.ndarray:
    samples = np.zeros(RATE_HZ, np.float32)
    samples[4000] = 1.0
    return samples


def test_an_echo_follows_the_sound_and_dies_away() -> None:
    heard = reverberate(click(), RATE_HZ, np.random.default_rng(0))
    assert heard.dtype == np.float32
    assert len(heard) == RATE_HZ
    assert int(np.abs(heard).argmax()) == 4000
    assert np.abs(heard[:4000]).max() < 1e-6
    early, late = (float((heard[a : a + 1600] ** 2).sum()) for a in (4001, 12_000))
    assert early > 10 * late
    assert 0 < early < 0.6


def test_noise_is_no_louder_than_asked_for() -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, RATE_HZ).astype(np.float32)
    ratios_db = []
    for _ in range(50):
        noise = add_noise(sound, 10.0, rng) - sound
        ratios_db.append(10 * np.log10((sound**2).mean() / (noise**2).mean()))
    assert 9.9 < min(ratios_db) < 15
    assert 30 < max(ratios_db) < 40.1
    silence = add_noise(np.zeros(100, np.float32), 10.0, rng)
    assert not silence.any()


def test_rows_move_and_what_comes_in_is_filling() -> None:
    audio = torch.arange(12.0).reshape(1, 4, 3)
    seen = set()
    for seed in range(60):
        moved = shift_rows(audio, 2, -9.0, np.random.default_rng(seed))
        by = next(k for k in range(-2, 3) if (moved[0, max(0, k) : 4 + min(0, k)] >= 0).all()
                  and torch.equal(moved[0, max(0, k) : 4 + min(0, k)],
                                  audio[0, max(0, -k) : 4 + min(0, -k)]))  # fmt: skip
        seen.add(by)
        assert int((moved == -9).sum()) == 3 * abs(by)
    assert seen == {-2, -1, 0, 1, 2}
