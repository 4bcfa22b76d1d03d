"""The pair `onset_motion`: what its maps measure, its clock, and the recipe for it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from plugins.onset_motion.config import MotionCnnConfig, OnsetCnnConfig
from plugins.onset_motion.model import MotionCnn, OnsetCnn, motion_maps
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.cli.app import run
from zoo.contracts import Frames
from zoo.errors import ConfigError
from zoo.inference.load import load_offsets

EXAMPLES = Path(__file__).parents[2] / "demo" / "examples"
CHANGE, POWER, LOG_POWER, LOG_EDGES, ALONG_X, ALONG_Y = range(6)


def film(dx: int = 0, dy: int = 0, frames: int = 6, size: int = 32) -> Tensor:
    """Move a smooth random texture to the right by dx and down by dy pixels a frame."""
    generator = torch.Generator().manual_seed(0)
    texture = torch.randn(1, 1, 16, 16, generator=generator)
    wide = torch.nn.functional.interpolate(texture, size=96, mode="bicubic")[0, 0].clamp(-1, 1)
    starts = [(32 - dy * t, 32 - dx * t) for t in range(frames)]
    planes = torch.stack([wide[y : y + size, x : x + size] for y, x in starts])
    return planes.expand(1, 3, -1, -1, -1)


def test_what_stands_still_has_no_motion() -> None:
    maps = motion_maps(film(), cell=4)
    assert maps.shape == (1, 6, 6, 8, 8)
    for still in (CHANGE, POWER, ALONG_X, ALONG_Y):
        assert maps[:, :, still].abs().max() < 1e-3
    assert maps[:, :, LOG_POWER].std() < 1e-3
    assert maps[:, :, LOG_EDGES].std() > 0.1


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_products_tell_where_to_something_moves(dx: int, dy: int) -> None:
    maps = motion_maps(film(dx, dy), cell=4).mean(dim=(0, 1, 3, 4))
    along, across = (maps[ALONG_X], maps[ALONG_Y]) if dx else (maps[ALONG_Y], maps[ALONG_X])
    assert along.sign() == -(dx + dy)  # brightness falls where a bright edge comes from the left
    assert along.abs() > 3 * across.abs()


def test_faster_motion_is_more_motion() -> None:
    slow, fast = (motion_maps(film(dx), cell=4)[:, :, POWER].mean() for dx in (1, 3))
    assert fast > 1.5 * slow


def test_contrast_and_brightness_do_not_matter() -> None:
    moving = film(1)
    other = 0.5 * moving + 0.2
    torch.testing.assert_close(motion_maps(other, 4), motion_maps(moving, 4), atol=1e-4, rtol=1e-4)


def test_maps_are_exact_in_mixed_precision() -> None:
    moving = film(1)
    with torch.autocast("cpu", torch.bfloat16):
        maps = motion_maps(moving, 4)
    assert torch.equal(maps, motion_maps(moving, 4))


def test_the_start_of_a_segment_is_no_event() -> None:
    maps = motion_maps(film(1), cell=4)
    assert torch.equal(maps[:, 0], maps[:, 1])
    config = OnsetCnnConfig()
    onset = OnsetCnn(config).eval()
    with torch.no_grad():
        tokens = onset(torch.full((1, 64, 66), 0.3))[0, :, 0]  # (T, D)
    torch.testing.assert_close(tokens[4:-4], tokens[4:5].expand(8, -1))


def test_clocks() -> None:
    motion, onset = MotionCnnConfig().feature_map(), OnsetCnnConfig().feature_map()
    assert motion.times_s[:3] == (0.0, 0.04, 0.08)
    assert onset.times_s[:2] == (0.015, 0.055)
    assert (motion.steps, motion.positions, onset.steps, onset.positions) == (16, 16, 16, 1)
    features = MotionCnn(MotionCnnConfig()).eval()(torch.zeros(1, 3, 16, 64, 64))
    assert features.shape == (1, 16, 16, 64)


def test_what_they_cannot_take_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"one frame does not move"):
        MotionCnnConfig(segment_s=0.04).feature_map()
    with pytest.raises(ConfigError, match=r"cannot cut 64 pixels into cells of 5"):
        MotionCnnConfig(cell=5).feature_map()
    with pytest.raises(ConfigError, match=r"needs 4 whole ones across"):
        MotionCnnConfig(frontend=Frames(size=8, short_side=8)).feature_map()
    with pytest.raises(ConfigError, match=r"onset_cnn cannot take segments of 0\.01 s"):
        OnsetCnnConfig(segment_s=0.01).feature_map()


@pytest.mark.usefixtures("in_process")
def test_the_recipe_trains_both_from_the_start(tmp_path: Path) -> None:
    config = SyntheticConfig(kind="film", size=72, seconds=9.0, difficulty="easy")
    clips = render_folder(tmp_path / "film", config, 6, {"train": 0.67, "valid": 0.33}, workers=1)
    few = {"stage2.steps": 2, "stage2.batch": 2, "stage2.valid_rounds": 1}
    words = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    given = ["--extractor", "onset_motion", "--recipe", "film_tiny"]
    data = ["--data", str(tmp_path / "film" / "manifest.parquet")]
    assert run(["train", *given, *data, "--out", str(tmp_path / "run"), *words]) == 0
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()
    assert run(["predict", str(tmp_path / "run"), str(clips.clips[0].path)]) == 0


@pytest.mark.parametrize(("clip", "offset_s"), [("early", 0.6), ("in-sync", 0.0)])
def test_the_shipped_model_knows_sparse_clips_too(clip: str, offset_s: float) -> None:
    found = load_offsets("tiny-film").predict(EXAMPLES / f"{clip}.mp4")
    assert found.offset_s == pytest.approx(offset_s)
    assert found.confidence > 0.8


def test_the_shipped_model_is_unsure_of_foreign_sound() -> None:
    assert load_offsets("tiny-film").predict(EXAMPLES / "foreign-sound.mp4").confidence < 0.6
