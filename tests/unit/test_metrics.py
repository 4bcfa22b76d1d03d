import math

import pytest
import torch

from zoo.evaluation.metrics import chance, score_logits, scores_from, sums_of
from zoo.timeline import OffsetGrid
from zoo.training.stage1 import shifted_window_precision

GRID = OffsetGrid()


def predicting(classes: list[int]) -> torch.Tensor:
    return 10.0 * torch.nn.functional.one_hot(torch.tensor(classes), 21).float()


def test_right_near_and_wrong_are_told_apart() -> None:
    targets = torch.tensor([10, 10, 10, 0])
    scores = score_logits(predicting([10, 11, 15, 20]), targets, GRID)
    assert scores.accuracy == 0.25
    assert scores.within_one == 0.5
    assert scores.mean_abs_error_s == pytest.approx((0 + 0.2 + 1.0 + 4.0) / 4)
    assert scores.num == 4


def test_chance_is_what_guessing_scores() -> None:
    expected = chance(GRID)
    assert expected.accuracy == pytest.approx(1 / 21)
    assert expected.within_one == pytest.approx(0.138, abs=1e-3)
    assert expected.cross_entropy == pytest.approx(math.log(21))
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(40_000, 21, generator=generator)
    targets = torch.randint(21, (40_000,), generator=generator)
    guessed = score_logits(logits, targets, GRID)
    assert guessed.within_one == pytest.approx(expected.within_one, abs=0.01)
    assert guessed.mean_abs_error_s == pytest.approx(expected.mean_abs_error_s, abs=0.02)


def test_flat_logits_have_the_entropy_of_chance() -> None:
    scores = score_logits(torch.zeros(5, 21), torch.arange(5), GRID)
    assert scores.cross_entropy == pytest.approx(math.log(21), rel=1e-6)


def test_the_sums_of_workers_add_up_to_the_score_of_all() -> None:
    logits, targets = torch.randn(30, 21), torch.randint(21, (30,))
    parts = [sums_of(logits[i::3], targets[i::3], GRID) for i in range(3)]
    total = scores_from([sum(column) for column in zip(*parts, strict=True)])
    whole = score_logits(logits, targets, GRID)
    assert total.as_dict() == pytest.approx(whole.as_dict(), rel=1e-5)


def test_shifted_windows_find_equal_segments() -> None:
    tokens = torch.nn.functional.normalize(torch.randn(14, 32), dim=1)
    assert shifted_window_precision(tokens, tokens) == 1.0
    assert shifted_window_precision(tokens, tokens.flip(0)) < 1.0
