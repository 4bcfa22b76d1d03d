"""Names of components, a preset and overrides, resolved to a full recipe."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from zoo.contracts import (
    AggregatorSpec,
    EncoderSpec,
    HeadSpec,
    ObjectiveSpec,
    PairSpec,
    Spec,
    TaskSpec,
)
from zoo.errors import ConfigError, option
from zoo.models.config import (
    Component,
    ModalityConfig,
    ModelConfig,
    TwoTowerConfig,
    explain,
    feature_map_of,
    pair_component,
)
from zoo.registry.manager import registry
from zoo.training.overrides import override
from zoo.training.recipe import DataConfig, Preset, Recipe, Stage1Config, Stage2Config

# The tiny numbers were found in the project's own experiments (docs/training.md); the paper's are
# those of the published code for one GPU.
_STAGE2: dict[str, dict[str, Any]] = {
    "tiny": {"steps": 800, "lr": 1e-3, "warmup_steps": 50, "batch": 64, "weight_decay": 0.05},
    "paper": {
        "steps": 1_000_000,
        "lr": 2e-6,
        "warmup_steps": 1000,
        "schedule": "constant",
        "valid_every": 5000,
    },
}
_DATA: dict[str, dict[str, Any]] = {
    "tiny": {"cache": True, "features": "store"},
    "paper": {"loader_workers": 8},
}
_PROJECTION_DIM = {"tiny": 128, "paper": 768}


def build_recipe(
    *,
    extractor: str,
    head: str | None = None,
    preset: Preset,
    aggregator: str | None = None,
    objective: str | None = None,
    task: str | None = None,
    seed: int = 1337,
    overrides: list[str] | None = None,
) -> Recipe:
    """Resolve names, a preset and ``a.b=c`` overrides to a full recipe.

    Args:
        extractor: an encoder, or ``audio+vision``.
        head: by default that of the encoder, or of the task.
        preset: sizes.
        aggregator: of a pair of extractors; by default that of the pair.
        objective: of stage I; by default that of the encoder.
        task: of stage II; by default the first one of the head.
        seed: of everything random.
        overrides: assignments.

    Raises:
        PluginError: for an unknown component.
        ConfigError: for an override that does not fit.
    """
    found = registry()
    encoder = found.encoder(extractor)
    head_spec, task_spec = choose_head(encoder, head, task)
    objective_name = objective or encoder.objective or found.default_objective().name
    objective_spec = found.objective(objective_name)
    data, stage2 = dict(_DATA[preset]), {**_STAGE2[preset], **head_spec.stage2.get(preset, {})}
    stage2 |= encoder.stage2.get(preset, {})
    part = _encoder(encoder, aggregator, preset)
    is_pair = isinstance(encoder, PairSpec)
    if encoder.end_to_end:
        stage2["encoder"] = "trained"
    if encoder.end_to_end or not is_pair:  # a store needs one modality at a time
        data["features"] = "online"
    recipe = Recipe(
        seed=seed,
        preset=preset,
        model=ModelConfig(
            encoder=part,
            objective=_component(objective_spec, preset),
            task=_component(task_spec, preset),
            head=_component(head_spec, preset),
            layout=encoder.layouts.get(preset, encoder.layout),
        ),
        stage1=stage1_of(objective_spec, preset),
        stage2=Stage2Config(**stage2),
        data=DataConfig(**data),
        gradient_checkpointing=preset == "paper",
    )
    return override(recipe, overrides or [])


def stage1_of(objective: ObjectiveSpec, preset: Preset) -> Stage1Config:
    """Return the numbers of stage I; what an objective leaves out is as for the default one.

    Raises:
        ConfigError: if it names a number that there is not.
    """
    usual = registry().default_objective().stage1.get(preset, {})
    try:
        return Stage1Config(**{**usual, **objective.stage1.get(preset, {})})
    except ValidationError as error:
        raise ConfigError(explain(error, f"{objective.name}: stage1.", Stage1Config)) from None


def choose_head(
    encoder: EncoderSpec | PairSpec, head: str | None, task: str | None
) -> tuple[HeadSpec, TaskSpec]:
    """Return a head and what it is trained for, where one of the two, or neither, is named.

    Raises:
        ConfigError: if they do not go together, or no head is known for the task.
    """
    found = registry()
    if head is not None:
        spec = found.head(head)
        if task is not None and task not in spec.tasks:
            answers = " and ".join(spec.tasks)
            raise ConfigError(
                f"{option('head')} {head} answers another question ({answers}) than "
                f"{option('task')} {task}",
                "leave one out",
            )
        return spec, found.task(task or spec.tasks[0])
    task_spec = found.default_task() if task is None else found.task(task)
    if encoder.head and task_spec.name in found.head(encoder.head).tasks:
        return found.head(encoder.head), task_spec
    default = found.default_head(task_spec.name)
    if default is None:
        heads = [f"{option('head')} {spec.name}" for spec in found.heads_of(task_spec.name)]
        raise ConfigError(
            f"the task '{task_spec.name}' has no head to train from scratch unless one is named",
            f"add {option('init')} RUN to start from a trained one, or name one: "
            f"{' or '.join(heads) or 'there is none yet'}",
        )
    return default, task_spec


def _encoder(encoder: EncoderSpec | PairSpec, aggregator: str | None, preset: Preset) -> Component:
    """Configure an encoder."""
    if isinstance(encoder, PairSpec):
        name = aggregator or encoder.aggregator or registry().default_aggregator().name
        return pair_component(_pair(encoder, registry().aggregator(name), preset))
    if aggregator is not None:
        raise ConfigError(
            f"the encoder '{encoder.name}' has no aggregator to choose",
            f"leave out {option('aggregator')}",
        )
    return _component(encoder, preset)


def _pair(pair: PairSpec, aggregator: AggregatorSpec, preset: Preset) -> TwoTowerConfig:
    """Configure both extractors; what is not compared, or equal as published, is not projected."""
    specs = {"audio": registry().extractor(pair.audio), "vision": registry().extractor(pair.vision)}
    maps = {m: feature_map_of(spec, _preset(spec, preset)) for m, spec in specs.items()}
    is_equal = preset == "paper" and maps["audio"].dim == maps["vision"].dim
    parts = {}
    for modality, spec in specs.items():
        fitted = aggregator.fit(_preset(aggregator, preset), maps[modality])
        parts[modality] = ModalityConfig(
            extractor=_component(spec, preset),
            aggregator=Component.of(aggregator, fitted),
            projection_dim=None if is_equal or pair.end_to_end else _PROJECTION_DIM[preset],
        )
    return TwoTowerConfig(**parts)


def _component(spec: Spec, preset: str) -> Component:
    return Component.of(spec, _preset(spec, preset))


def _preset(spec: Spec, preset: str) -> Any:
    config = spec.presets.get(preset, None)
    if config is None:
        known = ", ".join(spec.presets) or "none"
        raise ConfigError(f"'{spec.name}' has no preset '{preset}' (it has: {known})")
    return config
