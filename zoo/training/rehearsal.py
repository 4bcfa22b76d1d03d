"""Whether the parts of a recipe fit together, found out before anything starts.

The model is built on torch's meta device and run on segments without values: it takes no memory and
a second, whatever its size.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TypeVar

import torch
from torch import Tensor

from zoo.contracts import Frames
from zoo.data.manifest import Clip
from zoo.data.samples import too_short
from zoo.errors import ConfigError, PluginError, TrainingError, ZooError, option
from zoo.models.config import ModelConfig
from zoo.models.model import Model, build_objective, build_task
from zoo.models.segments import Segments, Tokens
from zoo.models.two_tower import ExtractorEncoder, TwoTower
from zoo.models.without_values import without_values
from zoo.registry.manager import Registry, registry
from zoo.registry.plugin_files import reason_of
from zoo.timeline import LATTICE_TOLERANCE, to_frames, to_samples
from zoo.training.mixing import require_answers
from zoo.training.optimise import factors_of
from zoo.training.recipe import Recipe

REMEMBERED = 256  # models that are known to fit
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
    model, is_stored = recipe.model.model_dump_json(), recipe.data.features == "store"
    _check_parts(model, recipe.vision_hop_s, is_stored, stages, registry())
    if 2 in stages:
        _check_labels(recipe)
        _check_answers(recipe)
    for stage, config in ((1, recipe.stage1), (2, recipe.stage2)):
        if stage in stages and config.scales:
            _check_scales(recipe, stage, config.scale_jitter[0])
        if stage in stages and (config.rates or config.layer_decay < 1):
            _check_rates(recipe, stage)


def _check_labels(recipe: Recipe) -> None:
    """Check that a task has labels where a recipe mixes, smooths or balances them."""
    config, task = recipe.stage2, recipe.task
    used = [n for n in ("mixup", "label_smoothing", "balanced") if getattr(config, n)]
    assert recipe.model.task is not None
    built = build_task(recipe.model.task)
    if config.sampling != "aligned" and not built.answers_for_clip:
        raise ConfigError(
            f"stage2.sampling={config.sampling} is for tasks whose answer is the same all over a "
            f"clip, and a model of the task '{task.name}' {built.says}",
            "leave it out",
        )
    if used and not built.has_labels:
        raise ConfigError(
            f"stage2.{used[0]} needs labels, and the task '{task.name}' has none",
            f"leave out {option('set')} stage2.{used[0]}",
        )


def _check_scales(recipe: Recipe, stage: int, smallest: float) -> None:
    """Check that frames stay as large as the crop."""
    vision = recipe.model.encoder_config().io().vision.frontend
    assert isinstance(vision, Frames)
    if int(vision.short_side * smallest) < vision.size:
        raise ConfigError(
            f"stage{stage}.scale_jitter makes frames of {vision.short_side} pixels as small as "
            f"{int(vision.short_side * smallest)}, and the crop has {vision.size}",
            f"begin with {math.ceil(100 * vision.size / vision.short_side) / 100:g} or more",
        )


def _check_answers(recipe: Recipe) -> None:
    """Check that the head answers for each modality where each has labels of its own."""
    if not recipe.stage2.has_own_labels:
        return
    with without_values():
        model = Model(recipe.model)
        assert model.head is not None
        assert model.config.head is not None
        try:
            outputs = model.head.train()(*_rehearse_encoder(model))
        except (_NeedsValuesError, NotImplementedError):
            return  # looked at again in training
    require_answers(outputs.shape, model.config.head.name)


def _check_rates(recipe: Recipe, stage: int) -> None:
    """Check that ``rates`` and ``layer_decay`` are about parameters that the stage trains."""
    with without_values():
        model = Model(recipe.model)
        assert model.config.objective is not None
        if stage == 1:
            objective = build_objective(model.config.objective, model.encoder)
            parts = {"encoder": model.encoder, "objective": objective}
        else:
            assert model.head is not None
            trained = {} if recipe.stage2.is_frozen else {"encoder": model.encoder}
            parts = {"head": model.head, **trained}
        names = [
            f"{part}.{n}" for part, module in parts.items() for n, _ in module.named_parameters()
        ]
    config = recipe.stage1 if stage == 1 else recipe.stage2
    encoder = model.encoder if "encoder" in parts else None
    try:
        factors_of(names, config, encoder)
    except ConfigError as error:
        raise error.within(f"stage{stage}") from None


@lru_cache(maxsize=REMEMBERED)
def _check_parts(
    model_json: str,
    vision_hop_s: float,
    is_stored: bool,
    stages: tuple[int, ...],
    _registry: Registry,
) -> None:
    """Check once what the points of a search and the seeds of a table have in common."""
    config = ModelConfig.model_validate_json(model_json)
    if 2 not in stages:  # whose head need not fit
        config = config.model_copy(update={"head": None})
    with without_values():
        model = Model(config)
        _check_lattices(model, vision_hop_s, is_stored)
        if is_stored:
            _check_store(model)
        try:
            tokens = _rehearse_encoder(model)
            if 1 in stages:
                _rehearse_stage1(model)
            if 2 in stages:
                _rehearse_head(model, tokens)
        except _NeedsValuesError as error:
            log.debug("not rehearsed to the end: %s", error)


def _check_store(model: Model) -> None:
    if not model.encoder.is_separable:
        raise ConfigError(
            f"the encoder '{model.config.encoder.name}' looks at both modalities at once, so its "
            f"tokens cannot come from a feature store: add {option('features')} online"
        )


def check_clips(recipe: Recipe, stages: tuple[int, ...], split: str, clips: list[Clip]) -> None:
    """Check that there is a clip that the task can be trained on; others are left out.

    Raises:
        TrainingError: if not one clip is long enough, or has what the task needs.
    """
    for column in recipe.task.columns if 2 in stages else ():
        if not any(clip.has(column) for clip in clips):
            raise TrainingError(
                f"the task '{recipe.task.name}' needs the column '{column}' of the manifest, and "
                f"not one {split} clip has it"
            )
    layout = recipe.model.layout
    longest_s = max(clip.duration_s for clip in clips)
    contiguous = recipe.stage1_layout
    if 1 in stages and longest_s < contiguous.shortest_s - LATTICE_TOLERANCE:
        raise TrainingError(
            f"not one {split} clip is long enough: the {contiguous.num_segments} segments of stage "
            f"1 need {contiguous.shortest_s:g} s, the longest clip has {longest_s:.2f} s; take "
            f"longer clips or fewer segments: {option('set')} stage1.num_segments=N"
        )
    assert recipe.model.task is not None
    need = build_task(recipe.model.task).need(layout, recipe.vision_hop_s)
    if 2 in stages and longest_s < need.seconds - LATTICE_TOLERANCE:
        told = too_short(split, layout, need.words, need.seconds, [longest_s])
        raise TrainingError(
            f"{told}; take longer clips or fewer segments: {option('set')} layout.num_segments=N"
        )


def _check_lattices(model: Model, vision_hop_s: float, is_stored: bool) -> None:
    """Segments and offsets must start on whole audio samples, and on video frames."""
    fps, rate = model.vision_frontend.fps, model.audio_frontend.sample_rate_hz
    step_s = model.config.layout.step_s
    try:
        to_samples(step_s, rate)
        to_frames(step_s, fps)
    except ConfigError as error:
        raise ConfigError(f"layout.step_s: {error}") from None
    try:
        to_frames(vision_hop_s, fps)
    except ConfigError as error:
        raise ConfigError(f"data.vision_hop_s: {error}") from None
    grid = None if model.task is None else model.task.grid
    for offset_s in () if grid is None else grid.offsets_s:
        try:
            to_samples(offset_s, rate)
            if is_stored:
                to_frames(offset_s, fps)
        except ConfigError as error:
            other = f", or take {option('features')} online" if is_stored else ""
            raise ConfigError(
                f"grid, the class of {offset_s:g} s: {error}; choose other grid.min_s, grid.max_s "
                f"and grid.num_classes{other}"
            ) from None


def _rehearse_stage1(model: Model) -> None:
    assert model.config.objective is not None
    name = model.config.objective.name
    objective = build_objective(model.config.objective, model.encoder)
    segments = _segments(model, 2)
    scalars = _try(
        "objective", name, lambda: objective(model.encoder, segments, lambda tensor: tensor)
    )
    if "loss" not in scalars:
        raise PluginError(
            f"objective '{name}' gives no 'loss', but {sorted(scalars)}; "
            f"see: zoo plugin check {name}"
        )


def _rehearse_head(model: Model, tokens: tuple[Tokens, Tokens]) -> None:
    assert model.head is not None
    assert model.config.head is not None
    assert model.task is not None
    head, name = model.head, model.config.head.name
    wanted = model.task.num_outputs
    for is_training in (False, True):
        outputs = _try("head", name, partial(head.train(is_training), *tokens))
        shape = tuple(outputs.shape)
        may_be = [(2, wanted), (2, *shape[1:2], wanted)] if is_training else [(2, wanted)]
        if shape not in may_be:
            raise PluginError(
                f"head '{name}' must give {('B', wanted)} and gives {shape}; "
                f"see: zoo plugin check {name}"
            )


def _segments(model: Model, num: int) -> Segments:
    """Return segments of two clips, without values."""
    io = model.io
    return Segments(*(torch.empty(2, num, *x.segment_shape) for x in (io.audio, io.vision)))


def _rehearse_encoder(model: Model) -> tuple[Tokens, Tokens]:
    """Return the tokens of two clips."""
    num, encoder = model.config.layout.num_segments, model.encoder
    segments = _segments(model, num)
    if not isinstance(encoder, TwoTower):
        name = model.config.encoder.name
        given = _try("encoder", name, lambda: encoder(segments))
        for tokens, io in zip(given, (model.io.audio, model.io.vision), strict=True):
            shape = (2, num, io.tokens.steps, io.tokens.positions, io.tokens.dim)
            if tuple(tokens.values.shape) != shape:
                raise PluginError(
                    f"encoder '{name}' declares {('B', *shape[1:])} and gives "
                    f"{tuple(tokens.values.shape)}; see: zoo plugin check {name}"
                )
        audio, vision = given
        return audio, vision
    pairs = ((encoder.audio, segments.audio), (encoder.vision, segments.vision))
    audio, vision = (_rehearse_extractor(part, given) for part, given in pairs)
    return audio, vision


def _rehearse_extractor(part: ExtractorEncoder, segments: Tensor) -> Tokens:
    config = part.config
    run = partial(part.extractor, segments.flatten(0, 1))
    features = _try("extractor", config.extractor.name, run)
    tokens = _try("aggregator", config.aggregator.name, partial(part.tokens_from, features))
    return Tokens.of_segments(tokens, segments.shape[1], part.tokens)


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
