"""The checks of aggregators and of heads."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from zoo.contracts import AggregatorSpec, FeatureMap, HeadInput, HeadSpec
from zoo.errors import ConfigError
from zoo.models.modules import Aggregator, Head
from zoo.models.segments import Tokens
from zoo.models.task import Task
from zoo.registry.manager import registry
from zoo.testing import fakes
from zoo.testing.fakes import feature_map, tiny_tasks
from zoo.testing.promises import (
    Trial,
    about,
    build_on_meta,
    check_module,
    check_output,
    check_time_steps,
    fresh,
)
from zoo.testing.specs import check_named, check_spec, check_stage2, check_type
from zoo.timeline import SegmentLayout


def check_aggregator(name: str) -> None:
    """Check that an aggregator gives the tokens that its spec says, its gradients and files."""
    spec = registry().aggregator(name)
    with about(f"aggregator '{name}'"):
        check_spec("aggregators", spec)
        published = feature_map(6, 12, 768)
        build_on_meta(lambda: spec.build(spec.fit(spec.presets["paper"], published), published))
        for steps, positions, dim in ((6, 12, 64), (8, 9, 48), (1, 1, 64)):
            with about(f"preset 'tiny' for a feature map of T={steps}, P={positions}, D={dim}"):
                _check_aggregator_on(spec, feature_map(steps, positions, dim))


def _check_aggregator_on(spec: AggregatorSpec, given: FeatureMap) -> None:
    with about("fit"):
        config = spec.fit(spec.presets["tiny"], given)
    assert isinstance(config, spec.config_class), (
        f"fit gives a {type(config).__name__}, not a {spec.config_class.__name__}"
    )
    positions = spec.positions(config, given)
    assert isinstance(positions, int), f"positions gives a {type(positions).__name__}, not an int"
    assert positions > 0, f"positions gives {positions}; a time step has at least one token"
    build = partial(spec.build, config, given)
    check_type(build(), Aggregator)
    features = torch.randn(3, given.steps, given.positions, given.dim)
    shape = (3, given.steps * positions, given.dim)
    # Among one position there is nothing to choose: what attends to it has no gradient.
    check_module(Trial(build, (features,), shape, has_gradients=given.positions > 1))
    check_time_steps(fresh(build), features)


def check_head(name: str) -> None:
    """Check a head on several layouts and widths for each of its tasks, its gradients and files."""
    spec = registry().head(name)
    with about(f"head '{name}'"):
        check_spec("heads", spec)
        check_stage2(spec.stage2)
        for kind, named in (("tasks", spec.tasks), ("heads", spec.starts_from)):
            for one in named:
                check_named(kind, one)
        for task_name in spec.tasks:
            for task in tiny_tasks(registry().task(task_name)):
                with about(f"for the task '{task_name}' with {task.num_outputs} outputs"):
                    _check_head_for(spec, task)


def _check_head_for(spec: HeadSpec, task: Task) -> None:
    head_input = partial(fakes.head_input, task, passes=spec.passes)
    published = head_input(768, 768)
    build_on_meta(lambda: spec.build(spec.presets["paper"], published))
    for given in (
        head_input(64, 64),
        head_input(64, 32, SegmentLayout(num_segments=5)),
        head_input(64, 64, SegmentLayout(num_segments=3, segment_s=1.28, step_s=1.28)),
    ):
        layout = given.layout
        with about(
            f"preset 'tiny', {layout.num_segments} segments of {layout.segment_s:g} s, widths "
            f"{given.audio.dim} and {given.vision.dim}"
        ):
            _check_head_on(spec, given)
    several = head_input(64, 64, SegmentLayout(num_segments=3), positions=3)
    with about("preset 'tiny', 3 tokens per time step, as --aggregator none gives them"):
        try:
            spec.build(spec.presets["tiny"], several)
        except ConfigError:
            return  # it says that it cannot
        _check_head_on(spec, several)


def _check_head_on(spec: HeadSpec, given: HeadInput) -> None:
    build = partial(spec.build, spec.presets["tiny"], given)
    check_type(build(), Head)
    values = tuple(
        torch.randn(3, given.layout.num_segments, tokens.steps, tokens.positions, tokens.dim)
        for tokens in (given.audio, given.vision)
    )
    shape = (3, given.num_outputs)

    def tokens_of(audio: Tensor, vision: Tensor) -> tuple[Tokens, Tokens]:
        return Tokens(audio, given.audio.times_s), Tokens(vision, given.vision.times_s)

    def run(head: nn.Module, audio: Tensor, vision: Tensor) -> Tensor:
        outputs: Tensor = head(*tokens_of(audio, vision))
        return outputs

    has_gradients = not build().may_skip_parameters
    check_module(Trial(build, values, shape, run, has_gradients=has_gradients))
    head = fresh(build).train()
    assert isinstance(head, Head)
    with about("initialise from a first batch"):
        head.initialise(*tokens_of(*values))
        check_output(run(head, *values), shape)
    for name in spec.starts_from:
        with about(f"start from the head '{name}'"):
            _check_start(head, registry().head(name), given)


def _check_start(head: Head, start: HeadSpec, given: HeadInput) -> None:
    """Check that the weights of another head, for the first of its tasks, can be taken over."""
    for task in tiny_tasks(registry().task(start.tasks[0])):
        asked = {"num_outputs": task.num_outputs, "grid": task.grid, "slots": task.slots}
        other = given.model_copy(update=asked)
        head.start_from(start.build(start.presets["tiny"], other))
