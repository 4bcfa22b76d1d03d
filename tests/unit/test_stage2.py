"""What stage II says about itself."""

import math

import pytest
from zoo.training.goal import OffsetGoal

from zoo.evaluation.offset_metrics import OffsetScores
from zoo.training.recipe import build_recipe


@pytest.mark.parametrize(
    ("within_one", "loss", "num", "expected"),
    [
        (0.14, math.log(21), 400, False),
        (0.60, 2.2, 400, True),
        (0.14, 2.8, 400, True),
        (0.00, 2.8, 1, False),  # one lucky or unlucky draw says nothing
    ],
)
def test_plateau_is_left_only_on_evidence(
    within_one: float, loss: float, num: int, expected: bool
) -> None:
    recipe = build_recipe(extractor="ast_motionformer", head="sync", preset="tiny")
    scores = OffsetScores(0.05, within_one, 1.0, loss, num)
    assert OffsetGoal(recipe.model.grid).has_left_plateau(scores) is expected
