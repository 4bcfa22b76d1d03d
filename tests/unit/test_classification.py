"""The task classification and the linear head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plugins.classification import ClassificationConfig
from plugins.classification.task import Classification
from plugins.linear.model import LinearHead
from zoo.contracts import FeatureMap, HeadInput
from zoo.data.manifest import Clip, Manifest
from zoo.errors import TrainingError
from zoo.evaluation.ranking import average_precision
from zoo.models.config import Component
from zoo.models.model import build_task
from zoo.models.segments import Tokens
from zoo.registry.manager import registry
from zoo.timeline import Placement, SegmentLayout
from zoo.training.recipe_builder import build_recipe
from zoo.training.request import TrainRequest, draft_recipe


def clip(*labels: str) -> Clip:
    return Clip(Path("a.mp4"), "train", 5.0, 25, 64, 64, 16_000, 1, labels=labels or None)


def task_of(clips: list[Clip], **settings: Any) -> Classification:
    spec = registry().task("classification")
    assert spec.fit is not None
    config = spec.fit(spec.config_class.model_validate(settings), clips)
    task = build_task(Component.of(spec, config))
    assert isinstance(task, Classification)
    return task


def test_classes_and_chance_come_from_the_training_clips() -> None:
    task = task_of([clip("b"), clip("a"), clip("a"), clip("a")])
    assert task.config.classes == ("a", "b")
    assert task.config.shares == (0.75, 0.25)
    assert not task.is_multi_label
    assert task.chance["accuracy"] == 0.5
    assert task.chance["cross_entropy"] == pytest.approx(0.5623, abs=1e-4)


def test_the_classes_of_a_manifest_keep_their_order_unless_others_are_named(
    tmp_path: Path,
) -> None:
    clips = [replace(clip(name), path=tmp_path / f"{name}.mp4") for name in "cab"]
    clips[0].path.touch()
    Manifest(tuple(clips), tmp_path, ("c", "unseen", "b", "a")).write(tmp_path / "m.parquet")
    asked = TrainRequest(
        extractor="ast_motionformer", task="classification", data=str(tmp_path / "m.parquet")
    )

    def classes(**settings: Any) -> Any:
        return draft_recipe(asked.model_copy(update={"set": settings}), 0).model.task_config()

    assert classes().classes == ("c", "unseen", "b", "a")
    assert classes().shares == (0.333333, 0, 0.333333, 0.333333)
    assert classes(**{"task.classes": "[a, c]"}).classes == ("a", "c")
    Manifest(tuple(clips), tmp_path).write(tmp_path / "m.parquet")
    assert classes().classes == ("a", "b", "c")


def test_a_clip_with_two_labels_makes_the_task_multi_label() -> None:
    task = task_of([clip("a", "b"), clip("c")])
    assert task.is_multi_label
    sample = task.sample(
        np.random.default_rng(0), 0, clip("a", "c"), 5.0, Placement(SegmentLayout(), 0.32, 0.04)
    )
    assert sample.target == (1.0, 0.0, 1.0)
    assert sample.offset_s == 0.0


@pytest.mark.parametrize(
    ("clips", "sentence"),
    [
        ([clip()], "not one training clip of the manifest has any"),
        ([clip("a"), clip("a")], "all training clips are of one class, 'a'"),
    ],
)
def test_clips_without_anything_to_tell_apart_are_refused(clips: list[Clip], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        task_of(clips)


def test_several_labels_are_refused_where_one_was_asked_for() -> None:
    with pytest.raises(TrainingError, match="multi_label=false"):
        task_of([clip("a", "b")], multi_label=False)


def test_clips_of_unknown_classes_are_left_out() -> None:
    task = task_of([clip("a"), clip("b")])
    assert task.accepts(clip("b"))
    assert not task.accepts(clip("c"))
    assert not task.accepts(clip())


@pytest.mark.parametrize("labels", [[("a",), ("b",), ("c",)], [("a", "b"), ("b",), ("c", "a")]])
def test_sums_of_parts_add_up_to_those_of_the_whole(labels: list[tuple[str, ...]]) -> None:
    clips = [clip(*names) for names in labels * 4]
    task = task_of(clips)
    place = Placement(SegmentLayout(), 0.32, 0.04)
    rng = np.random.default_rng(0)
    targets = task.collate([task.sample(rng, i, c, 5.0, place).target for i, c in enumerate(clips)])
    outputs = torch.randn(len(clips), 3, generator=torch.Generator().manual_seed(0))
    whole = task.sums(outputs, targets)
    parts = [task.sums(outputs[i::3], targets[i::3]) for i in range(3)]
    assert len(whole) == task.num_sums
    assert np.allclose(whole, np.sum(parts, axis=0), atol=1e-4)
    scores = task.scores(whole)
    truth = targets > 0.5 if task.is_multi_label else torch.nn.functional.one_hot(targets, 3).bool()
    found = [
        average_precision(task.probabilities(outputs)[:, k].numpy(), truth[:, k].numpy())
        for k in range(3)
    ]
    assert scores["mean_average_precision"] == pytest.approx(np.mean(found), abs=0.02)
    assert scores["cross_entropy"] == pytest.approx(
        float(task.loss(outputs, targets, 0.0)), rel=1e-5
    )


def test_a_perfect_answer_scores_one() -> None:
    task = task_of([clip("a"), clip("b")])
    scores = task.scores(task.sums(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 1])))
    assert scores["accuracy"] == scores["mean_average_precision"] == 1.0


def test_many_rare_classes_leave_chance_though_its_loss_is_small() -> None:
    config = ClassificationConfig(
        classes=tuple(map(str, range(527))), shares=(0.005,) * 527, multi_label=True
    )
    task = build_task(Component.of(registry().task("classification"), config))
    chance = task.chance["cross_entropy"]
    assert chance < 0.05
    scores = {**task.chance, "num": 100}
    assert not task.has_left_chance({**scores, "cross_entropy": 0.95 * chance})
    assert task.has_left_chance({**scores, "cross_entropy": 0.8 * chance})


def test_a_prediction_names_the_class() -> None:
    task = task_of([clip("a"), clip("b")])
    answer = task.answer(torch.tensor([[2.0, 0.0], [4.0, 0.0]]), [0.0, 0.32], 4.8)
    assert answer.facts["classes"][0]["label"] == "a"
    assert answer.words[0].startswith("a (probability 0.9")


def tokens(values: torch.Tensor) -> Tokens:
    return Tokens(values, (0.1, 0.3))


@pytest.mark.parametrize("streams", ["both", "audio", "vision"])
def test_the_linear_head_sees_the_streams_it_is_told_to(streams: str) -> None:
    spec = registry().head("linear")
    features = FeatureMap(times_s=(0.1, 0.3), positions=3, dim=4)
    given = HeadInput(
        audio=features, vision=features, layout=SegmentLayout(num_segments=2), num_outputs=5
    )
    head = spec.build(spec.config_class.model_validate({"streams": streams}), given)
    assert isinstance(head, LinearHead)
    torch.manual_seed(0)
    audio, vision, other = (tokens(torch.randn(6, 2, 2, 3, 4)) for _ in range(3))
    head.initialise(audio, vision)
    first = head(audio, vision)
    assert first.shape == (6, 5)
    assert torch.equal(head(other, vision), first) is (streams == "vision")
    assert torch.equal(head(audio, other), first) is (streams == "audio")


def test_a_recipe_for_classification_takes_the_linear_head() -> None:
    recipe = build_recipe(extractor="ast_motionformer", preset="tiny", task="classification")
    assert recipe.model.head is not None
    assert recipe.model.head.name == "linear"
    assert recipe.task.name == "classification"
