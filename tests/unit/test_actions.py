"""The task actions: one verb and one noun per clip."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plugins.actions import ActionsConfig
from plugins.actions.task import Actions
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.cli.app import run
from zoo.data.manifest import Clip, Manifest
from zoo.errors import TrainingError
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.report import evaluate
from zoo.evaluation.report_files import report_tables
from zoo.models.config import Component
from zoo.models.model import build_task
from zoo.registry.manager import registry
from zoo.timeline import Placement, SegmentLayout
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.recipe_builder import build_recipe
from zoo.training.request import TrainRequest, draft_recipe

PLACE = Placement(SegmentLayout(), 0.32, 0.04)


def clip(*labels: str) -> Clip:
    return Clip(Path("a.mp4"), "train", 5.0, 25, 64, 64, 16_000, 1, labels=labels or None)


CLIPS = [
    clip("verb:open", "noun:door"),
    clip("noun:tap", "verb:open"),
    clip("verb:close", "noun:door"),
    clip("verb:open", "noun:door"),
]


def task_of(clips: list[Clip], **settings: Any) -> Actions:
    spec = registry().task("actions")
    assert spec.fit is not None
    config = spec.fit(spec.config_class.model_validate(settings), clips)
    task = build_task(Component.of(spec, config))
    assert isinstance(task, Actions)
    return task


def targets_of(task: Actions, clips: list[Clip]) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return task.collate([task.sample(rng, i, c, 5.0, PLACE).target for i, c in enumerate(clips)])


def test_verbs_and_nouns_come_from_the_training_clips() -> None:
    task = task_of(CLIPS)
    assert task.config.classes == ("verb:close", "verb:open", "noun:door", "noun:tap")
    assert task.config.shares == (0.25, 0.75, 0.75, 0.25)
    assert (task.num_outputs, task.sizes) == (4, [2, 2])
    assert targets_of(task, CLIPS).tolist() == [[1, 0], [1, 1], [0, 0], [1, 0]]


def test_chance_always_says_what_is_commonest() -> None:
    chance = task_of(CLIPS).chance
    assert (chance["verb_accuracy"], chance["noun_accuracy"]) == (0.75, 0.75)
    assert chance["action_accuracy"] == 0.5  # open door
    assert chance["cross_entropy"] == pytest.approx(
        -0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-6
    )


def test_an_action_is_right_if_verb_and_noun_are() -> None:
    task = task_of(CLIPS)
    outputs = torch.tensor(
        [[0.0, 9, 9, 0], [0, 9, 9, 0], [0, 9, 9, 0], [9, 0, 0, 9]]  # open door x 3, close tap
    )
    scores = task.scores(task.sums(outputs, targets_of(task, CLIPS)))
    assert scores["verb_accuracy"] == scores["noun_accuracy"] == 0.5
    assert scores["action_accuracy"] == 0.25
    assert scores["num"] == 4


def test_the_loss_is_the_mean_of_two_cross_entropies() -> None:
    task = task_of(CLIPS)
    outputs = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    targets = targets_of(task, CLIPS)
    logs = [part.log_softmax(1) for part in outputs.split(2, dim=1)]
    wanted = -torch.stack(
        [(logs[0][i, v] + logs[1][i, n]) / 2 for i, (v, n) in enumerate(targets.tolist())]
    ).mean()
    assert torch.isclose(task.loss(outputs, targets, 0.0), wanted)


def test_labels_are_mixed_among_verbs_and_among_nouns() -> None:
    task = task_of(CLIPS)
    mixed = task.soften((0, 0), (1, 0), 0.7, 0.1)
    assert mixed == pytest.approx((0.05 + 0.63, 0.05 + 0.27, 0.05 + 0.9, 0.05))
    assert task.soften((0, 1), (0, 1), 1.0, 0.0) == (1.0, 0.0, 0.0, 1.0)


def test_labels_of_a_batch_are_smoothed_among_verbs_and_among_nouns() -> None:
    task = task_of(CLIPS)
    labels = task.labels_of(targets_of(task, CLIPS[:2]))
    verbs, nouns = task.smooth(labels, 0.2).split(task.sizes, dim=-1)
    assert torch.allclose(verbs.sum(1), torch.ones(2))
    assert torch.allclose(nouns.sum(1), torch.ones(2))
    assert torch.allclose(verbs[0].sort().values, torch.tensor([0.1, 0.9]))


def test_rare_verbs_and_nouns_weigh_more() -> None:
    assert task_of(CLIPS).clip_weights(CLIPS) == pytest.approx([2 / 3, 4 / 3, 4 / 3, 2 / 3])


@pytest.mark.parametrize(
    "labels",
    [
        (),
        ("verb:open",),
        ("noun:door",),
        ("verb:open", "door"),
        ("verb:open", "verb:close", "noun:door"),
        ("verb:fry", "noun:door"),
        ("verb:open", "noun:egg"),
    ],
)
def test_a_clip_without_one_known_verb_and_noun_is_left_out(labels: tuple[str, ...]) -> None:
    assert not task_of(CLIPS).accepts(clip(*labels))
    assert task_of(CLIPS).accepts(clip("noun:door", "verb:open", "loud"))


@pytest.mark.parametrize(
    ("clips", "sentence"),
    [
        ([clip("open", "door")], "not one training clip of the manifest has one of each"),
        ([CLIPS[0], CLIPS[0]], "all training clips show one action, verb:open noun:door"),
    ],
)
def test_clips_without_anything_to_tell_apart_are_refused(clips: list[Clip], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        task_of(clips)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"classes": ("verb:a", "noun:b", "verb:c")}, "all verbs before the nouns"),
        ({"classes": ("verb:a", "b")}, "begins with neither verb: nor noun:"),
        ({"classes": ("verb:a", "verb:a")}, "a name twice"),
        ({"classes": ("verb:a", "noun:a"), "shares": (1.0,)}, "1 shares for 2 classes"),
    ],
)
def test_classes_that_make_no_sense_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ActionsConfig.model_validate(settings)


def test_a_prediction_names_actions(tmp_path: Path) -> None:
    task = task_of(CLIPS)
    outputs = torch.tensor([[0.0, 2, 3, 0], [0.0, 2, 3, 0]])
    answer = task.answer(outputs, [0.0, 0.32], 4.8)
    assert answer.words[0] == "open door (probability 0.84)"
    assert len(answer.words) == 4
    first = answer.facts["actions"][0]
    assert (first["verb"], first["noun"]) == ("open", "door")
    assert first["probability"] == pytest.approx(1 / (1 + math.exp(-2)) / (1 + math.exp(-3)))
    assert [verb["label"] for verb in answer.facts["verbs"]] == ["open", "close"]


def test_readings_are_averaged_as_probabilities() -> None:
    task = task_of(CLIPS)
    readings = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    verbs, nouns = task.average(readings).split(2, dim=1)
    assert torch.allclose(verbs.softmax(1), readings[..., :2].softmax(2).mean(0))
    assert torch.allclose(nouns.softmax(1), readings[..., 2:].softmax(2).mean(0))


def test_a_recipe_for_actions_takes_the_linear_head() -> None:
    recipe = build_recipe(extractor="ast_motionformer", preset="tiny", task="actions")
    assert recipe.model.head is not None
    assert recipe.model.head.name == "linear"


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Sixteen clips whose look plays the verb and whose timbre plays the noun."""
    folder = tmp_path_factory.mktemp("kitchen") / "clips"
    shares = {"train": 0.5, "valid": 0.25, "test": 0.25}
    config = SyntheticConfig(kind="multilabel", seed=5, seconds=5.0)
    rendered = render_folder(folder, config, 16, shares, workers=1)
    clips = []
    for each in rendered.clips:
        look, timbre = each.all_labels
        clips.append(
            replace(each, label=None, labels=(f"verb:{look}", f"noun:{timbre}"), events=None)
        )
    verbs, nouns = (sorted({c.all_labels[i] for c in clips}) for i in (0, 1))
    Manifest(tuple(clips), folder, (*verbs, *nouns)).write(folder / "manifest.parquet")
    return Manifest.read(folder / "manifest.parquet")


def test_a_model_is_trained_evaluated_and_asked(
    kitchen: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = kitchen.folder / "manifest.parquet"
    small = {
        "layout.num_segments": "4",
        "stage2.steps": "6",
        "stage2.batch": "4",
        "stage2.valid_every": "3",
        "stage2.label_smoothing": "0.1",
        "stage2.balanced": "true",
    }
    asked = TrainRequest(
        extractor="ast_motionformer", task="actions", data=str(data), preset="tiny", set=small
    )
    recipe = draft_recipe(asked, 0)
    task = recipe.model.task_config()
    assert isinstance(task, ActionsConfig)
    assert task.classes == kitchen.classes
    job = Job(recipe, data, tmp_path / "run", (2,))
    job.run.mkdir()
    run_job(LocalEngine(tmp_path / "checkpoints"), job)

    evaluation = evaluate(Request(model=str(job.run), data=data, split="valid", rounds=1))
    scores, *tables = report_tables(evaluation)
    assert scores.header == ["", "action", "verb", "noun", "cross-entropy"]
    assert [row[0] for row in scores.rows][-1] == "chance"
    assert [table.title for table in tables] == ["Verbs", "Nouns"]
    report = evaluation.report
    assert set(report["interval"]) == {"action_accuracy", "verb_accuracy", "noun_accuracy"}
    assert set(report["verbs"]) <= {name.removeprefix("verb:") for name in kitchen.classes}

    assert run(["predict", str(job.run), str(kitchen.clips[0].path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = facts[0] if isinstance(facts, list) else facts
    assert {"actions", "verbs", "nouns"} <= set(found)
    assert sum(verb["probability"] for verb in found["verbs"]) == pytest.approx(1)
