import math

import numpy as np
import pytest
import torch

from plugins.segment_avclip.model import shifted_window_precision
from zoo.evaluation.bootstrap import interval, mean_intervals
from zoo.evaluation.offset_metrics import chance, score_logits, scores_from, sums_of
from zoo.evaluation.ranking import published_metrics, roc_auc, roc_curve
from zoo.timeline import OffsetGrid

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


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    scores, is_positive = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    assert roc_auc(scores, is_positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    doubled = np.array([0, 2, 1, 1])
    repeated = np.repeat(np.arange(4), doubled)
    assert roc_auc(scores, is_positive, doubled) == roc_auc(scores[repeated], is_positive[repeated])
    false_rate, true_rate = roc_curve(scores, is_positive)
    assert roc_auc(scores, scores > 0) == roc_auc(scores, scores < 0) == 0.5
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)


def test_a_missing_class_leaves_the_ranking_metrics_empty() -> None:
    metrics = published_metrics(torch.randn(20, 21), torch.zeros(20, dtype=torch.long))
    assert metrics["mean_average_precision"] == metrics["d_prime"] == 0.0
    assert metrics["roc_auc"] == 0.5


def test_a_perfect_ranking_has_no_finite_d_prime() -> None:
    metrics = published_metrics(predicting(list(range(21))), torch.arange(21))
    assert metrics["accuracy_1"] == metrics["roc_auc"] == metrics["mean_average_precision"] == 1.0
    assert metrics["d_prime"] is None


def test_the_interval_is_as_wide_as_clips_differ() -> None:
    clips = np.repeat(np.arange(50), 20)
    by_clip = np.repeat(np.arange(50) % 2, 20)  # a clip is right in every round or in none
    by_sample = np.arange(1000) % 2  # every clip is right half the time
    wide = mean_intervals({"x": by_clip}, clips, 0)
    narrow = mean_intervals({"x": by_sample}, clips, 0)
    assert wide is not None
    assert narrow is not None
    low, high = wide["x"]
    assert 0.3 < low < 0.42
    assert 0.58 < high < 0.7
    assert narrow["x"] == pytest.approx((0.5, 0.5))
    assert mean_intervals({"x": by_clip}, clips, 0) == wide
    assert mean_intervals({"x": by_clip[:20]}, clips[:20], 0) is None


def test_an_interval_of_any_score_agrees_with_that_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    values, clips = rng.random(300), np.repeat(np.arange(100), 3)
    mean = mean_intervals({"x": values}, clips, 4)
    assert mean is not None
    assert interval(lambda w: float(w @ values / w.sum()), clips, 4) == pytest.approx(mean["x"])
