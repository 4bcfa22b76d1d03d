"""What there is to hear and to see, and what repeats."""

from collections.abc import Callable

import numpy as np
import pytest

from zoo.data.content import Content

RATE_HZ, FPS = 16_000, 25
TIMES_S = np.arange(9 * RATE_HZ) / RATE_HZ
Sound = Callable[[np.random.Generator], np.ndarray]


def _clicks(starts_s: list[float], level: float = 0.5) -> np.ndarray:
    sound = np.zeros(len(TIMES_S))
    for start_s in starts_s:
        is_on = (start_s <= TIMES_S) & (start_s + 0.03 > TIMES_S)
        sound += level * is_on * np.sin(2 * np.pi * 1000 * TIMES_S)
    return sound


def _flashes(starts_s: list[float], length_s: float = 9.0) -> np.ndarray:
    frames = np.full((round(length_s * FPS), 64, 64, 3), 90, np.uint8)
    frames[[round(start_s * FPS) for start_s in starts_s]] = 235
    return frames


def _content(sound: np.ndarray | None = None, frames: np.ndarray | None = None) -> Content:
    content = Content()
    if sound is not None:
        content.hear(0.0, sound.astype(np.float32), RATE_HZ)
    if frames is not None:
        content.see(0.0, frames, FPS)
    return content


@pytest.mark.parametrize(
    ("sound", "lack"),
    [
        (lambda rng: 0 * TIMES_S, "the sound is silent"),
        (lambda rng: rng.normal(0, 1e-4, len(TIMES_S)), "the sound is silent"),
        (lambda rng: 0.3 * np.sin(2 * np.pi * 440 * TIMES_S), "the sound has no events"),
        (lambda rng: 0.01 * np.sin(2 * np.pi * 3100 * TIMES_S), "the sound has no events"),
        (lambda rng: 0.1 * np.sign(np.sin(2 * np.pi * 50 * TIMES_S)), "the sound has no events"),
        (lambda rng: rng.normal(0, 0.003, len(TIMES_S)), "the sound has no events"),
        (lambda rng: rng.normal(0, 0.1, len(TIMES_S)), "the sound has no events"),
    ],
)
def test_a_sound_without_events_says_so(sound: Sound, lack: str) -> None:
    content = _content(sound(np.random.default_rng(0)), _flashes([1.0, 3.0]))
    assert content.counted([(0.0, 0.0), (4.0, 4.0)], 4.8) == []
    assert content.lack() == lack


@pytest.mark.parametrize(
    "sound",
    [
        lambda rng: _clicks([4.0]),
        lambda rng: _clicks([4.0], 0.003),
        lambda rng: _clicks([4.0]) + 0.3 * np.sin(2 * np.pi * 440 * TIMES_S),
        lambda rng: _clicks([4.0]) + rng.normal(0, 0.1, len(TIMES_S)),
        lambda rng: rng.normal(0, 0.05, len(TIMES_S)) * (1 + (np.floor(2 * TIMES_S) % 2)),
    ],
)
def test_one_event_is_enough(sound: Sound) -> None:
    assert _content(sound(np.random.default_rng(0))).has_sound(0.0, 9.0)


def test_the_start_of_a_tone_is_no_event() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * TIMES_S) * (TIMES_S >= 0.06)
    assert not _content(tone).has_sound(0.0, 9.0)


def test_still_noisy_and_flickering_pictures_say_so() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (64, 64, 3))
    noisy = np.clip(image + rng.normal(0, 4, (225, 64, 64, 3)), 0, 255).astype(np.uint8)
    flicker = np.tile(np.asarray([90, 130], np.uint8), 113)[:225]
    flicker = np.broadcast_to(flicker[:, None, None, None], (225, 64, 64, 3))
    sound = _clicks([1.0, 3.0, 5.0, 7.0])
    assert _content(sound, _flashes([])).lack() == "the picture does not change"
    assert _content(sound, noisy).lack() == "the picture does not change"
    assert _content(sound, flicker).lack() == "the picture only flickers"
    assert _content(0 * sound, noisy).lack() == (
        "the sound is silent and the picture does not change"
    )


def test_key_frames_fades_and_a_clock_are_no_changes() -> None:
    rng, numbers = np.random.default_rng(0), np.arange(225)
    image = rng.integers(30, 200, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    keys = rng.normal(0, 2.5, (9, 8, 8, 1)).repeat(25, axis=0).repeat(8, axis=1).repeat(8, axis=2)
    clock = np.repeat(image[None], 225, axis=0)
    clock[:, :8, 56:] = np.resize([100, 112], 9).repeat(25)[:, None, None, None]
    for fade in (np.linspace(1, 0.2, 225), (1 - (numbers - 50) / 75).clip(0, 1)):
        assert not _content(frames=(fade[:, None, None, None] * image)).has_motion(0.0, 9.0)
    assert not _content(frames=image + keys).has_motion(0.0, 9.0)
    assert not _content(frames=clock).has_motion(0.0, 9.0)
    walk = np.abs(numbers % 80 - 40)
    moving = image + keys
    for frame, at in zip(moving, walk, strict=True):
        frame[20:30, at : at + 10] = 220
    assert _content(frames=moving).has_motion(0.0, 9.0)


def test_a_flash_and_a_small_moving_part_are_changes() -> None:
    assert _content(frames=_flashes([4.0])).has_motion(0.0, 9.0)
    talking = _flashes([])
    talking[:, 40:48, 28:36] += (12 * np.sin(np.arange(225)))[:, None, None, None].astype(np.uint8)
    assert _content(frames=talking).has_motion(0.0, 9.0)


def test_windows_count_by_what_is_in_them() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, len(TIMES_S))
    content = _content((_clicks([1.0, 2.0]) + noise) * (TIMES_S < 4.0), _flashes([1.0, 2.0, 8.0]))
    starts_s = [(0.0, 0.0), (0.5, 0.5), (4.0, 4.0)]
    assert content.counted(starts_s, 4.8) == [0, 1]
    assert content.counted([*starts_s, (1.9, 1.9)], 4.8) == [0, 1]  # the last is silent for 2.7 s
    assert content.counted([(1.9, 1.9)], 4.8) == [0]  # but is better than none


def test_windows_that_reach_into_a_long_silence_do_not_count() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, len(TIMES_S))
    events_s = [1.0, 2.0, 3.0, 4.5, 5.5]
    content = _content((_clicks(events_s) + noise) * (TIMES_S < 6.0), _flashes(events_s))
    starts_s = [(t, t) for t in (0.0, 1.0, 1.6, 2.0)]
    assert content.counted(starts_s, 4.8) == [0, 1, 2]
    assert content.counted(starts_s[3:], 4.8) == [0]  # better than none
    short = _content((_clicks(events_s) + noise) * (TIMES_S < 7.2), _flashes(events_s))
    assert short.counted([(3.0, 3.0)], 4.8) == [0]


def test_what_was_not_read_says_nothing() -> None:
    assert Content().counted([(0.0, 0.0)], 4.8) == [0]
    assert Content().repeating(4.0) is None


@pytest.mark.parametrize("late_s", [-0.9, 0.2, 1.1])
@pytest.mark.parametrize("period_s", [0.25, 0.4, 0.48, 0.5, 0.77, 1.3, 2.0])
def test_what_repeats_in_sound_and_picture_has_a_period(period_s: float, late_s: float) -> None:
    times_s = np.arange(0.1, 8.9, period_s)
    clicks_s = np.arange(0.1 + late_s % period_s, 8.9, period_s).tolist()
    found = _content(_clicks(clicks_s), _flashes(times_s.tolist())).repeating(4.0)
    assert found is not None
    assert found.period_s == pytest.approx(period_s, abs=0.01)
    apart_s = (found.offset_s + late_s + period_s / 2) % period_s - period_s / 2
    assert abs(apart_s) < 0.08


def test_a_period_of_the_sound_alone_is_none() -> None:
    rng = np.random.default_rng(3)
    beats_s = np.arange(0.1, 8.5, 0.5).tolist()
    others_s = np.cumsum(rng.uniform(0.6, 1.6, 7)).tolist()
    assert _content(_clicks(beats_s), _flashes(others_s)).repeating(4.0) is None
    assert _content(_clicks(others_s), _flashes(others_s)).repeating(4.0) is None
