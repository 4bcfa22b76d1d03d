"""Kaldi's filter bank: equal to the published loader's, short segments included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import SALT, recipe
from ssl_golden import arrays, check, needs_ssl
from torchaudio.compliance.kaldi import get_mel_banks

from zoo.contracts import KaldiFbank
from zoo.data.frontend import cut_audio, log_fbank

WAVES = (("", 160_000), ("/b", 150_000), ("/c", 170_000))
FBANK = KaldiFbank()


@needs_ssl
@pytest.mark.parametrize("number", range(3))
def test_the_filter_bank_equals_the_published_one(number: int) -> None:
    """A clip of 10 s has 26 frames of padding, one of 10.6 s is cut."""
    suffix, length = WAVES[number]
    wave = torch.from_numpy(recipe().fake_audio(SALT + suffix, length))
    normalised = log_fbank(wave, FBANK, 10.24).T  # (Ta, F)
    rows = torch.from_numpy(arrays("frontend")["rows"].astype(np.int64))
    raw = normalised * FBANK.std + FBANK.mean
    check(f"frontend/fbank_raw{number}", raw[rows], 2e-3)
    check(f"frontend/fbank_raw{number}_mean", raw.double().mean(0), 2e-3)
    if number < 2:
        check(f"frontend/fbank_norm{number}", normalised[rows], 5e-4)
        check("frontend/pad_value", normalised[-1, 0], 1e-6)


@needs_ssl
def test_a_constant_does_not_change_the_filter_bank() -> None:
    """Theirs takes the first of two channels, less the mean of both."""
    first = recipe().fake_audio(SALT, 160_000)
    second = 0.5 * first[::-1] + 0.01
    wave = torch.from_numpy(first - np.stack([first, second]).mean(dtype=np.float32))
    raw = log_fbank(wave, FBANK, 10.24).T * FBANK.std + FBANK.mean
    rows = torch.from_numpy(arrays("frontend")["rows"].astype(np.int64))
    check("frontend/fbank_stereo", raw[rows], 2e-3)


@needs_ssl
def test_filters_and_window_are_the_published_ones() -> None:
    banks, _ = get_mel_banks(128, 512, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
    check("frontend/mel_weights", banks[::9], 1e-5)
    empty = (banks.sum(1) == 0).nonzero().flatten()
    check("frontend/mel_empty_bins", empty, 0)
    check("frontend/window", torch.hann_window(400, periodic=False), 1e-6)


def test_segments_are_cut_and_padded_one_by_one() -> None:
    """10240 samples give 62 frames of 25 ms; two more are padding."""
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    segments = cut_audio(samples, [0.0, 0.32], 0.64, FBANK)
    assert segments.shape == (2, 128, 64)
    padding = -FBANK.mean / FBANK.std
    assert torch.allclose(segments[:, :, 62:], torch.tensor(padding))
    assert not torch.isclose(segments[:, :, 61], torch.tensor(padding)).any()
    alone = log_fbank(torch.from_numpy(samples[5120:15_360]), FBANK, 0.64)
    assert torch.equal(segments[1], alone)
