import json
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, MediaError
from zoo.inference.estimate import certainty
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.media import encode
from zoo.models.model import Model
from zoo.training.recipe_builder import build_recipe


@pytest.fixture(scope="module")
def predictor(model: Model) -> OffsetPredictor:
    return OffsetPredictor(model, "untrained")


def test_a_prediction_is_a_distribution_with_words(
    predictor: OffsetPredictor, clips: Manifest
) -> None:
    prediction = predictor.predict(clips.clips[0].path)
    assert len(prediction.distribution) == 21
    assert sum(prediction.distribution.values()) == pytest.approx(1.0, abs=1e-5)
    assert prediction.probability == max(prediction.distribution.values())
    assert prediction.distribution[prediction.offset_s] == prediction.probability
    assert "sync" in prediction.meaning or "repair" in prediction.meaning
    assert prediction.low_confidence is None
    json.dumps(prediction.as_dict())


def test_every_crop_of_the_clip_is_heard(predictor: OffsetPredictor, clips: Manifest) -> None:
    windows = predictor.predict(clips.clips[0].path).windows
    assert [window.start_s for window in windows] == [round(0.32 * i, 6) for i in range(14)]
    assert all(0 < window.probability <= 1 for window in windows)


def test_long_clips_are_read_in_blocks_without_a_seam(
    predictor: OffsetPredictor, clips: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predictor.predict(clips.clips[1].path)
    monkeypatch.setattr("zoo.data.frontend.BLOCK_SEGMENTS", 5)
    blocks = predictor.predict(clips.clips[1].path)
    assert list(blocks.distribution.values()) == pytest.approx(
        list(whole.distribution.values()), abs=1e-4
    )


def test_a_clip_shorter_than_the_crop_is_an_error(
    predictor: OffsetPredictor, tmp_path: Path
) -> None:
    frames = np.full((50, 64, 64, 3), 90, np.uint8)
    samples = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    encode(tmp_path / "short.mp4", frames, samples)
    with pytest.raises(MediaError, match=r"short\.mp4 is too short: .* looks at 4\.8 s"):
        predictor.predict(tmp_path / "short.mp4")


def test_a_model_folder_loads_by_its_path(model_folder: Path, clips: Manifest) -> None:
    prediction = zoo.load(str(model_folder)).predict(str(clips.clips[2].path))
    assert prediction.model == str(model_folder)


def test_bf16_answers_alike(clips: Manifest) -> None:
    path = clips.clips[0].path
    full = zoo.load("tiny-synthetic").predict(path)
    rough = zoo.load("tiny-synthetic", precision="bf16").predict(path)
    assert rough.offset_s == full.offset_s
    assert rough.distribution != full.distribution
    assert rough.distribution == pytest.approx(full.distribution, abs=0.05)
    assert rough.synchronizability == pytest.approx(full.synchronizability, abs=0.05)


def test_a_window_without_an_event_has_little_to_say() -> None:
    uniform = torch.full((1, 21), 1 / 21)
    sure = torch.nn.functional.one_hot(torch.tensor([3]), 21).float()
    weights = certainty(torch.cat([uniform, sure]))
    assert float(weights[0]) == pytest.approx(1e-3)
    assert float(weights[1]) == pytest.approx(1.0, abs=1e-5)


def test_a_model_that_knows_no_offsets_is_refused(model: Model) -> None:
    config = build_recipe(
        extractor="ast_motionformer", head="synchronizability", preset="tiny"
    ).model
    for unfit, reason in (
        (Model(config), "can be synchronized, not by how much"),
        (Model(config.model_copy(update={"head": None})), "has no head yet"),
    ):
        with pytest.raises(ConfigError, match=reason):
            OffsetPredictor(unfit, "unfit")


def test_a_device_that_is_not_there_is_one_sentence(model: Model) -> None:
    with pytest.raises(ConfigError, match="device cuda:77 cannot be used"):
        OffsetPredictor(model, "untrained", "cuda:77")
