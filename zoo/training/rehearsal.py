"""Whether the parts of a recipe fit together, found out before anything starts.

The model is built on torch's meta device and run on segments without values: it takes no memory and
a second, whatever its size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from zoo.data.manifest import Clip
from zoo.errors import ConfigError, PluginError, TrainingError, ZooError
from zoo.models.model import SyncModel, Tower, build_component
from zoo.models.modules import SegmentBatch
from zoo.registry.manager import registry
from zoo.registry.plugin_files import reason_of
from zoo.timeline import (
    LATTICE_TOLERANCE,
    shortest_clip_s,
    shortest_unsynchronizable_s,
    to_frames,
    to_samples,
)
from zoo.training.recipe import Recipe

T = TypeVar("T")
log = logging.getLogger(__name__)


class _NeedsValuesError(Exception):
    """A component looks at the values of its input: it is first run in training."""


def check_fit(recipe: Recipe, stages: tuple[int, ...]) -> None:
    """Check that what a recipe is made of fits together: rates, lengths, widths, shapes.

    Raises:
        ConfigError: in the words of the component that does not fit, or naming the setting.
        PluginError: naming a component that cannot be built, or fails on what it is given.
    """
    with torch.device("meta"), torch.no_grad():
        model = SyncModel(recipe.model)
        _check_lattices(model, recipe)
        try:
            num = recipe.model.layout.num_segments
            tokens = [_rehearse_tower(tower, num) for tower in (model.audio, model.vision)]
            if 1 in stages:
                _rehearse_stage1(model, recipe)
            if 2 in stages:
                _rehearse_head(model, tokens)
        except _NeedsValuesError as error:
            log.debug("not rehearsed to the end: %s", error)


def check_lengths(recipe: Recipe, stages: tuple[int, ...], split: str, clips: list[Clip]) -> None:
    """Check that there is a clip long enough to train on; shorter ones are left out.

    Raises:
        TrainingError: if there is none.
    """
    layout, grid = recipe.model.layout, recipe.model.grid
    longest_s = max(clip.duration_s for clip in clips)
    contiguous = recipe.stage1_layout
    if 1 in stages and longest_s < contiguous.covered_s - LATTICE_TOLERANCE:
        raise TrainingError(
            f"not one {split} clip is long enough: the {contiguous.num_segments} segments of stage "
            f"1 need {contiguous.covered_s:g} s, the longest clip has {longest_s:.2f} s; take "
            "longer clips or fewer segments: --set stage1.num_segments=N"
        )
    needed_s = shortest_clip_s(layout, grid, recipe.vision_hop_s)
    wanted = f"offsets up to {grid.reach_s:g} s"
    if recipe.task == "synchronizability":
        twice_s = shortest_unsynchronizable_s(layout, recipe.vision_hop_s)
        if twice_s > needed_s:
            needed_s, wanted = twice_s, "one as long beside it"
    if 2 in stages and longest_s < needed_s - LATTICE_TOLERANCE:
        raise TrainingError(
            f"not one {split} clip is long enough: a crop of {layout.covered_s:g} s and {wanted} "
            f"need {needed_s:g} s, the longest clip has {longest_s:.2f} s; take longer clips or "
            "fewer segments: --set layout.num_segments=N"
        )


def _check_lattices(model: SyncModel, recipe: Recipe) -> None:
    """Segments and offsets must start on whole audio samples, and on video frames."""
    fps, rate = model.vision_frontend.fps, model.audio_frontend.sample_rate_hz
    step_s = recipe.model.layout.step_s
    try:
        to_samples(step_s, rate)
        to_frames(step_s, fps)
    except ConfigError as error:
        raise ConfigError(f"layout.step_s: {error}") from None
    try:
        to_frames(recipe.vision_hop_s, fps)
    except ConfigError as error:
        raise ConfigError(f"data.vision_hop_s: {error}") from None
    is_stored = recipe.data.features == "store"
    for offset_s in recipe.model.grid.offsets_s:
        try:
            to_samples(offset_s, rate)
            if is_stored:
                to_frames(offset_s, fps)
        except ConfigError as error:
            other = ", or take --features online" if is_stored else ""
            raise ConfigError(
                f"grid, the class of {offset_s:g} s: {error}; choose other grid.min_s, grid.max_s "
                f"and grid.num_classes{other}"
            ) from None


def _rehearse_stage1(model: SyncModel, recipe: Recipe) -> None:
    if not model.can_compare:
        widths = f"{model.audio.tokens.dim} and {model.vision.tokens.dim}"
        raise ConfigError(
            f"stage 1 compares tokens of both modalities, and theirs are {widths} wide: set "
            "model.audio.projection_dim and model.vision.projection_dim to one width, or train "
            "stage 2 only"
        )
    given = recipe.stage1.objective
    spec = registry().objective(given.name)
    objective = build_component("objective", spec, given.parse(spec))
    towers = model.audio, model.vision
    batch = SegmentBatch(*(_segments(tower, 2) for tower in towers))
    scalars = _try("objective", given.name, lambda: objective(*towers, batch, lambda x: x))
    if "loss" not in scalars:
        raise PluginError(
            f"objective '{given.name}' gives no 'loss', but {sorted(scalars)}; "
            f"see: zoo plugin check {given.name}"
        )


def _rehearse_head(model: SyncModel, tokens: list[Tensor]) -> None:
    assert model.head is not None
    assert model.config.head is not None
    head, name = model.head, model.config.head.name
    logits = _try("head", name, lambda: head(*tokens))
    classes = model.config.grid.num_classes if model.task == "offset" else 2
    if tuple(logits.shape) != (2, classes):
        raise PluginError(
            f"head '{name}' must give {('B', classes)} and gives {tuple(logits.shape)}; "
            f"see: zoo plugin check {name}"
        )


def _segments(tower: Tower, num: int) -> Tensor:
    """Return segments of two clips."""
    return torch.empty(2, num, *tower.frontend.segment_shape(tower.segment_s))


def _rehearse_tower(tower: Tower, num: int) -> Tensor:
    """Return the tokens of two clips of some segments."""
    segments, config = _segments(tower, num), tower.config
    run = partial(tower.extractor, segments.flatten(0, 1))
    features = _try("extractor", config.extractor.name, run)
    tokens = _try("aggregator", config.aggregator.name, partial(tower.tokens_from, features))
    return tokens.unflatten(0, (2, num)).flatten(1, 2)


def _try(kind: str, name: str, run: Callable[[], T]) -> T:
    """Run a component without values."""
    try:
        return run()
    except ZooError:
        raise
    except Exception as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            raise _NeedsValuesError(f"{kind} '{name}': {error}") from error
        raise PluginError(
            f"{kind} '{name}' fails on what it is given: {reason_of(error)}; "
            f"see: zoo plugin check {name}"
        ) from error
