"""Kaldi's filter bank: equal to the published loader's, short segments included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import SALT, recipe
from ssl_golden import arrays, check, needs_ssl

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
