"""What CAV-MAE and AVSiam fine-tune with: mixing, smoothing, hiding, balancing, rates, averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import SALT, recipe
from ssl_golden import arrays, check, needs_ssl
from torch import nn

from plugins.classification import ClassificationConfig
from plugins.classification.report import exact_means, precision_by_class
from plugins.classification.task import Classification
from zoo.contracts import Frames, KaldiFbank, LogMel
from zoo.data.augment import Augment
from zoo.data.clip_source import Cut, mix, vary_spectrograms
from zoo.data.frontend import log_fbank, normalise
from zoo.data.manifest import Clip
from zoo.data.sampling import ClipOrder
from zoo.errors import ConfigError
from zoo.evaluation.ranking import accuracy_of_first, d_prime
from zoo.models.config import Component
from zoo.models.model import build_task
from zoo.registry.manager import registry
from zoo.training.kept_weights import Average
from zoo.training.optimise import build_optimizer, rate_factors
from zoo.training.recipe import Stage2Config
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit
from zoo.training.request import TrainRequest, draft_recipe

FBANK = KaldiFbank()
NO_FRAMES = np.zeros((1, 4, 4, 3), np.uint8)


def clip(*labels: str) -> Clip:
    return Clip(Path("a.mp4"), "train", 5.0, 25, 64, 64, 16_000, 1, labels=labels or None)


def task_of(num: int, **settings: Any) -> Classification:
    classes = tuple(f"{k}" for k in range(num))
    config = ClassificationConfig(classes=classes, **settings)
    task = build_task(Component.of(registry().task("classification"), config))
    assert isinstance(task, Classification)
    return task


def wave(suffix: str, length: int) -> np.ndarray:
    return recipe().fake_audio(SALT + suffix, length)


# --- mixing and labels ---


@needs_ssl
def test_waveforms_are_mixed_as_published() -> None:
    """The second clip is filled up or cut; 0.3 of the first."""
    first, second = Cut(wave("", 160_000), NO_FRAMES), Cut(wave("/b", 150_000), NO_FRAMES)
    rows = arrays("frontend")["rows"].astype(np.int64)
    share = float(arrays("frontend")["mix_lambda"])
    for name, (one, other) in {"01": (first, second), "10": (second, first)}.items():
        mixed = torch.from_numpy(mix(one, other, share, share).samples)
        normalised = log_fbank(mixed, FBANK, 10.24).T
        raw = normalised * FBANK.std + FBANK.mean
        check(f"frontend/fbank_mix{name}", raw[torch.from_numpy(rows)], 2e-3)


def test_frames_are_mixed_within_half_a_step_of_a_byte() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (1, 4, 4, 3), dtype=np.uint8) for _ in range(2))
    silence = np.zeros(4, np.float32)
    mixed = mix(Cut(silence, one), Cut(silence, other), 0.5, 0.3).frames
    front = Frames(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    ours, first, second = (normalise(torch.from_numpy(x)[None], front) for x in (mixed, one, other))
    assert float((ours - 0.3 * first - 0.7 * second).abs().max()) <= 0.51 / 255 / 0.224


@needs_ssl
def test_labels_are_smoothed_and_mixed_as_published() -> None:
    task = task_of(8, multi_label=True)
    first, second = (tuple(float(k in wanted) for k in range(8)) for wanted in ({1, 4}, {2}))
    check("frontend/label_eval", first, 0)
    check("frontend/label_smooth", task.soften(first, first, 1.0, 0.1), 1e-7)
    share = float(arrays("frontend")["mix_lambda"])
    check("frontend/label_mix", task.soften(first, second, share, 0.1), 1e-7)


def test_a_class_can_be_smoothed_and_mixed_too() -> None:
    task = task_of(4, multi_label=False)
    assert task.soften(2, 2, 1.0, 0.2) == pytest.approx([0.05, 0.05, 0.8, 0.05])
    assert task.soften(2, 0, 0.75, 0.0) == pytest.approx([0.25, 0, 0.75, 0])
    targets = torch.tensor([task.soften(2, 0, 0.75, 0.0)])
    outputs = torch.tensor([[0.0, 0.0, 9.0, 0.0]])
    assert task.scores(task.sums(outputs, targets))["accuracy"] == 1
    assert task.loss(outputs, targets, 0.0) > task.loss(outputs, torch.tensor([2]), 0.0)


@needs_ssl
def test_rare_classes_are_sampled_as_often_as_published() -> None:
    labels = [(0,), (0, 1), (1, 2), (0,), (2,), (0, 1, 2), (3,)]
    clips = [clip(*map(str, numbers)) for numbers in labels]
    check("metrics/bal_weights", task_of(4, multi_label=True).clip_weights(clips), 1e-9)


def test_balanced_epochs_take_rare_clips_as_often() -> None:
    weights = [1.0] * 9 + [9.0]
    order = ClipOrder(10, seed=3, weights=weights)
    taken = [i for step in range(200) for i in order.of_step(step, 10)]
    assert 0.45 < np.mean(np.array(taken) == 9) < 0.55
    again = ClipOrder(10, seed=3, weights=weights)
    assert again.of_step(37, 10) == taken[370:380]


# --- spectrograms ---


def test_hidden_bands_hold_what_padding_holds() -> None:
    rng = np.random.default_rng(0)
    for front in (FBANK, LogMel()):
        shapes = []
        for _ in range(50):
            mel = torch.full((2, 128, 64), 9.0)
            augment = Augment(mask_bins=48, mask_frames=30)
            hidden = vary_spectrograms(mel, front.filling, augment, rng) != 9
            assert torch.equal(hidden[0], hidden[1])
            rows, columns = hidden[0].all(1).sum(), hidden[0].all(0).sum()
            shapes.append((int(rows), int(columns)))
        assert max(shape[0] for shape in shapes) < 48
        assert max(shape[1] for shape in shapes) < 30
        assert len(set(shapes)) > 25
    assert FBANK.filling == pytest.approx(1.1329126)


def test_noise_and_roll_change_a_spectrogram_as_far_as_they_may() -> None:
    rng = np.random.default_rng(1)
    mel = torch.randn(1, 8, 64)
    noisy = vary_spectrograms(mel.clone(), 0.0, Augment(noise=0.1), rng)
    assert float((noisy - mel).min()) >= 0
    assert 0.001 < float((noisy - mel).max()) < 0.1
    rolled = [vary_spectrograms(mel.clone(), 0.0, Augment(roll=0.25), rng) for _ in range(40)]
    shifts = {next(s for s in range(-32, 33) if torch.equal(mel.roll(s, 2), x)) for x in rolled}
    assert shifts <= set(range(-16, 16))
    assert len(shifts) > 10


# --- optimiser ---


def test_rates_go_by_the_longest_beginning_of_a_name() -> None:
    names = ["encoder.joint.0.weight", "encoder.norm.bias", "head.classifier.weight"]
    assert rate_factors(names, {"encoder": 2, "encoder.joint": 5}) == [5, 2, 1]
    with pytest.raises(ConfigError, match=r"begins with 'haed'.*encoder, head"):
        rate_factors(names, {"haed": 10})


def test_a_head_learns_faster_where_the_recipe_says_so() -> None:
    module = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    config = Stage2Config(
        steps=1, lr=1e-3, warmup_steps=0, schedule="constant", optimizer="adam",
        weight_decay=5e-7, rates={"head": 100},
    )  # fmt: skip
    optimizer = build_optimizer(module, config)
    assert isinstance(optimizer, torch.optim.Adam)
    assert not isinstance(optimizer, torch.optim.AdamW)
    factors = {id(p): g["factor"] for g in optimizer.param_groups for p in g["params"]}
    assert {factors[id(p)] for p in module["head"].parameters()} == {100}
    assert {factors[id(p)] for p in module["encoder"].parameters()} == {1}
    assert all(group["weight_decay"] == 5e-7 for group in optimizer.param_groups)


def test_weights_are_averaged() -> None:
    module, average = nn.Linear(3, 2), Average()
    seen = []
    for _ in range(3):
        nn.init.normal_(module.weight)
        seen.append(module.weight.detach().clone())
        average.add(module)
    average.give(module)
    assert torch.allclose(module.weight, torch.stack(seen).mean(0), atol=1e-7)


@pytest.mark.parametrize(
    ("task", "setting", "sentence"),
    [
        ("offset", "stage2.mixup=0.5", "stage2.mixup needs labels, and the task 'offset'"),
        ("offset", "stage2.balanced=true", "stage2.balanced needs labels"),
        ("classification", "stage2.rates={heads: 9}", "stage2: rates: no parameter"),
        ("classification", "stage2.average_every=100000", "behind the last step"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task: str, setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_fit(
            build_recipe(extractor="cavmae", task=task, preset="tiny", overrides=[setting]), (2,)
        )


def test_what_a_store_cannot_vary_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stage2.mixup changes what is read"):
        build_recipe(
            extractor="ast_motionformer",
            task="classification",
            preset="tiny",
            overrides=["stage2.mixup=0.5"],
        )


# --- recipes ---


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        (encoder, name)
        for encoder, spec in registry().encoders.items()
        for name, recipe in spec.recipes.items()
        if recipe.stage != "all" and recipe.task != "offset"  # those are ours
    ],
)
def test_every_published_recipe_fits_its_encoder(encoder: str, name: str) -> None:
    request = TrainRequest(extractor=encoder, recipe=name, set={"stage2.batch": 32})
    found = draft_recipe(request, 0)
    stage = registry().encoder(encoder).recipes[name].stage
    assert request.stages(found) == (int(stage),)
    assert found.preset == "paper"
    if stage == "1":
        assert found.stage1.clips == 512
        return
    assert found.task.name == "classification"
    assert found.stage2.batch == 32
    assert found.stage2.valid_every > 500


def test_epochs_become_steps_by_the_clips_that_there_are() -> None:
    settings = registry().encoder("cavmae").recipes["as20k"].settings(360)
    assert settings["stage2.steps"] == 150
    assert settings["stage2.decay_from"] == 50
    assert settings["stage2.average_every"] == 10


def test_a_recipe_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="has only as20k, as2m, vggsound"):
        draft_recipe(TrainRequest(extractor="cavmae", recipe="as20"), 0)
    with pytest.raises(ConfigError, match="has none"):
        draft_recipe(TrainRequest(extractor="resnet18_s3d", recipe="as20k"), 0)


# --- metrics ---


@needs_ssl
def test_metrics_of_several_labels_equal_the_stored_ones() -> None:
    scores = torch.from_numpy(arrays("metrics")["ml_scores"])
    truth = torch.from_numpy(arrays("metrics")["ml_targets"]).bool()
    found = precision_by_class(scores, truth, [str(k) for k in range(12)])
    check("metrics/ml_ap", [one["average_precision"] for one in found.values()], 1e-9)
    check("metrics/ml_auc", [one["auc"] for one in found.values()], 1e-9)
    means = exact_means(found)
    check("metrics/ml_map", means["mean_average_precision"], 1e-9)
    check("metrics/ml_mauc", means["mean_auc"], 1e-9)
    check("metrics/ml_dprime", means["d_prime"], 1e-9)
    check("metrics/ml_acc", accuracy_of_first(scores, truth), 1e-9)
    check("metrics/dprime_out", [d_prime(x) for x in arrays("metrics")["dprime_in"]], 1e-9)


@needs_ssl
def test_averages_over_frames_equal_the_stored_ones() -> None:
    outputs = torch.from_numpy(recipe().fake_features(SALT, "met_frames", (10, 120, 15)))
    targets = torch.arange(outputs.shape[1]) % outputs.shape[2]
    rows = torch.arange(len(targets))
    outputs[:, rows, targets] += 1
    outputs *= 3
    accuracy = [float((one.argmax(1) == targets).double().mean()) for one in outputs]
    check("metrics/fr_acc", accuracy, 1e-9)
    for name, settings in {
        "fr_acc_softmax_mean": {"loss": "ce"},
        "fr_acc_sigmoid_mean": {"loss": "ce", "averaged": "sigmoid"},
    }.items():
        task = task_of(15, multi_label=False, **settings)
        mean = task.average(outputs)
        check(f"metrics/{name}", float((mean.argmax(1) == targets).double().mean()), 1e-9)
    accuracy = float((outputs.mean(0).argmax(1) == targets).double().mean())
    check("metrics/fr_acc_logit_mean", accuracy, 1e-9)
    task = task_of(15, multi_label=False, loss="bce")
    is_class = nn.functional.one_hot(targets, 15).bool()
    found = precision_by_class(task.average(outputs), is_class, task.config.classes)
    expected = arrays("metrics")["fr_map_sigmoid_mean"]
    assert exact_means(found)["mean_average_precision"] == pytest.approx(float(expected), abs=1e-6)


def test_binned_scores_are_near_the_exact_ones() -> None:
    task = task_of(5, multi_label=True)
    torch.manual_seed(0)
    targets = (torch.rand(300, 5) < 0.3).float()
    outputs = targets + torch.randn(300, 5)
    binned = task.scores(task.sums(outputs, targets))
    found = precision_by_class(outputs, targets.bool(), task.config.classes)
    for name, value in exact_means(found).items():
        assert binned[name] == pytest.approx(value, abs=0.02)
