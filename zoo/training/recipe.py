"""A recipe: everything that decides what a run learns, frozen and saved beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from zoo.contracts import (
    AggregatorSpec,
    ComponentConfig,
    EncoderSpec,
    HeadSpec,
    ObjectiveSpec,
    PairSpec,
    Precision,
    Spec,
    TaskSpec,
)
from zoo.errors import ConfigError, option, suggest
from zoo.models.config import (
    Component,
    ModalityConfig,
    ModelConfig,
    TwoTowerConfig,
    explain,
    feature_map_of,
    pair_component,
)
from zoo.models.upgrade import upgrade_recipe
from zoo.registry.manager import registry
from zoo.timeline import LATTICE_TOLERANCE, SegmentLayout, count_steps

Preset = Literal["tiny", "paper"]


class OptimiserConfig(ComponentConfig):
    """AdamW with warm-up, a schedule and clipped gradients; both stages share these fields."""

    steps: int = Field(gt=0, description="optimiser steps")
    lr: float = Field(gt=0, description="learning rate after warm-up")
    warmup_steps: int = Field(ge=0, description="linear warm-up, steps")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="after warm-up")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's averages")
    weight_decay: float = Field(0.0, ge=0, description="on matrices only")
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    log_every: int = Field(20, gt=0, description="steps between logged losses")
    valid_every: int = Field(200, gt=0, description="steps between validations")
    checkpoint_every: int = Field(200, gt=0, description="steps between checkpoints")


class Stage1Config(OptimiserConfig):
    """Pre-training with an objective (paper section 3.2); published: 28 segments a GPU, lr 1e-4."""

    clips: int = Field(2, gt=0, description="B, clips per step over all workers")
    num_segments: int = Field(14, gt=0, description="S, contiguous segments per clip")
    jitter_s: float = Field(0.05, ge=0, description="largest audio jitter, sampled per clip")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip, per clip")
    gain_db: float = Field(0.0, ge=0, description="largest random audio gain, either way")
    valid_clips: int = Field(64, gt=0, description="clips of a validation")


class Stage2Config(OptimiserConfig):
    """A head on a frozen encoder (paper section 3.3); published: batch 16 a GPU, lr 2e-6."""

    encoder: Literal["frozen", "trained"] = Field(
        "frozen", description="'trained' trains the encoder along with the head, on features online"
    )
    batch: int = Field(16, gt=0, description="B, samples per step over all workers")
    jitter_s: float = Field(0.05, ge=0, description="largest audio jitter, seconds")
    soft_sigma: float = Field(
        0.0, ge=0, description="spread of ordinal soft targets at the start, classes; 0 is off"
    )
    soft_until: float = Field(
        0.6, gt=0, le=1, description="share of the run over which soft targets become hard"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a flip (online only)")
    valid_rounds: int = Field(4, gt=0, description="fixed samples per validation clip")
    patience: int = Field(10, gt=0, description="validations without improvement before stopping")

    @property
    def is_frozen(self) -> bool:
        """Whether the encoder stays as stage I made it."""
        return self.encoder == "frozen"


class DataConfig(ComponentConfig):
    """How clips are read."""

    cache: bool = Field(False, description="decode every clip once and keep it beside the run")
    loader_workers: int = Field(0, ge=0, description="decoding processes per training worker")
    features: Literal["store", "online"] = Field("online", description="source of stage 2 tokens")
    store_dtype: Literal["float16", "float32"] = Field("float16", description="of stored features")
    store_copies: int = Field(
        0, ge=0, description="augmented copies of the training clips' frames in the store"
    )
    vision_hop_s: float | None = Field(
        None, gt=0, description="lattice of video crops, seconds; by default the segments' step"
    )


class Recipe(ComponentConfig):
    """What ``zoo train`` runs."""

    seed: int = Field(1337, ge=0, description="of initialisation, sampling and augmentation")
    preset: Preset = "tiny"
    model: ModelConfig
    stage1: Stage1Config
    stage2: Stage2Config
    data: DataConfig = DataConfig()
    precision: Precision = Field("fp32", description="bf16 is autocast")
    gradient_checkpointing: bool = Field(
        False, description="trade compute for memory where the encoder is trained"
    )
    compile: bool = Field(False, description="torch.compile both extractors; needs a C++ compiler")
    overfit: int = Field(0, ge=0, description="train on this many clips with fixed offsets")

    @model_validator(mode="after")
    def _head_present(self) -> Self:
        if self.model.head is None or self.model.task is None or self.model.objective is None:
            raise ValueError("a recipe needs a head, its task and an objective")
        return self

    @model_validator(mode="after")
    def _features_of_a_trained_encoder(self) -> Self:
        if not self.stage2.is_frozen and self.data.features == "store":
            raise ValueError(
                "stage2.encoder=trained changes the features at every step, so they cannot come "
                f"from a store: add {option('features')} online"
            )
        return self

    @model_validator(mode="after")
    def _segments_on_the_lattice(self) -> Self:
        steps = self.model.layout.step_s / self.vision_hop_s
        if abs(steps - round(steps)) > LATTICE_TOLERANCE:
            raise ValueError(
                f"data.vision_hop_s={self.vision_hop_s:g} does not divide layout.step_s="
                f"{self.model.layout.step_s:g}"
            )
        return self

    @property
    def task(self) -> TaskSpec:
        """What the head answers."""
        assert self.model.task is not None
        return registry().task(self.model.task.name)

    @property
    def objective(self) -> Component:
        """What stage I trains the encoder with."""
        assert self.model.objective is not None
        return self.model.objective

    @property
    def vision_hop_s(self) -> float:
        """Lattice on which video crops of stage II start, and segments of the feature store."""
        return self.data.vision_hop_s or self.model.layout.step_s

    @property
    def stage1_layout(self) -> SegmentLayout:
        """Contiguous segments, as stage I takes them."""
        segment_s = self.model.layout.segment_s
        return SegmentLayout(
            num_segments=self.stage1.num_segments, segment_s=segment_s, step_s=segment_s
        )


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
            layout=encoder.layout,
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


_SEGMENT_KEYS = ("layout.segment_s", "model.layout.segment_s")
# Short names for the places people set most, and those that have moved.
_ALIASES = {
    "head.": "model.head.config.",
    "task.": "model.task.config.",
    "objective.": "model.objective.config.",
    "encoder.": "model.encoder.config.",
    "layout.": "model.layout.",
    "grid.": "model.task.config.grid.",
    "audio.": "model.encoder.config.audio.extractor.config.",
    "vision.": "model.encoder.config.vision.extractor.config.",
    "model.audio.": "model.encoder.config.audio.",
    "model.vision.": "model.encoder.config.vision.",
    "model.grid.": "model.task.config.grid.",
    "model.compare": "model.objective.config.compare",
    "stage1.objective.": "model.objective.",
    "stage2.towers": "stage2.encoder",
}


def override(recipe: Recipe, assignments: list[str]) -> Recipe:
    """Apply ``a.b=c`` assignments; values are read as YAML.

    ``layout.segment_s`` moves what follows from it unless that is set too: the segments of both
    extractors, the step (the overlap stays), and the number of segments of both stages (what they
    cover stays).

    Raises:
        ConfigError: for an unknown key (with a suggestion) or a value of the wrong type.
    """
    data = json.loads(recipe.model_dump_json())
    pairs = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{option('set')} takes key=value, got '{assignment}'")
        pairs.append((key.strip(), _read_value(text)))
    segment_s = next((value for key, value in reversed(pairs) if key in _SEGMENT_KEYS), None)
    if segment_s is not None:
        for key, value in _follow(recipe, segment_s).items():
            _assign(data, key, value)
    for key, value in pairs:
        _assign(data, key, value)
    return parse_recipe(data)


def _follow(recipe: Recipe, segment_s: JsonValue) -> dict[str, JsonValue]:
    """Return the settings that follow from the length of a segment."""
    follows: dict[str, JsonValue] = {}
    pair = recipe.model.two_tower()
    if pair is not None:
        for name, part in (("audio", pair.audio), ("vision", pair.vision)):
            if part.extractor_config().segment_s == recipe.model.layout.segment_s:
                follows[f"{name}.segment_s"] = segment_s
    if not isinstance(segment_s, int | float) or isinstance(segment_s, bool) or segment_s <= 0:
        return follows  # refused where it is validated
    layout = recipe.model.layout
    step_s = layout.step_s * segment_s / layout.segment_s
    fps = recipe.model.vision_fps
    if abs(step_s * fps - round(step_s * fps)) > LATTICE_TOLERANCE or layout.num_segments == 1:
        return follows
    step_s = round(step_s, 9)
    covered_s = layout.covered_s
    follows["layout.step_s"] = step_s
    follows["layout.num_segments"] = max(1, count_steps(covered_s, segment_s, step_s))
    stage1_s = recipe.stage1_layout.covered_s
    follows["stage1.num_segments"] = max(1, count_steps(stage1_s, segment_s, segment_s))
    return follows


def _read_value(text: str) -> JsonValue:
    try:
        return float(text)  # YAML reads 1e-4 as a string
    except ValueError:
        return yaml.safe_load(text)


def _assign(data: dict[str, Any], key: str, value: JsonValue) -> None:
    full = key
    for short, long in sorted(_ALIASES.items(), key=lambda pair: len(pair[0])):
        if key.startswith(short):
            full = long + key.removeprefix(short)
    *parents, last = full.split(".")
    place: Any = data
    for part in [*parents, last]:
        if not isinstance(place, dict) or part not in place:
            known = place if isinstance(place, dict) else {}
            raise ConfigError(f"{option('set')}: unknown key '{key}'{suggest(part, known)}")
        if part is not last:
            place = place[part]
    if isinstance(value, float) and isinstance(place[last], int) and value.is_integer():
        value = int(value)
    place[last] = value


def parse_recipe(data: dict[str, Any]) -> Recipe:
    """Validate a recipe and the plugins' own parts of it; one of an earlier version is upgraded.

    Raises:
        ConfigError: naming the first field that does not fit.
    """
    try:
        recipe = Recipe.model_validate(upgrade_recipe(data))
    except ValidationError as error:
        raise ConfigError(explain(error, "", Recipe)) from None
    model = recipe.model
    model.encoder_config().io()
    model.task_config()
    assert model.head is not None
    model.head.parse(registry().head(model.head.name))
    recipe.objective.parse(registry().objective(recipe.objective.name))
    return recipe


def read_recipe(path: Path) -> Recipe:
    """Read a recipe saved as JSON.

    Raises:
        ConfigError: if the file is missing or not a recipe.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}") from None
    return parse_recipe(data)
