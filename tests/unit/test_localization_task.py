"""The task localization, the head linear_slots, and the timeline of a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plugins.linear.slots import LinearSlotsHead
from plugins.localization.slots import IGNORED, join_crops, slot_labels
from plugins.localization.task import Localization
from zoo.contracts import FeatureMap, HeadInput
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Clip, Event, Manifest
from zoo.data.samples import SampleSource
from zoo.errors import ConfigError, TrainingError
from zoo.inference.predictor import Predictor
from zoo.inference.windows import Plan, Streams
from zoo.models.config import Component
from zoo.models.model import Model, build_task
from zoo.models.segments import Tokens
from zoo.registry.manager import registry
from zoo.timeline import Placement, SegmentLayout, SlotGrid
from zoo.training.recipe_builder import build_recipe
from zoo.training.request import TrainRequest, draft_recipe

TEN = SegmentLayout(num_segments=10, segment_s=1.0, step_s=1.0)
WHOLE = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)
HALVES = SegmentLayout(num_segments=30, segment_s=0.64, step_s=0.32)
LABELS = ("bark", "siren", "background")
BARK = Event(2.0, 6.0, "bark")


def clip(*events: Event, duration_s: float = 10.0) -> Clip:
    return Clip(Path("a.mp4"), "train", duration_s, 25, 64, 64, 16_000, 1, events=events)


def task_of(clips: list[Clip], layout: SegmentLayout = TEN, **settings: Any) -> Localization:
    spec = registry().task("localization")
    assert spec.fit is not None
    assert spec.fit_layout is not None
    config = spec.fit_layout(spec.config_class.model_validate(settings), layout)
    task = build_task(Component.of(spec, spec.fit(config, clips)))
    assert isinstance(task, Localization)
    return task


@pytest.fixture
def task() -> Localization:
    return task_of([clip(BARK), clip(Event(0.0, 3.0, "siren"))])


def logits_of(task: Localization, *labels: list[int], height: float = 5.0) -> torch.Tensor:
    """Outputs that answer with these labels, slot by slot."""
    one_hot = torch.nn.functional.one_hot(torch.tensor(labels), len(task.labels))
    return (height * one_hot.float()).flatten(1)


# --- slots ---


@pytest.mark.parametrize(("layout", "num"), [(TEN, 10), (WHOLE, 10), (HALVES, 10)])
def test_a_crop_of_about_ten_seconds_has_ten_slots(layout: SegmentLayout, num: int) -> None:
    assert SlotGrid.within(layout.covered_s, 1.0).num_slots == num


def test_a_recipe_takes_its_slots_from_the_layout() -> None:
    asked = TrainRequest(extractor="ast_motionformer", task="localization")
    recipe = draft_recipe(asked, 0)
    assert recipe.model.task_config().num_slots == 5  # of 4.8 s
    assert recipe.model.head is not None
    assert recipe.model.head.name == "linear_slots"
    longer = asked.model_copy(update={"set": {"layout.num_segments": 30}})
    assert draft_recipe(longer, 0).model.task_config().num_slots == 10
    set_by_hand = asked.model_copy(update={"set": {"task.num_slots": 4, "task.slot_s": 1.2}})
    assert draft_recipe(set_by_hand, 0).model.task_config().num_slots == 4


def test_a_slot_has_the_event_that_fills_half_of_it() -> None:
    slots = SlotGrid(slot_s=1.0, num_slots=4)
    events = (Event(0.5, 2.4, "bark"), Event(2.4, 3.45, "siren"))
    assert slot_labels(events, LABELS, slots, 0.0, 10.0) == [0, 0, 1, 2]
    assert slot_labels(events, LABELS, slots, 0.5, 10.0) == [0, 0, 1, 2]


def test_slots_beyond_the_clip_are_ignored_but_for_the_first() -> None:
    slots = SlotGrid(slot_s=1.0, num_slots=4)
    assert slot_labels((), LABELS, slots, 0.0, 2.5) == [2, 2, 2, IGNORED]
    assert slot_labels((), LABELS, slots, 0.0, 2.4) == [2, 2, IGNORED, IGNORED]
    assert slot_labels((), LABELS, slots, 0.0, 0.3) == [2] + 3 * [IGNORED]


def test_times_are_averaged_per_slot_and_the_nearest_stands_in() -> None:
    slots = SlotGrid(slot_s=1.0, num_slots=3)
    weights = slots.weights([0.25, 0.75, 1.5])
    assert weights.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]


# --- what it learns from ---


def test_classes_and_shares_come_from_the_training_clips(task: Localization) -> None:
    assert task.labels == LABELS
    assert task.config.shares == (0.2, 0.15, 0.65)
    assert task.num_outputs == 30
    assert task.output_names[2] == "0-1 s: background"
    chance = task.chance
    assert chance["accuracy"] == 0.65
    assert chance["event_accuracy"] == pytest.approx(0.2 / 0.35)
    assert chance["cross_entropy"] == pytest.approx(0.8865, abs=1e-4)


def test_clips_without_events_are_background_and_unknown_ones_are_left_out(
    task: Localization,
) -> None:
    assert task.accepts(clip())
    assert not task.accepts(Clip(Path("a.mp4"), "train", 10.0, 25, 64, 64, 16_000, 1))
    assert not task.accepts(clip(Event(0.0, 1.0, "drill")))
    place = Placement(TEN, 1.0, 0.04)
    nothing = task.sample(np.random.default_rng(0), 0, clip(), 10.0, place)
    assert nothing.target == (2,) * 10
    barks = task.sample(np.random.default_rng(0), 0, clip(BARK), 10.0, place)
    assert barks.target == (2, 2, 0, 0, 0, 0, 2, 2, 2, 2)


def test_clips_of_unknown_events_alone_are_one_sentence(clips: Manifest) -> None:
    drilled = [replace(c, events=(Event(0.0, 1.0, "drill"),)) for c in clips.clips]
    recipe = build_recipe(
        extractor="ast_motionformer",
        preset="tiny",
        task="localization",
        overrides=["task.classes=[bark]", "task.num_slots=5"],
    )
    model = Model(recipe.model)
    assert model.task is not None
    source = ClipSource(drilled, ClipReader(model.vision_frontend, model.audio_frontend))
    with pytest.raises(TrainingError, match="such as 'drill', are not all known to the model"):
        SampleSource(source, recipe.model.layout, model.task, 0, "train")


def test_clips_without_any_event_are_refused() -> None:
    with pytest.raises(TrainingError, match="not one training clip of the manifest has any"):
        task_of([clip(), clip()])


def test_background_is_no_class_of_its_own() -> None:
    with pytest.raises(ValueError, match="'background', which is added"):
        registry().task("localization").config_class.model_validate({"classes": ["background"]})


# --- scores ---


def test_scores_count_slots_of_clips_of_any_length(task: Localization) -> None:
    truth = [[2, 2, 0, 0, 0, 0, 2, 2, 2, 2], [1, 1, 1, 2, 2] + 5 * [IGNORED]]
    given = [[2, 2, 0, 0, 1, 2, 2, 2, 2, 0], [1, 1, 2, 2, 2] + 5 * [0]]
    outputs, targets = logits_of(task, *given), torch.tensor(truth)
    scores = task.scores(task.sums(outputs, targets))
    assert scores["accuracy"] == pytest.approx(11 / 15)
    assert scores["event_accuracy"] == pytest.approx(4 / 7)
    # bark: 2 of 4 found, 3 answers; siren: 2 of 3 found, 3 answers
    assert scores["mean_f1"] == pytest.approx((4 / 7 + 4 / 6) / 2)
    assert scores["num"] == 2
    assert scores["cross_entropy"] == pytest.approx(float(task.loss(outputs, targets, 0.0)))
    assert np.mean(task.values(outputs, targets)["accuracy"]) == pytest.approx(11 / 15)
    parts = [task.sums(outputs[i : i + 1], targets[i : i + 1]) for i in (0, 1)]
    assert np.allclose(np.sum(parts, axis=0), task.sums(outputs, targets))


def test_a_perfect_answer_scores_one(task: Localization) -> None:
    truth = [[2, 2, 0, 0, 1, 1, 2, 2, 2, 2]]
    scores = task.scores(task.sums(logits_of(task, *truth), torch.tensor(truth)))
    assert scores["accuracy"] == scores["event_accuracy"] == scores["mean_f1"] == 1.0


def test_the_report_says_what_is_taken_for_what(task: Localization) -> None:
    truth, given = [[0, 0, 1, 2] + 6 * [IGNORED]], [[0, 2, 1, 2] + 6 * [0]]
    found = task.diagnose(logits_of(task, *given), torch.tensor(truth), [])
    assert found["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert found["classes"]["bark"] == {
        "num": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    [table] = task.report_tables(found)
    assert table.rows[0] == ["siren", "1", "100.0%", "100.0%", "100.0%"]
    assert set(task.plot_report(found)) == {"classes", "confusion"}


# --- the timeline ---


def test_neighbouring_slots_of_one_label_are_one_event(task: Localization) -> None:
    outputs = logits_of(task, [2, 2, 0, 0, 0, 0, 2, 1, 2, 2])
    answer = task.answer_clip(outputs, [0.0], 10.0, 10.0)
    assert answer.words == ["0:02-0:06 bark (0.99)", "0:07-0:08 siren (0.99)"]
    events = [(e["start_s"], e["end_s"], e["label"]) for e in answer.facts["events"]]
    assert events == [(2.0, 6.0, "bark"), (7.0, 8.0, "siren")]
    assert [slot["label"] for slot in answer.facts["slots"]].count("background") == 5


def test_a_clip_without_events_is_said_to_be_background(task: Localization) -> None:
    answer = task.answer_clip(logits_of(task, 10 * [2]), [0.0], 10.0, 9.4)
    assert answer.words == ["no event: 0:00-0:09.4 is background (0.99)"]
    assert answer.facts["events"] == []
    assert len(answer.facts["slots"]) == 9  # the last 0.4 s belong to the ninth


def test_crops_that_overlap_are_averaged_by_what_they_cover() -> None:
    slots = SlotGrid(slot_s=1.0, num_slots=2)
    first, second = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    timeline = join_crops(np.stack([first, second]), [0.0, 0.5], slots, 3.0, ("a", "background"))
    assert timeline.spans_s == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert timeline.probabilities[:, 0] == pytest.approx([2 / 3, 0.5, 0.0])


def test_slots_that_no_crop_tells_of_are_left_out_and_join_nothing() -> None:
    slots = SlotGrid(slot_s=1.0, num_slots=1)
    sure = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    timeline = join_crops(sure, [0.0, 2.0], slots, 3.0, ("a", "background"))
    assert timeline.spans_s == [(0.0, 1.0), (2.0, 3.0)]
    assert len(timeline.events()) == 2


@pytest.mark.parametrize(
    ("layout", "firsts", "end_s", "expected"),
    [
        (TEN, (0, 5, 10), 23.4, (0, 5, 10, 14)),
        (TEN, (0, 5, 10), 20.0, (0, 5, 10)),
        (WHOLE, (0, 1), 25.0, (0, 1, 2)),
        (WHOLE, (0,), 3.0, (0,)),
    ],
)
def test_the_last_crop_reaches_the_end_of_the_clip(
    layout: SegmentLayout, firsts: tuple[int, ...], end_s: float, expected: tuple[int, ...]
) -> None:
    span = (0.0, end_s)
    streams = Streams(Path("a.mp4"), Path("a.mp4"), None, span, span, None)
    plan = Plan(firsts).to_end(streams, layout)
    assert tuple(plan.firsts) == expected
    assert plan.firsts[-1] * layout.step_s + layout.covered_s >= min(end_s, layout.covered_s)


def test_a_separable_encoder_tells_of_a_clip_up_to_its_end(clips: Manifest) -> None:
    recipe = build_recipe(
        extractor="ast_motionformer",
        preset="tiny",
        task="localization",
        overrides=["task.classes=[bark]", "task.num_slots=5"],
    )
    first = clips.clips[0]
    found = Predictor(Model(recipe.model), "untrained").predict(first.path, every_s=3.0)
    assert found.windows_s == [0.0, 2.88, 4.48]  # the last one reaches the end, at 9 s
    slots = found.as_dict()["slots"]
    assert [slot["start_s"] for slot in slots] == list(range(9))
    assert slots[-1]["end_s"] == found.duration_s == pytest.approx(9.0, abs=0.05)


def test_more_slots_than_a_crop_holds_are_one_sentence() -> None:
    recipe = build_recipe(
        extractor="ast_motionformer",
        preset="tiny",
        task="localization",
        overrides=["task.num_slots=6"],
    )
    with pytest.raises(ConfigError, match=r"about 6 slots of 1 s, and a crop of 4.8 s holds 5"):
        Model(recipe.model)


# --- the head ---


def given(layout: SegmentLayout, steps: int, segment_s: float) -> HeadInput:
    times_s = tuple((i + 0.5) * segment_s / steps for i in range(steps))
    features = FeatureMap(times_s=times_s, positions=2, dim=4)
    slots = SlotGrid.within(layout.covered_s, 1.0)
    return HeadInput(
        audio=features,
        vision=features,
        layout=layout,
        num_outputs=slots.num_slots * 3,
        slots=slots,
    )


def head_of(head_input: HeadInput, **settings: Any) -> LinearSlotsHead:
    torch.manual_seed(0)
    spec = registry().head("linear_slots")
    head = spec.build(spec.config_class.model_validate(settings), head_input)
    assert isinstance(head, LinearSlotsHead)
    return head


@pytest.mark.parametrize(
    ("layout", "steps"), [(TEN, 4), (WHOLE, 32), (HALVES, 4)], ids=["ten", "whole", "halves"]
)
def test_what_happens_in_a_second_changes_the_answer_for_that_second(
    layout: SegmentLayout, steps: int
) -> None:
    head_input = given(layout, steps, layout.segment_s)
    head, times_s = head_of(head_input), head_input.audio.times_s
    values = torch.randn(1, layout.num_segments, steps, 2, 4)
    changed = values.clone()
    at = torch.tensor(np.add.outer(layout.starts_s, times_s))
    changed[0, (at >= 6) & (at < 7)] += 1.0
    audio, other, vision = (Tokens(x, times_s) for x in (values, changed, values))
    difference = (head(other, vision) - head(audio, vision)).abs().view(10, 3).sum(1)
    assert difference.argmax() == 6
    assert (difference > 1e-6).sum() == 1


def test_one_frame_gives_every_slot_the_same() -> None:
    head_input = given(WHOLE, 1, WHOLE.segment_s)
    head = head_of(head_input, streams="vision")
    tokens = Tokens(torch.randn(2, 1, 1, 2, 4), head_input.vision.times_s)
    outputs = head(tokens, tokens).view(2, 10, 3)
    assert torch.allclose(outputs, outputs[:, :1].expand_as(outputs))


@pytest.mark.parametrize("streams", ["both", "audio", "vision"])
def test_the_head_sees_the_streams_it_is_told_to(streams: str) -> None:
    head_input = given(TEN, 4, 1.0)
    head = head_of(head_input, streams=streams)
    audio, vision, other = (
        Tokens(torch.randn(6, 10, 4, 2, 4), head_input.audio.times_s) for _ in range(3)
    )
    head.initialise(audio, vision)
    first = head(audio, vision)
    assert torch.equal(head(other, vision), first) is (streams == "vision")
    assert torch.equal(head(audio, other), first) is (streams == "audio")


def test_context_lets_neighbouring_slots_matter() -> None:
    head_input = given(TEN, 4, 1.0)
    head = head_of(head_input, context=1, norm="layer")
    values = torch.randn(1, 10, 4, 2, 4)
    changed = values.clone()
    changed[:, 5] += torch.randn(4)
    vision = Tokens(values, head_input.vision.times_s)
    outputs = [head(Tokens(x, vision.times_s), vision) for x in (values, changed)]
    difference = (outputs[1] - outputs[0]).abs().view(10, 3).sum(1)
    assert (difference > 1e-6).nonzero().flatten().tolist() == [4, 5, 6]


def test_a_task_without_slots_is_refused() -> None:
    head_input = given(TEN, 4, 1.0).model_copy(update={"slots": None})
    with pytest.raises(ConfigError, match="answers slot by slot, and the task has no slots"):
        head_of(head_input)
