"""One check per kind of component; each builds the ``tiny`` preset on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contracts import (
    ClipRecord,
    DatasetAdapter,
    ExtractorConfig,
    ExtractorSpec,
    HeadInput,
    HeadSpec,
)
from zoo.errors import ConfigError, ManifestError
from zoo.models.modules import Aggregator, Extractor, Head, Objective, SegmentBatch
from zoo.models.two_tower import ExtractorEncoder
from zoo.registry.manager import registry
from zoo.testing.fakes import (
    any_tower,
    config_of,
    fake_segments,
    feature_map,
    head_input,
    map_shape,
)
from zoo.testing.promises import (
    about,
    build_on_meta,
    check_gradients,
    check_module,
    check_order,
    check_output,
    check_saving,
    check_time_steps,
    fresh,
)
from zoo.testing.specs import PRESETS, check_spec
from zoo.testing.wholes import check_weights_format
from zoo.timeline import OffsetGrid, SegmentLayout

OTHER_SEGMENTS_S = (0.16, 0.32, 0.48, 1.28)


def check_extractor(name: str) -> None:
    """Check an extractor's shapes, clock, independence of segments, gradients, presets, files."""
    spec = registry().extractor(name)
    with about(f"extractor '{name}'"):
        check_spec("extractors", spec)
        for preset in PRESETS:
            with about(f"preset '{preset}'"):
                _check_clock(spec.presets[preset])
        with about("preset 'paper', build on the device 'meta'"):
            build_on_meta(lambda: spec.build(spec.presets["paper"]))
        with about("preset 'tiny'"):
            config = spec.presets["tiny"]
            check_type(spec.build(config), Extractor)
            segments = fake_segments(config, 3)
            check_module(lambda: spec.build(config), (segments,), (3, *map_shape(config)))
            check_order(fresh(lambda: spec.build(config)), segments, map_shape(config)[0])
            _check_other_lengths(spec, config)
            for layout in spec.formats:
                check_weights_format(layout, spec, config)


def _check_other_lengths(spec: ExtractorSpec, config: ExtractorConfig) -> None:
    """A refusal in one sentence is as good as an answer, but not for all lengths."""
    accepted = 0
    for segment_s in OTHER_SEGMENTS_S:
        other = type(config).model_validate(config.model_dump() | {"segment_s": segment_s})
        with about(f"rebuilt for segments of {segment_s:g} s"):
            try:
                shape = map_shape(other)
                segments = fake_segments(other, 2)
            except ConfigError:
                continue
            accepted += 1
            _check_clock(other)
            check_output(fresh(partial(spec.build, other))(segments), (2, *shape))
    assert accepted, f"takes none of the segment lengths {OTHER_SEGMENTS_S}"


def check_aggregator(name: str) -> None:
    """Check that an aggregator gives one token per time step, and its gradients and files.

    One whose spec says ``keeps_positions`` gives a token per time step and position.
    """
    spec = registry().aggregator(name)
    with about(f"aggregator '{name}'"):
        check_spec("aggregators", spec)
        with about("preset 'paper', build on the device 'meta'"):
            build_on_meta(lambda: spec.build(spec.presets["paper"], feature_map(6, 12, 768)))
        for steps, positions, dim in ((6, 12, 64), (8, 9, 48), (1, 1, 64)):
            given = feature_map(steps, positions, dim)
            with about(f"preset 'tiny' for a feature map of T={steps}, P={positions}, D={dim}"):
                build = partial(spec.build, spec.presets["tiny"], given)
                check_type(build(), Aggregator)
                features = torch.randn(3, steps, positions, dim)
                tokens = steps * positions if spec.keeps_positions else steps
                check_module(build, (features,), (3, tokens, dim))
                check_time_steps(fresh(build), features)


def check_head(name: str) -> None:
    """Check a head on several layouts, grids and widths, and its gradients and files."""
    spec = registry().head(name)
    with about(f"head '{name}'"):
        check_spec("heads", spec)
        unknown = set(spec.stage2) - set(spec.presets)
        assert not unknown, f"has stage 2 settings for presets it lacks: {sorted(unknown)}"
        with about("preset 'paper', build on the device 'meta'"):
            build_on_meta(lambda: spec.build(spec.presets["paper"], head_input(768, 768)))
        for given in (
            head_input(64, 64),
            head_input(64, 32, SegmentLayout(num_segments=5), OffsetGrid(num_classes=11)),
            head_input(64, 64, SegmentLayout(num_segments=3, segment_s=1.28, step_s=1.28)),
        ):
            num = given.layout.num_segments
            widths = f"widths {given.audio.dim} and {given.vision.dim}"
            with about(
                f"preset 'tiny' for {num} segments of {given.layout.segment_s:g} s, {widths}"
            ):
                _check_head_on(spec, given)
        several = head_input(64, 64, SegmentLayout(num_segments=3), positions=3)
        with about("preset 'tiny' for 3 tokens per time step, as --aggregator none gives them"):
            try:
                spec.build(spec.presets["tiny"], several)
            except ConfigError:
                return  # it says that it cannot
            _check_head_on(spec, several)


def _check_head_on(spec: HeadSpec, given: HeadInput) -> None:
    build = partial(spec.build, spec.presets["tiny"], given)
    check_type(build(), Head)
    num = given.layout.num_segments
    audio, vision = (
        torch.randn(3, num * tokens.num_tokens, tokens.dim)
        for tokens in (given.audio, given.vision)
    )
    classes = given.grid.num_classes if spec.task == "offset" else 2
    check_module(build, (audio, vision), (3, classes))
    head = fresh(build).train()
    with about("initialise from a first batch"):
        head.initialise(audio, vision)  # type: ignore[operator]
        check_output(head(audio, vision), (3, classes))


def check_objective(name: str) -> None:
    """Check a stage I objective on two small towers: a finite loss, gradients everywhere, files."""
    spec = registry().objective(name)
    with about(f"objective '{name}'"):
        check_spec("objectives", spec)
        with about("preset 'paper', build on the device 'meta'"):
            build_on_meta(lambda: spec.build(spec.presets["paper"]))
        with about("preset 'tiny'"):
            _check_objective(lambda: spec.build(spec.presets["tiny"]))


def _check_objective(build: Callable[[], nn.Module]) -> None:
    check_type(build(), Objective)
    torch.manual_seed(0)
    towers = any_tower("audio"), any_tower("vision")
    segments = [fake_segments(config_of(tower), 6).unflatten(0, (2, 3)) for tower in towers]
    with about("build"):
        objective = fresh(build)
    with torch.no_grad():
        first = _scalars(objective, towers, segments)["loss"]
    scalars = _scalars(objective, towers, segments)
    assert torch.equal(first, scalars["loss"]), "differs from run to run with the same seed"
    assert scalars["loss"].requires_grad, "the loss does not depend on the towers"
    with about("backward"):
        scalars["loss"].backward()
    for part in (objective, *towers):
        check_gradients(part)
    check_saving(objective, build)
    for place in (torch.float64, torch.bfloat16, torch.device("meta")):
        moved = [
            module.to(place) for module in (fresh(build), any_tower("audio"), any_tower("vision"))
        ]
        with torch.no_grad(), about(f"moved to {str(place).removeprefix('torch.')}, forward"):
            inputs = [tensor.to(place) for tensor in segments]
            run_objective(moved[0], (moved[1], moved[2]), inputs)


def _scalars(
    objective: nn.Module, towers: tuple[ExtractorEncoder, ExtractorEncoder], segments: list[Tensor]
) -> dict[str, Tensor]:
    with about("forward"):
        scalars = run_objective(objective, towers, segments)
        assert isinstance(scalars, dict), f"gives a {type(scalars).__name__}, not a dictionary"
        assert "loss" in scalars, f"gives no 'loss', but {sorted(scalars)}"
        for key, value in scalars.items():
            assert isinstance(value, Tensor), f"'{key}' is a {type(value).__name__}, not a tensor"
            assert value.ndim == 0, f"'{key}' has the shape {tuple(value.shape)}, not ()"
            assert bool(value.isfinite()), f"'{key}' is {float(value)}"
    return scalars


def run_objective(
    objective: nn.Module, towers: tuple[nn.Module, nn.Module], segments: list[Tensor]
) -> Any:
    """Run an objective on segments ``(B, S, ...)``, alone, with a seed: it may mask at random."""
    torch.manual_seed(1)
    return objective(*towers, SegmentBatch(*segments), lambda tensor: tensor)


def check_dataset(
    name: str, folder: Path | None = None, options: dict[str, Any] | None = None
) -> None:
    """Check that a dataset adapter refuses what is not its own, and reads what is.

    Args:
        name: of the adapter.
        folder: a small example of the data set, where there is one.
        options: what the adapter must be told to read it, such as where its lists are.
    """
    spec = registry().dataset(name)
    with about(f"dataset '{name}'"):
        check_spec("datasets", spec)
        with about("build"):
            adapter = spec.build(spec.presets["tiny"].model_copy(update=options or {}))
        check_type(adapter, DatasetAdapter)
        with tempfile.TemporaryDirectory() as empty:
            for wrong in (Path(empty), Path(empty) / "missing"):
                _check_refusal(adapter, wrong)
        if folder is not None:
            with about(f"scan of {folder}"):
                _check_records(adapter, folder)


def _check_refusal(adapter: DatasetAdapter, wrong: Path) -> None:
    try:
        found = list(adapter.scan(wrong))
    except ManifestError:
        return
    except Exception as error:
        raise AssertionError(
            f"raises {type(error).__name__} for {wrong}, which has no clip; raise a ManifestError"
        ) from error
    raise AssertionError(f"finds {len(found)} clips in {wrong}, which has none")


def _check_records(adapter: DatasetAdapter, folder: Path) -> None:
    records = list(adapter.scan(folder))
    assert records, "finds no clip"
    for record in records:
        assert isinstance(record, ClipRecord), f"yields a {type(record).__name__}, no ClipRecord"
        assert record.path.exists(), f"yields {record.path}, which does not exist"
    assert records == list(adapter.scan(folder)), "finds another order every time"


def check_type(built: Any, wanted: type) -> None:
    """Check that ``build`` gives what the spec's kind asks for."""
    assert isinstance(built, wanted), (
        f"build gives a {type(built).__name__}; it must inherit zoo.{wanted.__name__}"
    )


def _check_clock(config: ExtractorConfig) -> None:
    times_s = config.feature_map().times_s
    assert list(times_s) == sorted(set(times_s)), f"time steps do not rise: {times_s}"
    assert times_s[0] >= 0, f"a time step lies before the segment: {times_s}"
    assert times_s[-1] <= config.segment_s, f"a time step lies after the segment: {times_s}"
