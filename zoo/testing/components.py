"""One check per kind of component; each builds the ``tiny`` preset on the CPU."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contracts import ClipRecord, ExtractorConfig, FeatureMap, Frames, HeadInput
from zoo.errors import ConfigError, ManifestError
from zoo.hooks import registry
from zoo.model import Component, Tower, TowerConfig
from zoo.modules import SegmentBatch
from zoo.testing.promises import (
    build_on_meta,
    check_gradients,
    check_module,
    check_saving,
    fresh,
)
from zoo.testing.specs import PRESETS, check_spec
from zoo.timeline import OffsetGrid, SegmentLayout, to_samples

OTHER_SEGMENTS_S = (0.16, 0.32, 0.48, 1.28)


def check_extractor(name: str) -> None:
    """Check an extractor's shapes, clock, independence of segments, gradients, presets, files."""
    spec = registry().extractor(name)
    check_spec("extractors", spec)
    for preset in PRESETS:
        _check_clock(spec.presets[preset])
    build_on_meta(lambda: spec.build(spec.presets["paper"]))
    config = spec.presets["tiny"]
    segments = fake_segments(config, 3)
    check_module(lambda: spec.build(config), (segments,), (3, *_map_shape(config)))
    accepted = 0
    for segment_s in OTHER_SEGMENTS_S:
        other = type(config).model_validate(config.model_dump() | {"segment_s": segment_s})
        try:
            shape = _map_shape(other)
            segments = fake_segments(other, 2)
        except ConfigError:
            continue  # a refusal in one sentence is as good as an answer
        accepted += 1
        _check_clock(other)
        output = fresh(partial(spec.build, other))(segments)
        assert output.shape == (2, *shape), (
            f"'{name}' at {segment_s:g} s declares {(2, *shape)} and gives {tuple(output.shape)}"
        )
    assert accepted, f"'{name}' takes none of the segment lengths {OTHER_SEGMENTS_S}"


def check_aggregator(name: str) -> None:
    """Check that an aggregator gives one token per time step, and its gradients and files."""
    spec = registry().aggregator(name)
    check_spec("aggregators", spec)
    paper, tiny = (_feature_map(6, 12, dim) for dim in (768, 64))
    build_on_meta(lambda: spec.build(spec.presets["paper"], paper))
    features = torch.randn(3, tiny.steps, tiny.positions, tiny.dim)
    expected = (3, tiny.steps, tiny.dim)
    check_module(lambda: spec.build(spec.presets["tiny"], tiny), (features,), expected)


def check_head(name: str) -> None:
    """Check a head on several layouts, grids and widths, and its gradients and files."""
    spec = registry().head(name)
    check_spec("heads", spec)
    unknown = set(spec.stage2) - set(spec.presets)
    assert not unknown, f"'{name}' has stage 2 settings for presets it lacks: {sorted(unknown)}"
    build_on_meta(lambda: spec.build(spec.presets["paper"], _head_input(768, 768)))
    inputs = [
        _head_input(64, 64),
        _head_input(64, 32, SegmentLayout(num_segments=5), OffsetGrid(num_classes=11)),
        _head_input(64, 64, SegmentLayout(num_segments=3, segment_s=1.28, step_s=1.28)),
    ]
    for given in inputs:
        num = given.layout.num_segments
        audio, vision = (
            torch.randn(3, num * tokens.steps, tokens.dim) for tokens in (given.audio, given.vision)
        )
        classes = given.grid.num_classes if spec.task == "offset" else 2
        check_module(
            partial(spec.build, spec.presets["tiny"], given), (audio, vision), (3, classes)
        )


def check_objective(name: str) -> None:
    """Check a stage I objective on two small towers: a finite loss, gradients everywhere, files."""
    spec = registry().objective(name)
    check_spec("objectives", spec)
    build_on_meta(lambda: spec.build(spec.presets["paper"]))
    torch.manual_seed(0)
    audio, vision = any_tower("audio"), any_tower("vision")
    segments = (
        fake_segments(_config_of(tower), 6).unflatten(0, (2, 3)) for tower in (audio, vision)
    )
    batch = SegmentBatch(*segments)
    objective: nn.Module = fresh(lambda: spec.build(spec.presets["tiny"]))

    def run() -> dict[str, Tensor]:
        torch.manual_seed(1)  # an objective may mask at random
        return objective(audio, vision, batch, lambda tensor: tensor)

    with torch.no_grad():
        first = run()["loss"]
    scalars = run()
    assert "loss" in scalars, f"'{name}' returns no 'loss', but {sorted(scalars)}"
    for key, value in scalars.items():
        assert value.ndim == 0, f"'{name}' returns '{key}' of shape {tuple(value.shape)}"
        assert bool(value.isfinite()), f"'{name}' returns '{key}' = {float(value)}"
    assert torch.equal(first, scalars["loss"]), f"'{name}' differs from run to run"
    scalars["loss"].backward()
    for part in (objective, audio, vision):
        check_gradients(part)
    check_saving(objective, lambda: spec.build(spec.presets["tiny"]))


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
    check_spec("datasets", spec)
    adapter = spec.build(spec.presets["tiny"].model_copy(update=options or {}))
    with tempfile.TemporaryDirectory() as empty:
        for wrong in (Path(empty), Path(empty) / "missing"):
            try:
                found = list(adapter.scan(wrong))
            except ManifestError:
                continue
            raise AssertionError(f"'{name}' finds {len(found)} clips in {wrong}, which has none")
    if folder is not None:
        records = list(adapter.scan(folder))
        assert records, f"'{name}' finds no clip in {folder}"
        assert all(isinstance(record, ClipRecord) and record.path.exists() for record in records)
        assert records == list(adapter.scan(folder)), f"'{name}' finds another order every time"


def fake_segments(config: ExtractorConfig, num: int) -> Tensor:
    """Return random segments as the front end of an extractor would give them."""
    frontend = config.frontend
    if isinstance(frontend, Frames):
        shape = (num, 3, frontend.num_frames(config.segment_s), frontend.size, frontend.size)
        return torch.randn(shape)
    to_samples(config.segment_s, frontend.sample_rate_hz)
    return torch.randn(num, frontend.n_mels, frontend.num_frames(config.segment_s))


def any_tower(modality: str) -> Tower:
    """Build a small tower of the first extractor that is registered for a modality."""
    found = registry()
    extractor = next(spec for spec in found.extractors.values() if spec.modality == modality)
    aggregator = next(iter(found.aggregators.values()))
    parts = [
        Component(name=spec.name, config=spec.presets["tiny"].model_dump(mode="json"))
        for spec in (extractor, aggregator)
    ]
    config = TowerConfig(extractor=parts[0], aggregator=parts[1], projection_dim=32)
    return Tower(config, extractor.modality)


def _config_of(tower: Tower) -> ExtractorConfig:
    found = registry().extractors.values()
    return next(s for s in found if s.modality == tower.modality).presets["tiny"]


def _map_shape(config: ExtractorConfig) -> tuple[int, int, int]:
    declared = config.feature_map()
    return declared.steps, declared.positions, declared.dim


def _check_clock(config: ExtractorConfig) -> None:
    times_s = config.feature_map().times_s
    assert list(times_s) == sorted(set(times_s)), f"time steps do not rise: {times_s}"
    assert times_s[0] >= 0, f"a time step lies before the segment: {times_s}"
    assert times_s[-1] <= config.segment_s, f"a time step lies after the segment: {times_s}"


def _feature_map(steps: int, positions: int, dim: int) -> FeatureMap:
    times_s = tuple(round(0.1 * i, 6) for i in range(steps))
    return FeatureMap(times_s=times_s, positions=positions, dim=dim)


def _head_input(
    audio_dim: int,
    vision_dim: int,
    layout: SegmentLayout | None = None,
    grid: OffsetGrid | None = None,
) -> HeadInput:
    return HeadInput(
        audio=_feature_map(6, 1, audio_dim),
        vision=_feature_map(8, 1, vision_dim),
        layout=layout or SegmentLayout(),
        grid=grid or OffsetGrid(),
    )
