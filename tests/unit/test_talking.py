"""The shipped model of a talking face, on people it has never seen."""

from pathlib import Path

import pytest

import zoo
from zoo.errors import RepairError
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.repair import repair

OTHERS = Path(__file__).parents[3] / "shared/real/talking/others"
DRAWN = Path(__file__).parents[2] / "demo/examples/early.mp4"
FRAME_S = 0.04


@pytest.fixture(scope="module")
def talking() -> OffsetPredictor:
    return zoo.load("tiny-talking")


@pytest.mark.skipif(not OTHERS.is_dir(), reason="the GRID sentences are not beside this checkout")
def test_people_it_has_never_seen_are_in_sync_to_a_frame(talking: OffsetPredictor) -> None:
    predictions = [talking.predict(path) for path in sorted(OTHERS.glob("*.mp4"))]
    right = [abs(found.refined_s) <= FRAME_S for found in predictions]
    assert len(right) == 14
    assert sum(right) >= 13
    sure = [ok for found, ok in zip(predictions, right, strict=True) if found.confidence > 0.7]
    assert len(sure) >= 12
    assert all(sure)


def test_a_drawn_clip_is_unlike_all_that_it_knows(talking: OffsetPredictor, tmp_path: Path) -> None:
    found = talking.predict(DRAWN)
    assert found.unfamiliarity is not None
    assert found.unfamiliarity > 1
    with pytest.raises(RepairError, match="is not repaired"):
        repair(talking, DRAWN, tmp_path / "fixed.mp4")
