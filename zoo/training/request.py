"""What the user asked for, turned into a recipe and checked before anything starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from zoo.contracts import Positions, Task
from zoo.errors import ConfigError, TrainingError
from zoo.models.config import ModelConfig
from zoo.registry.manager import registry
from zoo.training.recipe import Recipe, build_recipe, override
from zoo.training.rehearsal import check_fit
from zoo.training.start import DEFAULT_POSITIONS, check_start, config_of_start


@dataclass(frozen=True)
class Request:
    """The options of ``zoo train`` that decide what is learnt; None is the default."""

    extractor: str | None = None
    data: str | None = None
    head: str | None = None
    aggregator: str | None = None
    objective: str | None = None
    stage: Literal["1", "2", "all"] | None = None
    init: tuple[str, ...] | None = None
    init_positions: Positions | None = None
    preset: Literal["tiny", "paper"] | None = None
    settings: tuple[str, ...] = ()
    features: Literal["store", "online"] | None = None
    overfit: int | None = None
    seed: int | None = None
    task: Task | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for: a resumed run then keeps all it had."""
        return self == Request()

    @property
    def positions(self) -> Positions:
        """How tables of positions of published extractors are brought to their length."""
        return self.init_positions or DEFAULT_POSITIONS

    def stages(self, recipe: Recipe) -> tuple[int, ...]:
        """Return the stages to train: by default both, or stage 2 if the towers need none."""
        is_tuning = recipe.task == "synchronizability" and self.init is not None
        if self.stage is None and (is_tuning or not recipe.stage2.is_frozen):
            return (2,)
        return (1, 2) if self.stage in {None, "all"} else (int(self.stage or 0),)

    def over(self, saved: Request) -> Request:
        """Put what is asked for now over what was asked for when the run began."""
        mine, theirs = asdict(self), asdict(saved)
        merged = {k: theirs[k] if v is None else v for k, v in mine.items()}
        merged["settings"] = (*saved.settings, *self.settings)
        return Request(**merged)

    def write(self, path: Path) -> None:
        """Keep the request beside the run."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read a request kept beside a run.

        Raises:
            TrainingError: if it is missing or damaged.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            known = {field.name for field in fields(cls)}
            data = {k: v for k, v in data.items() if k in known}
            init = data.get("init")
            if init is not None:
                data["init"] = (init,) if isinstance(init, str) else tuple(init)
            return cls(**{**data, "settings": tuple(data["settings"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"cannot resume: {path} cannot be read ({error})") from None


def recipe_of(request: Request, gpus_per_worker: float) -> Recipe:
    """Resolve a request to a recipe, and check that its parts fit together.

    Raises:
        ConfigError: if an option is missing, unknown or does not fit.
        PluginError: for an unknown component.
        ModelError: if the model to start from cannot be read.
    """
    recipe = draft_recipe(request, gpus_per_worker)
    stages = request.stages(recipe)
    check_fit(recipe, stages)
    needs_towers = stages == (2,) and recipe.stage2.is_frozen
    if needs_towers and request.init and _start_of(request) is None:
        raise ConfigError(
            "--stage 2 needs the towers of stage 1, and --init names single extractors only; "
            "train both stages"
        )
    check_start(request.init or (), request.positions, recipe)
    return recipe


def draft_recipe(request: Request, gpus_per_worker: float) -> Recipe:
    """Resolve a request to a recipe whose parts may not fit together.

    Raises:
        ZooError: as `recipe_of`.
    """
    start = _start_of(request)
    extractor = request.extractor
    if extractor is None:
        if start is None:
            raise ConfigError("say what to train: --extractor NAME (see: zoo list extractors)")
        extractor = f"{start.audio.extractor.name}+{start.vision.extractor.name}"
    head = request.head if request.task is None else _head_for(request, start)
    recipe = build_recipe(
        extractor=extractor,
        head=head,
        preset=request.preset or "tiny",
        aggregator=request.aggregator,
        objective=request.objective or "segment_avclip",
        seed=1337 if request.seed is None else request.seed,
    )
    if start is not None:
        recipe = _with_towers_of(recipe, start, request)
        if recipe.task == "synchronizability":
            recipe = _tuned_from(recipe, start)
    settings = list(request.settings)
    if request.features is not None:
        settings.append(f"data.features={request.features}")
    if request.overfit is not None:
        settings.append(f"overfit={request.overfit}")
    if gpus_per_worker > 0 and not any(s.startswith("precision=") for s in settings):
        settings.insert(0, "precision=bf16")
    return override(recipe, settings)


def _start_of(request: Request) -> ModelConfig | None:
    """Return the config of the whole model to start from, if there is one."""
    if request.init is None:
        if request.init_positions is not None:
            raise ConfigError("--init-positions needs --init")
        return None
    return config_of_start(request.init)


def _head_for(request: Request, start: ModelConfig | None) -> str | None:
    """Return the head of a task: of synchronizability, the one that starts from a trained head.

    Raises:
        ConfigError: if the head that was asked for answers something else, or there is none.
    """
    if request.head is not None:
        found = registry().head(request.head).task
        if found != request.task:
            raise ConfigError(
                f"--head {request.head} answers another question ({found}) than --task "
                f"{request.task}; leave one out"
            )
        return request.head
    if request.task == "offset":
        return None
    if start is None or start.head is None:
        raise ConfigError(
            "--task synchronizability fine-tunes a model that finds offsets: add --init RUN, or "
            "say which head to train from scratch: --head synchronizability"
        )
    spec = registry().head(start.head.name)
    if spec.task == "synchronizability":
        return spec.name
    if spec.synchronizability is None:
        raise ConfigError(
            f"no head for synchronizability starts from '{spec.name}'; say which to train from "
            "scratch: --head correlation_trust, or --head synchronizability"
        )
    return spec.synchronizability


def _tuned_from(recipe: Recipe, start: ModelConfig) -> Recipe:
    """Take the sizes of the head to start from, and one segment less than it has, as published.

    Draws without an offset need clips of twice the crop.
    """
    model = recipe.model
    assert model.head is not None
    head, layout = model.head, model.layout
    if start.head is not None:
        spec = registry().head(start.head.name)
        if head.name in {spec.name, spec.synchronizability}:
            head = head.model_copy(update={"config": start.head.config})
        if spec.task == "offset" and layout.num_segments > 1:
            layout = layout.model_copy(update={"num_segments": layout.num_segments - 1})
    return recipe.model_copy(
        update={"model": model.model_copy(update={"layout": layout, "head": head})}
    )


def _with_towers_of(recipe: Recipe, start: ModelConfig, request: Request) -> Recipe:
    """Take the towers and the layout of the model to start from, so that its weights fit."""
    for modality in ("audio", "vision"):
        wanted, given = getattr(recipe.model, modality), getattr(start, modality)
        for part in ("extractor", "aggregator"):
            asked = getattr(request, part)
            names = getattr(wanted, part).name, getattr(given, part).name
            if asked is not None and names[0] != names[1]:
                raise ConfigError(
                    f"--{part} {asked} does not fit --init {(request.init or ('',))[0]}, "
                    f"whose {modality} {part} is '{names[1]}'"
                )
    model = recipe.model.model_copy(
        update={"audio": start.audio, "vision": start.vision, "layout": start.layout}
    )
    return recipe.model_copy(update={"model": model})


def first_difference(old: Any, new: Any, key: str = "") -> str | None:
    """Name the first setting in which two recipes differ, with both values, or None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            found = first_difference(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
            if found:
                return found
        return None
    return None if old == new else f"{key} is {old} there, {new} here"


def check_shares(recipe: Recipe, stages: tuple[int, ...], workers: int) -> None:
    """Check that every worker gets the same share of a batch.

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
                f"try --set {key}={fitting}, or another --workers"
            )


def check_components(recipe: Recipe) -> None:
    """Check that every component of a saved recipe is installed.

    Raises:
        PluginError: naming the one that is not.
    """
    for tower in (recipe.model.audio, recipe.model.vision):
        registry().extractor(tower.extractor.name)
        registry().aggregator(tower.aggregator.name)
