"""What the task offset says about itself."""

import math

import pytest

from zoo.models.config import Component
from zoo.models.model import build_task


@pytest.mark.parametrize(
    ("within_one", "loss", "num", "expected"),
    [
        (0.14, math.log(21), 400, False),
        (0.60, 2.2, 400, True),
        (0.14, 2.8, 400, True),
        (0.00, 2.8, 1, False),  # one lucky or unlucky sample says nothing
    ],
)
def test_chance_is_left_only_on_evidence(
    within_one: float, loss: float, num: int, expected: bool
) -> None:
    scores = {"accuracy": 0.05, "within_one": within_one, "cross_entropy": loss, "num": num}
    assert build_task(Component(name="offset")).has_left_chance(scores) is expected
