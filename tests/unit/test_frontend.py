import numpy as np
import pytest
import torch

from zoo.contracts import Frames, LogMel
from zoo.data.frontend import LOG_FLOOR, crop_square, cut_audio, cut_frames
from zoo.errors import ConfigError

SAMPLES = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)


def test_a_published_segment_is_66_mel_frames_and_16_video_frames() -> None:
    assert LogMel().num_frames(0.64) == 66
    assert Frames().num_frames(0.64) == 16
    assert cut_audio(SAMPLES, [0.0, 0.32], 0.64, LogMel()).shape == (2, 128, 66)


def test_the_padded_column_is_the_published_constant() -> None:
    mel = cut_audio(SAMPLES, [0.0, 0.32], 0.64, LogMel())
    assert torch.allclose(mel[:, :, -1], torch.tensor(0.46703), atol=1e-5)
    assert not torch.allclose(mel[:, :, -2], torch.tensor(0.46703), atol=1e-2)


def test_every_segment_has_a_spectrogram_of_its_own() -> None:
    mel = cut_audio(SAMPLES, [0.0, 0.32, 0.64], 0.64, LogMel())
    alone = cut_audio(SAMPLES[5120 : 5120 + 10_240], [0.0], 0.64, LogMel())
    assert torch.allclose(mel[1], alone[0], atol=1e-5)


def test_silence_sits_at_the_floor() -> None:
    mel = cut_audio(np.zeros(10_240, np.float32), [0.0], 0.64, LogMel())
    floor = (np.log(LOG_FLOOR) + 4.2677393) / (2 * 4.5689974)
    assert torch.allclose(mel[:, :, :-1], torch.tensor(float(floor)), atol=1e-5)


def test_frames_are_scaled_to_plus_minus_one_and_kept_in_order() -> None:
    frames = np.zeros((25, 32, 32, 3), np.uint8)
    frames[:, :, :, 1] = np.arange(25)[:, None, None]
    frames[:, :, :, 2] = 255
    cut = cut_frames(frames, [0.0, 0.16], 0.64, Frames(size=32))
    assert cut.shape == (2, 3, 16, 32, 32)
    assert torch.all(cut[:, 0] == -1)
    assert torch.all(cut[:, 2] == 1)
    shown = (cut[1, 1, :, 0, 0] + 1) * 127.5
    assert torch.allclose(shown, torch.arange(4.0, 20.0), atol=1e-4)


def test_a_start_between_two_frames_is_an_error() -> None:
    with pytest.raises(ConfigError, match="video frames"):
        cut_frames(np.zeros((25, 32, 32, 3), np.uint8), [0.01], 0.64, Frames(size=32))


def test_the_centre_crop_rounds_like_the_published_one() -> None:
    frames = np.arange(343, dtype=np.int32)[None, None, :, None].repeat(256, 1)
    assert crop_square(frames, 224, None)[0, 0, 0, 0] == 60  # slack 119: round(59.5) is even
    frames = np.arange(345, dtype=np.int32)[None, None, :, None].repeat(256, 1)
    assert crop_square(frames, 224, None)[0, 0, 0, 0] == 60  # slack 121: round(60.5) is even


def test_a_random_crop_is_the_same_for_all_frames_and_varies() -> None:
    frames = np.random.default_rng(1).integers(0, 255, (4, 40, 50, 3), np.uint8)
    crops = [crop_square(frames, 32, np.random.default_rng(seed)) for seed in range(5)]
    assert all(crop.shape == (4, 32, 32, 3) for crop in crops)
    assert any(not np.array_equal(crops[0], crop) for crop in crops[1:])
