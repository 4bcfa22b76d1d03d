"""The check of tasks: what heads are trained for."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.contracts import TaskConfig, TaskSpec
from zoo.data.manifest import Clip
from zoo.errors import ConfigError
from zoo.models.task import Need, Task
from zoo.plots import new_figure
from zoo.registry.manager import registry
from zoo.testing.fakes import fake_clips, fitted, tiny_tasks
from zoo.testing.promises import about
from zoo.testing.specs import check_spec, check_type
from zoo.timeline import LATTICE_TOLERANCE, Placement, Sample, SegmentLayout

LAYOUT = SegmentLayout(num_segments=4)
PLACE = Placement(LAYOUT, vision_hop_s=LAYOUT.step_s, audio_hop_s=0.04)
NUM_SAMPLES, TRIES = 12, 40


def check_task(name: str, clips: list[Clip] | None = None) -> None:
    """Check a task: samples, targets, loss, sums and scores, chance, rank, words.

    Args:
        name: of the task.
        clips: rows of a manifest that it can be trained on; by default made-up ones with nothing
            but the columns that its spec names, whose labels are numbers such as ``-21``.
    """
    spec = registry().task(name)
    with about(f"task '{name}'"):
        check_spec("tasks", spec)
        _check_columns(spec)
        rows = fake_clips(spec.columns) if clips is None else clips
        with about(f"fit to clips with {_columns(spec)}"):
            config = fitted(spec, rows)
        assert isinstance(config, TaskConfig), f"fit gives a {type(config).__name__}"
        assert registry().heads_of(name), (
            f"no head gives its outputs; register one with tasks=('{name}',)"
        )
        with about("build"):
            tasks = tiny_tasks(spec, rows)
        for task in tasks:
            check_type(task, Task)
            with about(f"with {task.num_outputs} outputs"):
                _check_task(task, rows)


def _columns(spec: TaskSpec) -> str:
    if not spec.columns:
        return "no columns of their own (the spec names none)"
    return f"the columns {', '.join(spec.columns)} and no others"


def _check_columns(spec: TaskSpec) -> None:
    """Check what a spec says about scores and columns."""
    names = [score.name for score in spec.scores]
    assert names, "has no scores; say in its spec what a validation gives"
    assert len(set(names)) == len(names), f"names a score twice: {names}"
    unknown = sorted(set(spec.rank) - set(names))
    assert spec.rank, "has no rank; say which score makes one validation better than another"
    assert not unknown, f"ranks by '{unknown[0]}', which is none of its scores: {names}"
    assert spec.class_field is None or spec.class_field in spec.config_class.model_fields, (
        f"wants classes in '{spec.class_field}', which its config lacks"
    )
    known = {field.name for field in fields(Clip)}
    for column in spec.columns:
        assert column in known, (
            f"asks for the column '{column}'; a manifest has {', '.join(sorted(known))}"
        )


def _check_task(task: Task, rows: list[Clip]) -> None:
    assert task.num_outputs > 0, "num_outputs must be at least 1"
    for clip in rows:
        assert task.accepts(clip), f"accepts none of the clips that it is fitted to: {clip}"
    if task.spec.columns:
        bare = fake_clips(())[0]
        with about(f"accepts, for a clip without {' and '.join(task.spec.columns)}"):
            assert not task.accepts(bare), "says yes"
    if task.slots is not None:
        assert not task.num_outputs % task.slots.num_slots, (
            f"has {task.num_outputs} outputs, not as many for each of {task.slots.num_slots} slots"
        )
    names = task.output_names
    assert names is None or len(names) == task.num_outputs, (
        f"output_names has {len(names or ())} names for {task.num_outputs} outputs"
    )
    targets = _check_samples(task, rows)
    torch.manual_seed(0)
    outputs = torch.randn(NUM_SAMPLES, task.num_outputs)
    _check_loss(task, outputs, targets)
    scores = _check_scores(task, outputs, targets)
    _check_chance(task, scores)
    _check_values(task, outputs, targets, scores)
    _check_average(task, outputs, targets, scores)
    if task.has_labels:
        _check_labels(task, rows)
    with about("diagnose"):
        json.dumps(task.diagnose(outputs, targets, []))
    with about("answer"):
        answer = task.answer(outputs, [float(i) for i in range(NUM_SAMPLES)], LAYOUT.covered_s)
        json.dumps(answer.facts)
        assert answer.words, "says nothing"
        assert all(isinstance(line, str) for line in answer.words), "words is a list of lines"
    _check_along(task, outputs)


def _check_along(task: Task, outputs: Tensor) -> None:
    """Check what is said, and drawn, of a clip that ends before its last crop does."""
    starts_s = [float(i) for i in range(NUM_SAMPLES)]
    with about("answer_clip"):
        answer = task.answer_clip(outputs, starts_s, LAYOUT.covered_s, float(NUM_SAMPLES))
        json.dumps(answer.facts)
        assert answer.words, "says nothing"
    if task.draws_answers:
        with about("draw_answer"):
            _, axes = new_figure(4, 2)
            task.draw_answer(axes[0, 0], answer.facts)


def _check_average(task: Task, outputs: Tensor, targets: Tensor, scores: dict[str, float]) -> None:
    """Check that several equal readings say what one says."""
    with about("average"):
        mean = task.average(torch.stack([outputs, outputs]))
        assert mean.shape == outputs.shape, f"gives {tuple(mean.shape)} for two equal readings"
        again = task.scores(task.sums(mean, targets))
        for name in task.spec.rank:
            assert math.isclose(again[name], scores[name], abs_tol=0.02), (
                f"changes {name} from {scores[name]:.4g} to {again[name]:.4g} though both readings "
                "are equal"
            )


def _check_labels(task: Task, rows: list[Clip]) -> None:
    """Check that labels can be mixed and smoothed, and clips weighted."""
    rng = np.random.default_rng(0)
    duration_s = task.need(LAYOUT, PLACE.vision_hop_s).seconds
    first, other = (task.sample(rng, i, rows[i], duration_s, PLACE).target for i in (0, -1))
    outputs = torch.randn(1, task.num_outputs, generator=torch.Generator().manual_seed(0))
    with about("soften"):
        plain = task.loss(outputs, task.collate([first]), 0.0)
        same = task.loss(outputs, task.collate([task.soften(first, first, 1.0, 0.0)]), 0.0)
        assert torch.isclose(plain, same, atol=1e-5), (
            f"changes the loss from {float(plain):.4g} to {float(same):.4g} without smoothing and "
            "without a second clip"
        )
        mixed = task.loss(outputs, task.collate([task.soften(first, other, 0.7, 0.1)]), 0.0)
        assert bool(mixed.isfinite()), f"mixed, the loss is {float(mixed)}"
    with about("clip_weights"):
        weights = task.clip_weights(rows)
        assert len(weights) == len(rows), f"gives {len(weights)} numbers for {len(rows)} clips"
        assert min(weights) > 0, "gives a clip no weight"


def _check_samples(task: Task, rows: list[Clip]) -> Tensor:
    """Check where samples are taken from clips, and return the targets of some."""
    with about("need"):
        need = task.need(LAYOUT, PLACE.vision_hop_s)
    assert isinstance(need, Need), f"need gives a {type(need).__name__}, not a zoo.Need"
    assert need.seconds >= LAYOUT.shortest_s - LATTICE_TOLERANCE, (
        f"needs clips of {need.seconds:g} s, shorter than a crop ({LAYOUT.covered_s:g} s)"
    )
    duration_s = need.seconds
    with about(f"sample from a clip of {duration_s:g} s, which is as long as it needs"):
        for number in range(TRIES):
            index = number % len(rows)
            sample = _sample(task, index, rows, duration_s, number)
            _check_placed(sample, index, duration_s)
            again = _sample(task, index, rows, duration_s, number)
            assert _same(sample, again), "differs from run to run with the same rng"
    short_s = LAYOUT.covered_s / 2
    with about(f"sample from a clip of {short_s:g} s, which is shorter than a crop"):
        try:
            _sample(task, 0, rows, short_s, 0)
        except ConfigError:
            pass
        else:
            raise AssertionError("gives a sample; raise a ConfigError")
    samples = [
        _sample(task, number % len(rows), rows, duration_s + 1, number)
        for number in range(NUM_SAMPLES)
    ]
    with about("collate"):
        targets = task.collate([sample.target for sample in samples])
        assert isinstance(targets, Tensor), f"gives a {type(targets).__name__}, not a tensor"
        assert len(targets) == NUM_SAMPLES, f"gives {len(targets)} rows for {NUM_SAMPLES} targets"
    return targets


def _sample(task: Task, index: int, rows: list[Clip], duration_s: float, seed: int) -> Sample:
    return task.sample(np.random.default_rng(seed), index, rows[index], duration_s, PLACE)


def _check_placed(sample: Any, index: int, duration_s: float) -> None:
    assert isinstance(sample, Sample), f"gives a {type(sample).__name__}, not a zoo.Sample"
    assert sample.clip == index, f"gives a sample of clip {sample.clip} for clip {index}"
    for what, start_s in (("video", sample.vision_start_s), ("audio", sample.audio_start_s)):
        end_s = start_s + LAYOUT.covered_s
        assert start_s >= -LATTICE_TOLERANCE, f"the {what} crop starts at {start_s:g} s"
        assert end_s <= duration_s + LATTICE_TOLERANCE, (
            f"the {what} crop ends at {end_s:g} s, after the clip ({duration_s:g} s)"
        )


def _same(one: Sample, other: Sample) -> bool:
    places = [(s.clip, s.vision_start_s, s.audio_start_s) for s in (one, other)]
    return places[0] == places[1] and repr(one.target) == repr(other.target)


def _check_loss(task: Task, outputs: Tensor, targets: Tensor) -> None:
    for sigma in (0.0, 1.0):
        given = outputs.clone().requires_grad_()
        with about(f"loss with sigma {sigma:g}"):
            loss = task.loss(given, targets, sigma)
            assert isinstance(loss, Tensor), f"gives a {type(loss).__name__}, not a tensor"
            assert loss.ndim == 0, f"has the shape {tuple(loss.shape)}, not ()"
            assert bool(loss.isfinite()), f"is {float(loss)}"
            assert loss.requires_grad, "does not depend on the outputs"
            loss.backward()
        assert given.grad is not None
        assert bool(given.grad.any()), "the loss has no gradient"
        assert bool(given.grad.isfinite().all()), "the gradient of the loss is not finite"


def _check_scores(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Check that sums add up over batches and workers, and turn into the scores of the spec."""
    with about("sums"):
        whole = task.sums(outputs, targets)
        half = NUM_SAMPLES // 3
        parts = [
            task.sums(outputs[part], targets[part]) for part in (slice(half), slice(half, None))
        ]
    for found in (whole, *parts):
        assert len(found) == task.num_sums, (
            f"num_sums is {task.num_sums}, but sums gives {len(found)} numbers"
        )
    assert whole[-1] == NUM_SAMPLES, (
        f"the last sum of {NUM_SAMPLES} samples is {whole[-1]:g}, their number"
    )
    added = [a + b for a, b in zip(*parts, strict=True)]
    assert np.allclose(added, whole, rtol=1e-4, atol=1e-4), (
        f"sums of two parts of a batch do not add up to those of the whole: {added}, not {whole}"
    )
    with about("scores"):
        scores = task.scores(whole)
        task.scores([0.0] * task.num_sums)  # of a worker without samples
    wanted = {*(score.name for score in task.spec.scores), task.loss_name, "num"}
    missing = sorted(wanted - set(scores))
    assert not missing, f"scores lacks '{missing[0]}'; it gives {sorted(scores)}"
    for key, value in scores.items():
        assert math.isfinite(value), f"the score '{key}' is {value}"
    assert scores["num"] == NUM_SAMPLES, f"the score 'num' of {NUM_SAMPLES} is {scores['num']}"
    with about("describe"):
        assert task.spec.describe(scores), "says nothing"
    return scores


def _check_chance(task: Task, scores: dict[str, float]) -> None:
    """Check what guessing scores, and that it does not count as having left chance."""
    with about("chance"):
        chance = dict(task.chance)
        missing = sorted(
            {*(score.name for score in task.spec.scores), task.loss_name} - set(chance)
        )
        assert not missing, f"lacks '{missing[0]}'"
        assert task.chance_words, "has no words"
    for number in (3, 1000):
        guessed = {**scores, **chance, "num": number}
        assert not task.has_left_chance(guessed), (
            f"has_left_chance says that {number} samples scored as by chance are better than chance"
        )
    better = {**guessed, task.loss_name: chance[task.loss_name] - max(1.0, margin_of(chance, task))}
    assert task.has_left_chance(better), (
        f"has_left_chance does not see a {task.loss_name} far below chance"
    )
    assert task.spec.rank_of(scores) == task.spec.rank_of(scores)


def margin_of(chance: dict[str, float], task: Task) -> float:
    """Return how far below chance a loss is far below it."""
    return abs(chance[task.loss_name]) / 2


def _check_values(task: Task, outputs: Tensor, targets: Tensor, scores: dict[str, float]) -> None:
    """Check that per-sample values are what the scores are means of."""
    with about("values"):
        values = task.values(outputs, targets)
        for key, rows in values.items():
            assert len(rows) == NUM_SAMPLES, f"'{key}' has {len(rows)} rows, not {NUM_SAMPLES}"
            assert key in scores, f"'{key}' is none of the scores {sorted(scores)}"
            mean = float(np.mean(rows))
            assert math.isclose(mean, scores[key], rel_tol=1e-3, abs_tol=1e-4), (
                f"the mean of '{key}' is {mean:.4g}, but scores says {scores[key]:.4g}"
            )
