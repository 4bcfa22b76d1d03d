"""What is asked of a training, and the recipe that it comes to, checked before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator

from zoo.contracts import (
    ComponentConfig,
    EncoderSpec,
    HeadSpec,
    NamedRecipe,
    PairSpec,
    Positions,
    TaskConfig,
    TaskSpec,
)
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError, option, suggest
from zoo.files import write_whole
from zoo.models.config import Component, ModelConfig
from zoo.models.model import build_task
from zoo.models.settings import split_assignment
from zoo.registry.manager import registry
from zoo.training.overrides import override
from zoo.training.recipe import Preset, Recipe
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit
from zoo.training.start import DEFAULT_POSITIONS, check_start, config_of_start

_FORMER = {"settings": "set"}  # fields of a request that were called otherwise


class TrainRequest(ComponentConfig):
    """The options of a training that decide what is learnt; None is the default."""

    extractor: str | None = Field(None, description="encoder, or audio+vision")
    data: str | None = Field(None, description="manifest of the clips")
    head: str | None = None
    aggregator: str | None = None
    objective: str | None = Field(None, description="of stage 1")
    task: str | None = Field(None, description="of stage 2")
    stage: Literal["1", "2", "all"] | None = None
    init: tuple[str, ...] | None = Field(None, description="models or weights to start from")
    init_positions: Positions | None = None
    preset: Preset | None = None
    recipe: str | None = Field(None, description="training of the encoder on one data set")
    features: Literal["store", "online"] | None = None
    overfit: int | None = Field(None, gt=0, description="clips")
    seed: int | None = Field(None, ge=0)
    set: dict[str, JsonValue] = Field(default_factory=dict, description="as --set: stage2.lr: 1e-3")

    @field_validator("stage", mode="before")
    @classmethod
    def _stage_as_text(cls, stage: Any) -> Any:
        return str(stage) if isinstance(stage, int) else stage

    @field_validator("init", mode="before")
    @classmethod
    def _one_or_several(cls, init: Any) -> Any:
        return (init,) if isinstance(init, str) else init

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for: a resumed run then keeps all it had."""
        return self == TrainRequest()

    @property
    def positions(self) -> Positions:
        """How tables of positions of published extractors are brought to their length."""
        return self.init_positions or DEFAULT_POSITIONS

    @property
    def assignments(self) -> list[str]:
        """The settings as ``key=value``."""
        return [f"{key}={_as_typed(value)}" for key, value in self.set.items()]

    def stages(self, recipe: Recipe) -> tuple[int, ...]:
        """Return the stages to train: by default both, or stage 2 if the encoder needs no other."""
        named, is_tuning = self.named_recipe(), recipe.task.fine_tunes and self.init is not None
        stage = self.stage or (None if named is None else named.stage)
        if stage is None and (is_tuning or not recipe.stage2.is_frozen):
            return (2,)
        return (1, 2) if stage in {None, "all"} else (int(stage or 0),)

    def named_recipe(self) -> NamedRecipe | None:
        """Return the training by name that is asked for.

        Raises:
            ConfigError: if the encoder has no such recipe.
        """
        if self.recipe is None:  # what a run starts from may be gone when it is resumed
            return None
        start = None if self.extractor is not None else _start_of(self)
        name = self.extractor or (None if start is None else start.encoder.name)
        if name is None:
            return None
        known = registry().encoder(name).recipes
        if self.recipe not in known:
            raise ConfigError(
                f"{option('recipe')} '{self.recipe}': the encoder '{name}' has "
                f"{'only ' + ', '.join(known) if known else 'none'}{suggest(self.recipe, known)}"
            )
        return known[self.recipe]

    def with_recipe(self) -> TrainRequest:
        """Return it with what its recipe says, where nothing else is asked for.

        Raises:
            ConfigError: if the encoder has no such recipe.
        """
        named = self.named_recipe()
        if named is None:
            return self
        manifest = _training_clips(self)
        settings = named.settings(named.clips if manifest is None else len(manifest.clips))
        return self.model_copy(
            update={
                "recipe": None,
                "stage": self.stage or named.stage,
                "task": self.task or named.task,
                "head": self.head or named.head,
                "preset": self.preset or named.preset,
                "set": {**settings, **self.set},
            }
        )

    def over(self, saved: TrainRequest) -> TrainRequest:
        """Put what is asked for now over what was asked for when the run began."""
        mine = self.model_dump(exclude_none=True, exclude={"set"})
        return saved.model_copy(update={**mine, "set": {**saved.set, **self.set}})

    def words(self) -> list[str]:
        """Write the request as options of ``zoo train``."""
        given = self.model_dump(exclude_none=True, exclude={"set"})
        words = []
        for name, value in given.items():
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{name.replace('_', '-')}", str(one)]
        return words + [word for text in self.assignments for word in ("--set", text)]

    def write(self, path: Path) -> None:
        """Keep the request beside the run."""
        write_whole(path, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> TrainRequest:
        """Read a request kept beside a run, of this or an earlier version.

        Raises:
            TrainingError: if it is missing or damaged.
        """
        try:
            data = {_FORMER.get(k, k): v for k, v in json.loads(path.read_text()).items()}
            settings = data.get("set") or {}
            if not isinstance(settings, dict):  # a list of key=value
                data["set"] = dict(text.split("=", 1) for text in settings)
            return cls.model_validate({k: v for k, v in data.items() if k in cls.model_fields})
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(f"cannot resume: {path} cannot be read ({reason})") from None


def read_settings(assignments: Iterable[str]) -> dict[str, JsonValue]:
    """Return ``key=value`` assignments as a table.

    Raises:
        ConfigError: if one is not of that form.
    """
    return dict(map(split_assignment, assignments))


def _as_typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def recipe_of(request: TrainRequest, gpus_per_worker: float) -> Recipe:
    """Resolve a request to a recipe, and check that its parts fit together.

    Raises:
        ConfigError: if an option is missing, unknown or does not fit.
        PluginError: for an unknown component.
        ModelError: if the model to start from cannot be read.
    """
    recipe = draft_recipe(request, gpus_per_worker)
    stages = request.stages(recipe)
    check_fit(recipe, stages)
    needs_encoder = stages == (2,) and recipe.stage2.is_frozen
    if needs_encoder and request.init and _start_of(request) is None:
        raise ConfigError(
            f"{option('stage')} 2 needs the encoder of stage 1, and {option('init')} names weights "
            "that stage 1 starts from only",
            "train both stages",
        )
    check_start(request.init or (), request.positions, recipe)
    return recipe


def draft_recipe(request: TrainRequest, gpus_per_worker: float) -> Recipe:
    """Resolve a request to a recipe whose parts may not fit together.

    Raises:
        ZooError: as `recipe_of`.
    """
    request = request.with_recipe()
    start = _start_of(request)
    extractor = request.extractor
    if extractor is None:
        if start is None:
            raise ConfigError(
                f"say what to train: {option('extractor')} NAME (see: zoo list extractors)"
            )
        extractor = start.encoder.name
    recipe = build_recipe(
        extractor=extractor,
        head=request.head or _head_from(request, start),
        preset=request.preset or "tiny",
        aggregator=request.aggregator,
        objective=request.objective,
        task=request.task,
        seed=1337 if request.seed is None else request.seed,
    )
    if start is not None:
        recipe = _from_start(recipe, start.completed(), request)
    settings = request.assignments
    if request.features is not None:
        settings.append(f"data.features={request.features}")
    if request.overfit is not None:
        settings.append(f"overfit={request.overfit}")
    if gpus_per_worker > 0 and "precision" not in request.set:
        settings.insert(0, "precision=bf16")
    recipe = override(recipe, settings)
    if start is not None:
        _check_siamese(recipe, start, request)
    return _fitted(recipe, request)


def _fitted(recipe: Recipe, request: TrainRequest) -> Recipe:
    """Fill in what the task leaves to the layout, and to the training clips, if they are there."""
    spec = recipe.task
    manifest = None if spec.fit is None else _training_clips(request)
    if spec.fit_layout is None and manifest is None:
        return recipe
    config = recipe.model.task_config()
    if spec.fit_layout is not None:
        config = spec.fit_layout(config, recipe.model.layout)
    if spec.fit is not None and manifest is not None:
        config = spec.fit(_with_classes(spec, config, manifest), manifest.clips)
    task = Component.of(spec, config)
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"task": task})})


def _training_clips(request: TrainRequest) -> Manifest | None:
    """Return the clips to train on, where the manifest is at hand."""
    if request.data is None or not Path(request.data).exists():
        return None
    return Manifest.read(Path(request.data)).select("train")


def _with_classes(spec: TaskSpec, config: TaskConfig, manifest: Manifest) -> TaskConfig:
    """Fill in the classes that the data set lists, so that outputs keep their published order."""
    field = spec.class_field
    if field is None or not manifest.classes or getattr(config, field):
        return config
    return config.model_copy(update={field: manifest.classes})


def _start_of(request: TrainRequest) -> ModelConfig | None:
    """Return the config of the whole model to start from, if there is one."""
    if request.init is None:
        if request.init_positions is not None:
            raise ConfigError(f"{option('init_positions')} needs {option('init')}")
        return None
    return config_of_start(request.init)


def _head_from(request: TrainRequest, start: ModelConfig | None) -> str | None:
    """Return the head of a task that starts from the head of a trained model; None if none does."""
    if request.task is None or start is None or start.head is None:
        return None
    name = start.head.name
    own = registry().head(name)
    if request.task in own.tasks:
        return name if registry().task(request.task).fine_tunes else None
    found = [h.name for h in registry().heads_of(request.task) if name in h.starts_from]
    return found[0] if found else None


def _from_start(recipe: Recipe, start: ModelConfig, request: TrainRequest) -> Recipe:
    """Take what must fit its weights from the model to start from: encoder, layout, head."""
    _check_parts(recipe, start, request)
    objective = recipe.model.objective
    if start.objective is not None and (
        1 not in request.stages(recipe)  # which brought segments into one space, if any did
        or recipe.objective.name == start.objective.name  # goes on, with what it has learnt
    ):
        objective = start.objective
    encoder = start.encoder
    if recipe.model.encoder.name != encoder.name:
        spec, begin = _taking_over(recipe.model, start)
        encoder = Component.of(spec, begin(recipe.model.encoder_config(), start.encoder_config()))
    model = recipe.model.model_copy(
        update={"encoder": encoder, "layout": start.layout, "objective": objective}
    )
    if recipe.task.fine_tunes:
        model = _fine_tuned(model, start)
    return recipe.model_copy(update={"model": model})


def _fine_tuned(model: ModelConfig, start: ModelConfig) -> ModelConfig:
    """Take the sizes of the head to start from, and the layout that the task makes of its own."""
    assert model.head is not None
    assert model.task is not None
    head = model.head
    spec: HeadSpec = registry().head(head.name)
    if start.head is not None and start.head.name in {spec.name, *spec.starts_from}:
        head = head.model_copy(update={"config": start.head.config})
    before = None if start.task is None or start.head is None else build_task(start.task)
    layout = build_task(model.task).layout_from(start.layout, before)
    return model.model_copy(update={"layout": layout, "head": head})


def _check_parts(recipe: Recipe, start: ModelConfig, request: TrainRequest) -> None:
    """Check that the parts that were named are those of the model to start from."""
    given = (request.init or ("",))[0]
    wanted, found = recipe.model.two_tower(), start.two_tower()
    if wanted is None or found is None:
        if request.extractor is not None and recipe.model.encoder.name != start.encoder.name:
            _taking_over(recipe.model, start, f"{option('init')} {given}")
        return
    for modality in ("audio", "vision"):
        for part in ("extractor", "aggregator"):
            asked = getattr(request, part)
            mine, theirs = (getattr(getattr(c, modality), part).name for c in (wanted, found))
            if asked is not None and mine != theirs:
                raise ConfigError(
                    f"{option(part)} {asked} does not fit {option('init')} {given}, whose "
                    f"{modality} {part} is '{theirs}'"
                )


def _taking_over(
    model: ModelConfig, start: ModelConfig, given: str = ""
) -> tuple[EncoderSpec, Callable[[Any, Any], Any]]:
    """Return the spec of an encoder, and how it takes over the sizes of another one.

    Raises:
        ConfigError: if it cannot start from that one.
    """
    spec = registry().encoder(model.encoder.name)
    if isinstance(spec, PairSpec) or start.encoder.name not in spec.starts_from:
        raise ConfigError(
            f"{option('extractor')} {spec.name} does not fit {given}, whose encoder is "
            f"'{start.encoder.name}'"
        )
    return spec, spec.starts_from[start.encoder.name]


def _check_siamese(recipe: Recipe, start: ModelConfig, request: TrainRequest) -> None:
    """Check that extractors that share blocks start from such that do, and others from others."""
    wanted, found = recipe.model.two_tower(), start.two_tower()
    if wanted is None or found is None or wanted.siamese == found.siamese:
        return
    have = "one set of blocks" if found.siamese else "blocks of their own"
    raise ConfigError(
        f"encoder.siamese={str(wanted.siamese).lower()} does not fit {option('init')} "
        f"{(request.init or ('',))[0]}, whose extractors have {have}; leave one of them out"
    )


def first_difference(old: Any, new: Any, key: str = "") -> str | None:
    """Name the first setting in which two recipes differ, with both values, or None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            found = first_difference(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
            if found:
                return found
        return None
    return None if old == new else f"{key} is {old} there, {new} here"


def check_shares(
    recipe: Recipe, stages: tuple[int, ...], workers: int, named: str = "workers"
) -> None:
    """Check that every worker gets the same share of a batch.

    Args:
        recipe: whose batches.
        stages: that are trained.
        workers: that train together.
        named: the option that says so.

    Raises:
        ConfigError: if a batch cannot be divided.
    """
    for stage, key, batch in (
        (1, "stage1.clips", recipe.stage1.clips),
        (2, "stage2.batch", recipe.stage2.batch),
    ):
        if stage in stages and batch % workers:
            fitting = -(-batch // workers) * workers
            raise ConfigError(
                f"{key}={batch} cannot be shared out evenly to {workers} workers; "
                f"try {option('set')} {key}={fitting}, or another {option(named)}"
            )


def check_components(recipe: Recipe) -> None:
    """Check that every component of a saved recipe is installed.

    Raises:
        PluginError: naming the one that is not.
    """
    for kind, part in recipe.model.components():
        registry().find(kind, part.name)
