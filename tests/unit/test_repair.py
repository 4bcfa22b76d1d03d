"""When a repair is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import zoo
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, MediaError, RepairError
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.prediction import Prediction
from zoo.inference.repair import doubts, is_worse, repair
from zoo.inference.synchronizability import SynchronizabilityPredictor
from zoo.inference.windows import find_streams
from zoo.media import shift_audio
from zoo.models.model import Model
from zoo.training.recipe_builder import build_recipe


@pytest.fixture(scope="module")
def shipped() -> OffsetPredictor:
    return zoo.load("tiny-synthetic")


@pytest.fixture(scope="module")
def late(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("late") / "late.mp4"
    shift_audio(clips.clips[1].path, path, 0.8)
    return path


@pytest.fixture(scope="module")
def prediction(shipped: OffsetPredictor, late: Path) -> Prediction:
    return shipped.predict(late)


@pytest.fixture(scope="module")
def untrained() -> SynchronizabilityPredictor:
    """An untrained synchronizability model."""
    torch.manual_seed(0)
    recipe = build_recipe(extractor="ast_motionformer", head="synchronizability", preset="tiny")
    return SynchronizabilityPredictor(Model(recipe.model), "untrained")


def test_a_sure_prediction_raises_no_doubts(prediction: Prediction) -> None:
    assert doubts(prediction, 0.8) == []


def test_every_doubt_is_named(prediction: Prediction) -> None:
    [unsure] = doubts(replace(prediction, confidence=0.3), 0.8)
    assert "only 30% sure" in unsure
    assert "80% are asked for" in unsure
    [apart] = doubts(replace(prediction, synchronizability=0.2), 0.8)
    assert "cannot be synchronized (probability that they can: 0.20)" in apart
    stretch = prediction.over_time.stretches[0]
    twice = replace(prediction.over_time, stretches=[stretch, stretch], meaning="0 s, then 1 s")
    [changes] = doubts(replace(prediction, over_time=twice), 0.8)
    assert changes == "no single shift can repair an offset that changes: 0 s, then 1 s"


def test_worse_is_clearly_further_off(prediction: Prediction) -> None:
    before, after = replace(prediction, refined_s=0.01), replace(prediction, refined_s=0.03)
    assert not is_worse(before, after, 0.2)
    assert is_worse(before, replace(prediction, refined_s=-0.4), 0.2)
    far = replace(prediction, refined_s=-1.65)
    assert not is_worse(far, replace(prediction, refined_s=0.15), 0.2)
    assert is_worse(far, replace(prediction, refined_s=1.6), 0.2)  # one of the two is wrong


def test_a_copy_that_measures_worse_is_not_kept_unless_forced(
    shipped: OffsetPredictor, late: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "zoo.inference.repair.shift_audio",
        lambda path, out, delay_s: shift_audio(path, out, -delay_s),
    )
    with pytest.raises(RepairError, match=r"sees an offset of -1\.59"):
        repair(shipped, late, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
    done = repair(shipped, late, tmp_path / "out.mp4", force=True)
    assert len(done.warnings) == 1


def test_a_copy_that_cannot_be_measured_is_not_kept_unless_forced(
    shipped: OffsetPredictor, late: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncated(path: Path, out: Path, delay_s: float) -> None:
        out.write_bytes(late.read_bytes()[:2000])

    monkeypatch.setattr("zoo.inference.repair.shift_audio", truncated)
    with pytest.raises(RepairError, match=r"could not be measured: .*out\.mp4 is cut short"):
        repair(shipped, late, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
    done = repair(shipped, late, tmp_path / "out.mp4", force=True)
    assert done.residue_s is None
    assert done.warnings[0].startswith("the copy could not be measured: ")


def test_a_failed_write_leaves_nothing(
    shipped: OffsetPredictor, late: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, out: Path, delay_s: float) -> None:
        out.write_text("half")
        raise MediaError("disk full")

    monkeypatch.setattr("zoo.inference.repair.shift_audio", fail)
    with pytest.raises(MediaError, match="disk full"):
        repair(shipped, late, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_a_second_model_says_whether_a_clip_can_be_synchronized(
    shipped: OffsetPredictor, untrained: SynchronizabilityPredictor, late: Path
) -> None:
    probability = untrained.probability(find_streams(late))
    assert 0 < probability < 1
    alone = OffsetPredictor(shipped.model, "alone").predict(late, every_s=2.0)
    assert alone.synchronizability is None
    both = OffsetPredictor(shipped.model, "both", synchronizability=untrained).predict(
        late, every_s=2.0
    )
    assert both.synchronizability is not None
    assert both.can_be_synchronized == (both.synchronizability >= 0.25)
    with pytest.raises(ConfigError, match="'offsets' does not say whether"):
        SynchronizabilityPredictor(shipped.model, "offsets")


def test_the_catalog_names_the_second_model(shipped: OffsetPredictor, late: Path) -> None:
    assert shipped.synchronizability is not None
    assert shipped.synchronizability.name == "tiny-synthetic-trust"
    both = shipped.predict(late)
    alone = zoo.load("tiny-synthetic", synchronizability="none").predict(late)
    assert replace(both, synchronizability=None) == alone
    again = shipped.synchronizability.probability(
        find_streams(late)
    )  # encodes the segments once more
    assert both.synchronizability == pytest.approx(again, abs=0.02)


@pytest.mark.parametrize(
    ("probability", "verdict"),
    [
        (0.9, "sound and picture can be synchronized"),
        (0.4, "it is not clear whether sound and picture can be synchronized"),
        (0.1, "sound and picture cannot be synchronized"),
        (None, ""),
    ],
)
def test_a_verdict_has_words(
    shipped: OffsetPredictor, late: Path, probability: float | None, verdict: str
) -> None:
    prediction = shipped.predict(late, every_s=4.0)
    assert replace(prediction, synchronizability=probability).verdict == verdict
