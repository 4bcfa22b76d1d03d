"""Dead sounds and pictures through many codecs are refused; real and synthetic clips are not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zoo.data.check import check_clip
from zoo.data.content import Content
from zoo.data.manifest import Manifest
from zoo.media import decode, encode, probe

pytestmark = pytest.mark.slow

REAL = Path(__file__).parents[3] / "shared" / "real"
SECONDS = 10.0
AUDIO_CODECS = [
    ("aac", 16_000, "24k"),
    ("aac", 48_000, "128k"),
    ("libmp3lame", 16_000, "32k"),
    ("libmp3lame", 44_100, "64k"),
    ("libmp3lame", 44_100, "128k"),
]
VIDEO_CODECS = [
    ("libx264", 23, 25, {}),
    ("libx264", 35, 250, {}),
    ("libx264", 45, 25, {}),
    ("mpeg4", None, 12, {"b": "100k"}),
]
# What is known to pass for motion: a bright clock, and flicker, hard compressed; kind, codec, crf.
KNOWN = {(1, "libx264", 35), (1, "libx264", 45), (7, "libx264", 45)}


def _noise(rng: np.random.Generator, num: int, power: float) -> np.ndarray:
    """Noise whose power falls with frequency to this power: white, pink, brown."""
    spectrum = np.fft.rfft(rng.normal(0, 1, num))
    spectrum *= np.arange(1, len(spectrum) + 1) ** (-power / 2)
    spectrum[: round(20 * SECONDS)] = 0  # below 20 Hz
    noise = np.fft.irfft(spectrum, num)
    return noise / noise.std()


def _sounds(rate_hz: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    num = round(SECONDS * rate_hz)
    times_s = np.arange(num) / rate_hz
    hum = sum(np.sin(2 * np.pi * 50 * k * times_s + k) / k for k in range(1, 12))
    tone = np.sin(2 * np.pi * 440 * times_s)
    yield 0 * times_s
    yield 0.2 * tone
    yield 0.2 * np.sin(2 * np.pi * 3100 * times_s)
    yield 0.2 * tone + 0.01 * _noise(rng, num, 0)
    yield 0.1 * hum
    yield 0.1 * hum + 0.01 * _noise(rng, num, 1)
    for power in (0.0, 1.0, 2.0):
        yield 0.003 * _noise(rng, num, power)
        yield 0.05 * _noise(rng, num, power)


def _pictures(rng: np.random.Generator) -> Iterator[np.ndarray]:
    num = round(SECONDS * 25)
    blocks = rng.integers(20, 220, (9, 12, 3)).repeat(16, axis=0).repeat(16, axis=1)
    image = (blocks + rng.normal(0, 12, (144, 192, 1))).clip(0, 255)
    times_s = np.arange(num) / 25
    still = np.repeat(image[None], num, axis=0)
    clock = still.copy()
    for second in range(round(SECONDS)):
        digit = 200 * rng.integers(0, 2, (5, 4, 1)).repeat(2, axis=0).repeat(3, axis=1)
        clock[25 * second : 25 * second + 25, 120:130, 170:182] = digit
    fades = [0.2 + 0.08 * times_s, (1 - (times_s - 2) / 3).clip(0, 1), 0.8 + 0.1 * np.sin(times_s)]
    yield still
    yield clock
    yield from (still + rng.normal(0, sigma, (num, 144, 192, 1)) for sigma in (3, 8))
    yield from (still * fade[:, None, None, None] for fade in fades)
    yield still * np.where(np.arange(num) % 2, 1.0, 0.85)[:, None, None, None]


def test_dead_sounds_have_no_events(tmp_path: Path) -> None:
    answered, total = [], 0
    for number, (codec, rate_hz, bits) in enumerate(AUDIO_CODECS):
        for kind, sound in enumerate(_sounds(rate_hz, np.random.default_rng(number))):
            path, content = tmp_path / "sound.mkv", Content()
            how = {"audio_codec": codec, "audio_options": {"b": bits}}
            encode(path, None, sound.astype(np.float32), sample_rate_hz=rate_hz, **how)
            samples = decode(path, duration_s=SECONDS, video=False, sample_rate_hz=16_000).samples
            content.hear(0.0, samples, 16_000)
            total += 1
            answered += [(codec, bits, kind)] if content.has_sound(0.0, SECONDS) else []
    assert answered == [], f"of {total}"


def test_dead_pictures_do_not_change(tmp_path: Path) -> None:
    answered, total = [], 0
    for kind, frames in enumerate(_pictures(np.random.default_rng(0))):
        for codec, crf, gop, options in VIDEO_CODECS:
            path, content = tmp_path / "picture.mkv", Content()
            how = {"video_codec": codec, "crf": crf, "gop": gop, "video_options": options}
            encode(path, frames.clip(0, 255).astype(np.uint8), None, **how)
            read = decode(path, duration_s=SECONDS, audio=False, short_side=64).frames
            content.see(0.0, read, 25)
            total += 1
            answered += [(kind, codec, crf)] if content.has_motion(0.0, SECONDS) else []
    assert set(answered) <= KNOWN, f"of {total}"


def test_synthetic_clips_have_an_offset(clips: Manifest) -> None:
    for clip in clips.clips:
        assert not [note for note in check_clip(clip.path).notes if "offset" in note]


@pytest.mark.skipif(not REAL.exists(), reason="the real clips are not beside this checkout")
def test_real_clips_have_an_offset() -> None:
    paths = [*sorted(REAL.glob("events/*.mp4")), *sorted(REAL.glob("talking/others/*.mp4"))]
    paths += sorted(REAL.glob("talking/s1/*.mp4"))[::25]
    refused = []
    for path in paths:
        info = probe(path)
        assert info.audio is not None
        content = Content(info.audio.start_s)
        window = decode(path, duration_s=info.common_s, short_side=64, sample_rate_hz=16_000)
        content.see(0.0, window.frames, 25)
        content.hear(0.0, window.samples, 16_000)
        if not content.has_events(0.0, 0.0, info.common_s) or content.repeating(4.0):
            refused.append(path.name)
    assert refused == [], f"of {len(paths)}"
