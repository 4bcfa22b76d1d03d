"""From a search to trainings: every point becomes a recipe, checked before anything is trained."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestration.tune.search import LENGTH, OVERLAP, Params, Search
from zoo.contracts import Spec
from zoo.errors import ConfigError, ZooError, option
from zoo.models.config import explain
from zoo.models.cost import ModelCost, model_cost
from zoo.registry.manager import registry
from zoo.timeline import common_hop_s, count_steps, nearby_lengths_s, overlapping_segments
from zoo.training.recipe import Recipe, Stage1Config, read_recipe
from zoo.training.request import TrainRequest, check_shares, draft_recipe, recipe_of
from zoo.training.run_folder import RECIPE, REQUEST

ENCODERS, FORMER_ENCODERS, TRIALS = "encoders", "towers", "trials"
STEPWISE = {"decay", "decay_from", "decay_every"}
LATER = {  # settings of stage I that searches of earlier versions did not have
    *("optimizer", "rates", "random_crop", "noise", "roll"),
    *("frame_choices", "mask_bins", "mask_frames"),
    *("warmup_from", "momentum", "layer_decay", "scale_jitter", "colour_jitter", "grey"),
    *("mask_bins_times", "mask_frames_times", "mask_fill", "sampling", "share"),
}
PARTS = ("extractor", "head", "aggregator", "objective", "preset")
"""Names of a space that are options of ``zoo train``; others are what one types as ``--set``."""
_FURTHEST = 64  # frames to look for a length that an extractor can take


@dataclass(frozen=True)
class Point:
    """What one point of a search trains.

    Attributes:
        params: where it lies in the space.
        request: options of ``zoo train`` that train it alone; the seed is yet to be filled in.
        recipe: what they come to.
        stages: which are trained.
        cost: of the model; None if it looks at the values of its input, which has none here.
    """

    params: Params
    request: TrainRequest
    recipe: Recipe
    stages: tuple[int, ...]
    cost: ModelCost | None

    @property
    def name(self) -> str:
        """What the point is called."""
        return name_of(self.params)

    @property
    def has_stage1(self) -> bool:
        """Whether there is a stage I, which other points may share."""
        return 1 in self.stages

    def for_seed(self, seed: int) -> TrainRequest:
        """Return the options that train this point alone with a seed."""
        return self.request.model_copy(update={"seed": seed})

    def encoder_request(self, seed: int) -> TrainRequest:
        """Return the options that train only what other points may share."""
        return self.request.model_copy(update={"stage": "1", "seed": seed})

    def head_request(self, seed: int, encoder: Path) -> TrainRequest:
        """Return the options that train the rest, on an encoder that is there."""
        given = {"stage": "2", "seed": seed, "init": (str(encoder),), "init_positions": None}
        return self.request.model_copy(update=given)

    def encoder_folder(self, out: Path, seed: int) -> Path:
        """Return where stage I of this point lies: the same for all that share it."""
        name = f"{self.recipe.model.layout.segment_s:g}s-{self.key}"
        folder = out / ENCODERS / name / f"seed-{seed}"
        if folder.exists() or not (out / FORMER_ENCODERS).exists():
            return folder
        former = (out / FORMER_ENCODERS).glob(f"*/seed-{seed}")  # of an earlier version
        return next((run for run in former if _key_of_run(run) == self.key), folder)

    def folder(self, out: Path, seed: int) -> Path:
        """Return the folder of one training of this point."""
        return folder_of(out, self.params, seed)

    @property
    def key(self) -> str:
        """Hash of all that stage I and the features depend on."""
        return _encoder_key(self.recipe, self.request)


def _encoder_key(recipe: Recipe, request: TrainRequest) -> str:
    # Without what is not used, the keys of searches begun before stay what they are.
    unused = {n for n in LATER if getattr(recipe.stage1, n) == Stage1Config.model_fields[n].default}
    unused |= set() if recipe.stage1.schedule == "step" else STEPWISE
    encoder = recipe.model.encoder.model_dump(mode="json")
    if encoder["config"].get("siamese") is False:
        del encoder["config"]["siamese"]
    decisive = {
        "encoder": encoder,
        "objective": recipe.objective.model_dump(mode="json"),
        "segment_s": recipe.model.layout.segment_s,
        "stage1": recipe.stage1.model_dump(mode="json", exclude=unused),
        "precision": recipe.precision,
        "overfit": recipe.overfit,
        "start": [request.data, request.init, request.init_positions],
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]


def _key_of_run(run: Path) -> str | None:
    """Return the key of a stage I that was begun; None if it cannot be read."""
    try:
        return _encoder_key(read_recipe(run / RECIPE), TrainRequest.read(run / REQUEST))
    except ZooError:
        return None


def name_of(params: Mapping[str, Any]) -> str:
    """Say where a point lies."""
    return ", ".join(
        f"{name} {value:g} s"
        if name == LENGTH
        else f"{name} {value:.4g}"
        if isinstance(value, float)
        else f"{name} {value}"
        for name, value in params.items()
    )


def folder_of(out: Path, params: Mapping[str, Any], seed: int) -> Path:
    """Return the folder of one training of a point."""
    return out / TRIALS / slug_of(params) / f"seed-{seed}"


def slug_of(params: Mapping[str, Any]) -> str:
    """Return a name for the folder of a point."""
    text = re.sub(r"[^a-z0-9.]+", "-", name_of(params).lower().replace(" s,", ",")).strip("-")
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:6]
    return f"{text[:60].rstrip('-')}-{digest}"


def resolve(search: Search, params: Params, gpus_per_worker: float, workers: int = 1) -> Point:
    """Turn a point into a recipe, and check that its parts fit together.

    Raises:
        ZooError: naming the point and what does not fit.
    """
    try:
        base = _base_of(search)
        settings = dict(base.set)
        for name, value in settings_of(search, params, base, gpus_per_worker).items():
            if name not in PARTS:
                settings |= dict.fromkeys(_full_names(name), value)
        request = base.model_copy(update={**_parts(params), "set": settings})
        recipe = recipe_of(request, gpus_per_worker)
        stages = request.stages(recipe)
        if 2 not in stages:
            raise ConfigError("stage 1 alone has no head whose scores count; leave out 'stage'")
        if stages == (2,) and request.init is None and recipe.stage2.is_frozen:
            raise ConfigError(
                "stage 2 needs an encoder", f"leave out 'stage', or add {option('init')}"
            )
        check_shares(recipe, stages, workers, "workers_per_trial")
        return Point(params, request, recipe, stages, _cost_of(recipe))
    except ZooError as error:
        raise error.within(name_of(params)) from error


def _base_of(search: Search) -> TrainRequest:
    """Return the options of ``zoo train`` that all points share."""
    return search.base.model_copy(update={"data": search.data})


def _parts(params: Params) -> dict[str, Any]:
    """Return what a point says of the options of ``zoo train``."""
    given = {name: params[name] for name in PARTS if name in params}
    try:
        TrainRequest.model_validate(given)
    except ValidationError as error:
        raise ConfigError(explain(error, "space.", TrainRequest)) from None
    return given


def _cost_of(recipe: Recipe) -> ModelCost | None:
    try:
        return model_cost(recipe.model)
    except (NotImplementedError, RuntimeError):
        return None


def _full_names(name: str) -> list[str]:
    """Return what a setting is called; one of an aggregator is set for both modalities."""
    if not name.startswith("aggregator."):
        return [name]
    field = name.removeprefix("aggregator.")
    return [f"model.{modality}.aggregator.config.{field}" for modality in ("audio", "vision")]


def settings_of(
    search: Search, params: Params, base: TrainRequest, gpus_per_worker: float
) -> dict[str, Any]:
    """Return what a point sets; a segment length and an overlap decide the layout (table 3)."""
    if not search.is_segment_length:
        return dict(params)
    assert search.input_s is not None
    length_s, overlap = float(params[LENGTH]), float(params[OVERLAP])  # type: ignore[arg-type]
    start = draft_recipe(base, gpus_per_worker)
    if start.model.two_tower() is None:
        raise ConfigError(
            f"the encoder '{start.model.encoder.name}' has no extractors whose segments could have "
            "another length: search for its own settings, named in a file"
        )
    fps = start.model.vision_fps
    layouts = {
        other: overlapping_segments(search.input_s, length_s, other, fps)
        for other in search.overlaps()
    }
    layout = layouts[overlap]
    if layout is None:
        raise ConfigError(
            f"{option('input_seconds')} {search.input_s:g} is shorter than one segment"
        )
    steps_s = [other.step_s for other in layouts.values() if other is not None]
    if layout.num_segments == 1:  # of a single segment the step says nothing
        steps_s.append(start.vision_hop_s)
    settings: dict[str, Any] = {
        "layout.segment_s": length_s,
        "layout.step_s": layout.step_s,
        "layout.num_segments": layout.num_segments,
        "data.vision_hop_s": common_hop_s(steps_s, fps),
    }
    if "stage1.num_segments" not in search.base.set:  # as many seconds of a clip as the base
        seconds = start.stage1_layout.covered_s
        settings["stage1.num_segments"] = max(1, count_steps(seconds, length_s, length_s))
    return settings


def check_space(search: Search, gpus_per_worker: float, workers: int = 1) -> list[Point]:
    """Resolve all points of a grid, or the corners of what Optuna may propose.

    Raises:
        ZooError: naming the first that cannot be trained, and for a segment length the nearest one
            that can.
    """
    wanted = search.grid() if search.search == "grid" else _corners(search)
    points = []
    for params in wanted:
        try:
            points.append(resolve(search, params, gpus_per_worker, workers))
        except ZooError as error:
            nearest_s = _nearest_length_s(search, params, gpus_per_worker)
            if nearest_s is None:
                raise
            told = f"the nearest length that can be taken is {nearest_s:g} s"
            raise type(error)(error.message, told) from error
    tasks = dict.fromkeys(point.recipe.task.name for point in points)
    if len(tasks) > 1:
        raise ConfigError(
            f"the points of a search must answer the same question: {', '.join(tasks)} cannot be "
            "compared"
        )
    if search.goal == "accuracy-cost" and any(point.cost is None for point in points):
        raise ConfigError(
            f"{option('goal')} accuracy-cost: the operations of this model cannot be counted, "
            "since a component looks at the values of its input"
        )
    names: dict[str, Params] = {}
    for point in points:
        text = json.dumps(point.recipe.model_dump(mode="json"), sort_keys=True)
        if search.search == "grid" and text in names:
            raise ConfigError(
                f"{name_of(point.params)} and {name_of(names[text])} are the same in whole frames; "
                "leave one out"
            )
        names[text] = point.params
    return points


def _corners(search: Search) -> list[Params]:
    """Return points in which every value that the space names occurs."""
    first = {name: dimension.extremes[0] for name, dimension in search.space.items()}
    wanted = [first]
    for name, dimension in search.space.items():
        wanted += [{**first, name: value} for value in dimension.extremes[1:]]
    return wanted


def _nearest_length_s(search: Search, params: Params, gpus_per_worker: float) -> float | None:
    """Return the nearest segment length that can be trained, if it is the length that cannot."""
    if search.input_s is None:
        return None
    try:
        start = draft_recipe(_base_of(search), gpus_per_worker)
    except ZooError:
        return None
    length_s = float(params[LENGTH])  # type: ignore[arg-type]
    if start.model.two_tower() is None:
        return None
    if length_s <= search.input_s and _can_take(start, length_s):
        return None
    for other_s in nearby_lengths_s(length_s, start.model.vision_fps, _FURTHEST):
        if not _can_take(start, other_s):
            continue
        try:
            resolve(search, {**params, LENGTH: other_s}, gpus_per_worker)
        except ZooError:
            continue
        return other_s
    return None


def _can_take(recipe: Recipe, length_s: float) -> bool:
    """Say quickly whether both extractors can take segments of some length."""
    pair = recipe.model.two_tower()
    assert pair is not None
    for part in (pair.audio, pair.vision):
        config = part.extractor_config().model_copy(update={"segment_s": length_s})
        try:
            config.feature_map()
        except ZooError:
            return False
    return True


def default_space(
    base: TrainRequest, kinds: tuple[str, ...], gpus_per_worker: float
) -> dict[str, Any]:
    """Return what the plugins of a recipe offer to a search.

    Args:
        base: options of ``zoo train``.
        kinds: of ``audio``, ``vision`` and ``aggregator`` or else ``encoder``, ``head``,
            ``objective``, ``task``.
        gpus_per_worker: as for `recipe_of`.

    Raises:
        ConfigError: for another kind, or a component that offers nothing.
    """
    recipe = draft_recipe(base, gpus_per_worker)
    model, found, pair = recipe.model, registry(), recipe.model.two_tower()
    assert model.head is not None
    offers: dict[str, tuple[str, Spec]] = {}
    if pair is None:
        offers["encoder"] = ("encoder.", found.find("encoders", model.encoder.name))
    else:
        offers |= {
            "audio": ("audio.", found.extractor(pair.audio.extractor.name)),
            "vision": ("vision.", found.extractor(pair.vision.extractor.name)),
            "aggregator": ("aggregator.", found.aggregator(pair.audio.aggregator.name)),
        }
    offers |= {
        "head": ("head.", found.head(model.head.name)),
        "objective": ("stage1.objective.config.", found.objective(recipe.objective.name)),
        "task": ("task.", recipe.task),
    }
    space: dict[str, Any] = {}
    for kind in kinds:
        if kind not in offers:
            raise ConfigError(f"'defaults': there is no '{kind}'; there are {', '.join(offers)}")
        prefix, spec = offers[kind]
        if not spec.search:
            raise ConfigError(f"'defaults: {kind}': '{spec.name}' offers nothing to a search")
        space |= {f"{prefix}{name}": dimension for name, dimension in spec.search.items()}
    return space
