"""How frames are resized: as FFmpeg does, and as the loaders of published weights do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden import SALT, recipe
from ssl_golden import arrays, check, needs_ssl, read_frames

from plugins.avsiam.config import AvsiamConfig
from plugins.cavmae.config import CavMaeConfig
from zoo.attribution.crops import Crop, mean_of
from zoo.contracts import Frames, LogMel, Resize
from zoo.data.clip_reader import ClipReader
from zoo.media import decode, encode
from zoo.media.resize import resize_frame
from zoo.registry.manager import registry

CAVMAE, AVSIAM = CavMaeConfig().vision_frontend, AvsiamConfig().vision_frontend


@needs_ssl
def test_frames_of_cavmae_equal_the_published_ones() -> None:
    frames = []
    for number, (suffix, height, width) in enumerate((("", 256, 343), ("/b", 180, 320))):
        given = recipe().fake_video(SALT + suffix, frames=1, height=height, width=width)
        frames.append(read_frames(given, CAVMAE)[:, 0].numpy())
        check(f"frontend/img{number}_slice", frames[-1][:, ::31, ::7], 1e-5)
        check(f"frontend/img{number}_mean", frames[-1].mean((1, 2), dtype=np.float64), 1e-5)
    check("frontend/imgmix_slice", (0.3 * frames[0] + 0.7 * frames[1])[:, ::31, ::7], 1e-5)


@needs_ssl
def test_frames_of_avsiam_equal_the_published_ones() -> None:
    """Ten frames of a clip, the aspect lost, beyond what a uint8 image could hold."""
    file = "avsiam_finetune"
    index = arrays(file)["frame_index"]
    starts = [np.linspace(start, 63, 10).astype(int) for start in range(31)]
    assert np.array_equal(index, starts)
    clip = recipe().fake_video(SALT, frames=64, height=120, width=160)
    frames = read_frames(clip[index[3]], AVSIAM).transpose(0, 1).numpy()
    check(f"{file}/img_frames_slice", frames[[0, 3, 6, 9]][:, :, ::31, ::7], 1e-4)
    check(f"{file}/img_frames_mean", frames.mean((2, 3), dtype=np.float64), 1e-5)
    mean, std = (np.array(values)[:, None, None] for values in (AVSIAM.mean, AVSIAM.std))
    pixels = frames * std + mean
    overshoot = ((pixels < -1e-6) | (pixels > 1 + 1e-6)).mean((0, 2, 3))
    check(f"{file}/img_overshoot", overshoot, 1e-4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = np.random.default_rng(0).integers(0, 255, (10, 12, 16, 3), np.uint8)
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    encode(path, frames.repeat(4, 1).repeat(4, 2), np.zeros(6400, np.float32))
    return path


@pytest.mark.parametrize(
    ("how", "shape", "dtype"),
    [
        ("ffmpeg", (24, 32), np.uint8),
        ("bicubic_uint8", (24, 32), np.uint8),
        ("bicubic_square", (24, 24), np.float32),
    ],
)
def test_a_clip_is_decoded_and_resized_as_asked(
    clip: Path, how: Resize, shape: tuple[int, int], dtype: type
) -> None:
    window = decode(clip, duration_s=0.2, short_side=24, resize=how)
    assert window.frames is not None
    assert (window.frames.shape, window.frames.dtype) == ((5, *shape, 3), dtype)
    native = decode(clip, duration_s=0.2, resize=how).frames
    assert native is not None
    assert native.shape == (5, 48, 64, 3)
    assert native.dtype == np.uint8
    if how != "ffmpeg":
        wanted = [resize_frame(frame, 24, how) for frame in native]
        assert np.array_equal(window.frames, wanted)


@pytest.mark.parametrize("how", ["bicubic_uint8", "bicubic_square"])
def test_a_cached_clip_is_resized_as_one_that_is_read(
    clip: Path, how: Resize, tmp_path: Path
) -> None:
    vision = Frames(size=24, short_side=24, resize=how)
    plain = ClipReader(vision, LogMel())
    for reader in (
        ClipReader(Frames(size=24, short_side=24), LogMel(), tmp_path),  # writes the cache
        ClipReader(vision, LogMel(), tmp_path),
    ):
        reader.read_vision(clip, 0.0, 0.2)
    again = ClipReader(vision, LogMel(), tmp_path).read_vision(clip, 0.0, 0.2)
    assert np.array_equal(again, plain.read_vision(clip, 0.0, 0.2))


def test_a_frame_of_the_right_size_stays_as_it_is() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    for how in ("bicubic_uint8", "bicubic_square"):
        assert np.allclose(resize_frame(frame, 24, how), frame, atol=1e-4)  # type: ignore[arg-type]


def test_the_mean_of_frames_beyond_0_to_255_does_not_wrap_around() -> None:
    crop = Crop(np.full((2, 4, 4, 3), -3.0, np.float32), np.zeros(8, np.float32))
    assert (mean_of(crop).frames == -3).all()


def test_what_earlier_versions_wrote_keeps_its_front_end_and_its_hash() -> None:
    written = {"kind": "frames", "fps": 25.0, "size": 48, "short_side": 56, "mean": 0.5, "std": 0.5}
    frames = Frames.model_validate(written)
    assert frames.resize == "ffmpeg"
    assert frames.model_dump(mode="json") == written
    other = Frames(resize="bicubic_square").model_dump(mode="json")
    assert Frames.model_validate(other).resize == "bicubic_square"


def test_published_sizes_read_as_published_and_tiny_ones_as_before() -> None:
    assert (CAVMAE.resize, AVSIAM.resize) == ("bicubic_uint8", "bicubic_square")
    assert all(
        registry().encoder(name).presets["tiny"].vision_frontend.resize == "ffmpeg"
        for name in ("cavmae", "avsiam")
    )
