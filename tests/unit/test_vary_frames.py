"""Sizes, colours and masks that vary between two readings of a clip."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.contracts import Frames, LogMel
from zoo.data import vary_frames
from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import read_cut, vary_spectrograms
from zoo.data.manifest import Clip
from zoo.data.vary_frames import scale_frames, vary_colours
from zoo.errors import ConfigError
from zoo.timeline import Sample, SegmentLayout
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit


def picture(seed: int = 0, num: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, 12, 16, 3), dtype=np.uint8)


class Fixed:
    """A source of randomness that gives what it is told."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)

    def uniform(self, low: float, high: float) -> float:
        value = self.values.pop(0)
        assert low <= value <= high
        return value


def varied(frames: np.ndarray, *changes: float) -> np.ndarray:
    """Apply brightness, saturation, contrast and hue."""
    rng = Fixed(0.0, 0.99, *changes)
    return vary_colours(frames.astype(np.float32), 0.5, 0.5, rng)  # type: ignore[arg-type]


def test_colours_vary_as_tensorflow_defines_each_change() -> None:
    frames = picture()
    x = frames / 255
    assert np.allclose(varied(frames, 0, 1, 1, 0), frames, atol=1e-3)
    brighter = (x + 0.1).clip(0, 1)
    assert np.allclose(varied(frames, 0.1, 1, 1, 0) / 255, brighter, atol=1e-5)
    mean = x.mean(axis=(1, 2), keepdims=True)
    assert np.allclose(
        varied(frames, 0, 1, 1.4, 0) / 255, ((x - mean) * 1.4 + mean).clip(0, 1), atol=1e-5
    )
    for factor, turn in ((0.6, 0.0), (1.4, 0.0), (1.0, 0.15), (1.0, -0.2)):
        ours = varied(frames, 0, factor, 1, turn) / 255
        hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in x.reshape(-1, 3)])
        hsv[:, 0] = (hsv[:, 0] + turn) % 1
        hsv[:, 1] = (hsv[:, 1] * factor).clip(0, 1)
        theirs = np.array([colorsys.hsv_to_rgb(*pixel) for pixel in hsv]).reshape(x.shape)
        assert np.allclose(ours, theirs, atol=1e-4), (factor, turn)


def test_all_frames_of_a_clip_change_alike_and_bytes_stay_bytes() -> None:
    frames = np.repeat(picture(num=1), 4, axis=0)
    rng = np.random.default_rng(3)
    changed = vary_colours(frames, 1.0, 0.0, rng)
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, frames)
    assert all(np.array_equal(changed[0], frame) for frame in changed)


def test_colours_and_greys_come_as_often_as_they_should() -> None:
    frames, rng = picture(num=1), np.random.default_rng(0)
    found = [vary_colours(frames, 0.8, 0.1, rng) for _ in range(300)]
    same = np.mean([np.array_equal(one, frames) for one in found])
    grey = np.mean([bool((one[..., :1] == one).all()) for one in found])
    assert 0.12 < same < 0.25  # 0.2 * 0.9
    assert 0.05 < grey < 0.15


def test_height_and_width_scale_by_themselves_and_never_below_the_crop() -> None:
    rng = np.random.default_rng(0)
    frames = np.zeros((1, 100, 200, 3), np.uint8)
    sizes = np.array([scale_frames(frames, 80, (0.9, 1.33), rng).shape[1:3] for _ in range(200)])
    factors = sizes / (100, 200)
    assert 0.89 < factors.min() < 0.93
    assert 1.28 < factors.max() <= 1.33
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.2
    assert scale_frames(frames, 100, (0.9, 0.9), rng).shape == (1, 100, 180, 3)


def test_frames_are_scaled_before_they_are_cropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And coloured after they are flipped; a cache's frames, which can only be read, stay."""
    frames = np.zeros((4, 56, 60, 3), np.uint8)
    frames[:, :, 30:] = 200
    frames.flags.writeable = False
    reader = ClipReader(Frames(size=48, short_side=56, fps=25), LogMel())
    monkeypatch.setattr(ClipReader, "read_vision", lambda *_: frames)
    monkeypatch.setattr(ClipReader, "read_audio", lambda *_: np.zeros(2560, np.float32))
    clip = Clip(Path("a.mp4"), "train", 5.0, 25, 60, 56, 16_000, 1)
    layout = SegmentLayout(num_segments=1, segment_s=0.16, step_s=0.16)

    def read(**settings: object) -> np.ndarray:
        augment = Augment(**settings)  # type: ignore[arg-type]
        sample = Sample(0, 0.0, 0.0, 0)
        return read_cut(reader, clip, sample, layout, augment, np.random.default_rng(0)).frames

    plain = read()
    assert plain.shape == (4, 48, 48, 3)
    scaled = read(scale_jitter=[1.3, 1.3])
    assert scaled.shape == plain.shape
    assert not np.array_equal(scaled, plain)
    assert {read(flip=1.0, colour_jitter=1.0)[0, 0, 0, 0] > 100} == {True}
    monkeypatch.setattr(vary_frames, "BRIGHTNESS", 1.0)
    assert not np.array_equal(read(colour_jitter=1.0), plain)


def test_nothing_is_sampled_for_what_is_off() -> None:
    """Runs of earlier versions go on with the same random numbers."""
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    mel = torch.randn(1, 16, 30)
    with_times = Augment(mask_bins=8, mask_bins_times=1, mask_frames_times=3)
    assert torch.equal(
        vary_spectrograms(mel.clone(), 0.5, Augment(mask_bins=8), one),
        vary_spectrograms(mel.clone(), 0.5, with_times, other),
    )
    assert one.random() == other.random()


def test_several_bands_are_hidden_by_zeros() -> None:
    rng, most = np.random.default_rng(0), 0
    for _ in range(100):
        mel = torch.full((1, 128, 40), 9.0)
        augment = Augment(mask_bins=36, mask_bins_times=2, mask_fill="zero")
        hidden = vary_spectrograms(mel, 3.0, augment, rng)[0]
        assert set(hidden.unique().tolist()) <= {0.0, 9.0}
        rows = (hidden == 0).all(1)
        assert torch.equal(rows, (hidden == 0).any(1))
        most = max(most, int(rows.sum()))
    assert 50 < most <= 70


def test_a_roll_of_1_takes_every_shift_of_the_circle_as_often() -> None:
    """As MBT's random time shift, for odd lengths too."""
    rng, mel = np.random.default_rng(0), torch.arange(7.0).expand(1, 2, 7)
    shifts = [
        int(vary_spectrograms(mel.clone(), 0.0, Augment(roll=1.0), rng)[0, 0, 0])
        for _ in range(1400)
    ]
    counts = np.bincount(shifts, minlength=7)
    assert counts.min() > 150
    assert counts.max() < 250


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("stage2.scale_jitter=[0.8,1.33]", r"56 pixels as small as 44, and the crop has 48.*0\.86"),
        ("stage2.scale_jitter=[1.2,0.9]", "the smallest comes first"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_fit(
            build_recipe(
                extractor="cavmae", task="classification", preset="tiny", overrides=[setting]
            ),
            (2,),
        )


@pytest.mark.parametrize("setting", ["colour_jitter=0.8", "grey=0.1", "scale_jitter=[0.9,1.3]"])
def test_what_a_store_cannot_vary_is_refused(setting: str) -> None:
    name = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=f"stage2.{name} changes what is read"):
        build_recipe(
            extractor="ast_motionformer",
            task="classification",
            preset="tiny",
            overrides=[f"stage2.{setting}"],
        )
