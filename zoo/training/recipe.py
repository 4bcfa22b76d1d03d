"""A recipe: everything that decides what a run learns, frozen and saved beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from zoo.contracts import AggregatorSpec, ComponentConfig, PairSpec, Precision, Spec, Task
from zoo.errors import ConfigError, suggest
from zoo.models.model import Component, ModelConfig, TowerConfig, explain, feature_map_of
from zoo.registry.manager import registry
from zoo.timeline import LATTICE_TOLERANCE, SegmentLayout

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
    """Segment AVCLIP (paper section 3.2); published: 28 segments a GPU, lr 1e-4."""

    clips: int = Field(2, gt=0, description="B, clips per step over all workers")
    num_segments: int = Field(14, gt=0, description="S, contiguous segments per clip")
    jitter_s: float = Field(0.05, ge=0, description="largest audio jitter, one draw per clip")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip, per clip")
    gain_db: float = Field(0.0, ge=0, description="largest random audio gain, either way")
    valid_clips: int = Field(64, gt=0, description="clips of a zero-shot validation")
    objective: Component = Component(name="segment_avclip")


class Stage2Config(OptimiserConfig):
    """The head on frozen extractors (paper section 3.3); published: batch 16 a GPU, lr 2e-6."""

    towers: Literal["frozen", "trained"] = Field(
        "frozen", description="'trained' trains the towers along with the head, on features online"
    )
    batch: int = Field(16, gt=0, description="B, draws per step over all workers")
    jitter_s: float = Field(0.05, ge=0, description="largest audio jitter, seconds")
    soft_sigma: float = Field(
        0.0, ge=0, description="spread of ordinal soft targets at the start, classes; 0 is off"
    )
    soft_until: float = Field(
        0.6, gt=0, le=1, description="share of the run over which soft targets become hard"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a flip (online only)")
    valid_rounds: int = Field(4, gt=0, description="fixed draws per validation clip")
    patience: int = Field(10, gt=0, description="validations without improvement before stopping")

    @property
    def is_frozen(self) -> bool:
        """Whether the towers stay as stage I made them."""
        return self.towers == "frozen"


class DataConfig(ComponentConfig):
    """How clips are read."""

    cache: bool = Field(False, description="decode every clip once and keep it beside the run")
    loader_workers: int = Field(0, ge=0, description="decoding processes per training worker")
    features: Literal["store", "online"] = Field("online", description="source of stage 2 tokens")
    store_dtype: Literal["float16", "float32"] = Field("float16", description="of stored features")
    store_copies: int = Field(
        0, ge=0, description="augmented copies of the training clips' pictures in the store"
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
        False, description="trade compute for memory where towers are trained"
    )
    compile: bool = Field(False, description="torch.compile both extractors; needs a C++ compiler")
    overfit: int = Field(0, ge=0, description="train on this many clips with fixed offsets")

    @model_validator(mode="after")
    def _head_present(self) -> Self:
        if self.model.head is None:
            raise ValueError("a recipe needs a head")
        return self

    @model_validator(mode="after")
    def _features_of_trained_towers(self) -> Self:
        if not self.stage2.is_frozen and self.data.features == "store":
            raise ValueError(
                "stage2.towers=trained changes the features at every step, so they cannot come "
                "from a store: add --features online"
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
    def task(self) -> Task:
        """What the head answers."""
        assert self.model.head is not None
        return registry().head(self.model.head.name).task

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
_STAGE1: dict[str, dict[str, Any]] = {
    "tiny": {
        "steps": 1100,
        "lr": 7e-4,
        "warmup_steps": 30,
        "betas": (0.9, 0.98),
        "weight_decay": 0.05,
        "clips": 4,
        "num_segments": 12,
        "jitter_s": 0.0,
        "gain_db": 6.0,
        "valid_every": 300,
        "checkpoint_every": 200,
    },
    "paper": {"steps": 500_000, "lr": 1e-4, "warmup_steps": 1000, "valid_every": 5000},
}
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
_COMPARE: dict[str, Literal["mean", "aligned"]] = {"tiny": "aligned", "paper": "mean"}


def build_recipe(
    *,
    extractor: str,
    head: str | None = None,
    preset: Preset,
    aggregator: str | None = None,
    objective: str = "segment_avclip",
    seed: int = 1337,
    overrides: list[str] | None = None,
) -> Recipe:
    """Resolve names, a preset and ``a.b=c`` overrides to a full recipe.

    Head and aggregator are by default those of the pair of extractors.

    Raises:
        PluginError: for an unknown component.
        ConfigError: for an override that does not fit.
    """
    pair = registry().pair(extractor)
    head_spec = registry().head(head or pair.head)
    data, stage2 = dict(_DATA[preset]), {**_STAGE2[preset], **head_spec.stage2.get(preset, {})}
    stage2 |= pair.stage2.get(preset, {})
    if pair.end_to_end:
        stage2["towers"], data["features"] = "trained", "online"
    recipe = Recipe(
        seed=seed,
        preset=preset,
        model=ModelConfig(
            **_towers(pair, registry().aggregator(aggregator or pair.aggregator), preset),
            head=_component(head_spec, preset),
            compare=_COMPARE[preset],
            layout=pair.layout,
        ),
        stage1=Stage1Config(
            **_STAGE1[preset],
            objective=_component(registry().objective(objective), preset),
        ),
        stage2=Stage2Config(**stage2),
        data=DataConfig(**data),
        gradient_checkpointing=preset == "paper",
    )
    return override(recipe, overrides or [])


def _towers(pair: PairSpec, aggregator: AggregatorSpec, preset: Preset) -> dict[str, TowerConfig]:
    """Configure both towers; what is never compared, or equal as published, is not projected."""
    specs = {"audio": registry().extractor(pair.audio), "vision": registry().extractor(pair.vision)}
    maps = {m: feature_map_of(spec, _preset(spec, preset)) for m, spec in specs.items()}
    is_equal = preset == "paper" and maps["audio"].dim == maps["vision"].dim
    towers = {}
    for modality, spec in specs.items():
        fitted = aggregator.fit(_preset(aggregator, preset), maps[modality])
        towers[modality] = TowerConfig(
            extractor=_component(spec, preset),
            aggregator=Component(name=aggregator.name, config=fitted.model_dump(mode="json")),
            projection_dim=None if is_equal or pair.end_to_end else _PROJECTION_DIM[preset],
        )
    return towers


def _component(spec: Spec, preset: str) -> Component:
    return Component(name=spec.name, config=_preset(spec, preset).model_dump(mode="json"))


def _preset(spec: Spec, preset: str) -> Any:
    config = spec.presets.get(preset, None)
    if config is None:
        known = ", ".join(spec.presets) or "none"
        raise ConfigError(f"'{spec.name}' has no preset '{preset}' (it has: {known})")
    return config


_SEGMENT_KEYS = ("layout.segment_s", "model.layout.segment_s")
# Short names for the places people set most.
_ALIASES = {
    "head.": "model.head.config.",
    "layout.": "model.layout.",
    "grid.": "model.grid.",
    "audio.": "model.audio.extractor.config.",
    "vision.": "model.vision.extractor.config.",
}


def override(recipe: Recipe, assignments: list[str]) -> Recipe:
    """Apply ``a.b=c`` assignments; values are read as YAML.

    Raises:
        ConfigError: for an unknown key (with a suggestion) or a value of the wrong type.
    """
    data = json.loads(recipe.model_dump_json())
    pairs = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set takes key=value, got '{assignment}'")
        pairs.append((key.strip(), _read_value(text)))
    for key, value in pairs:
        if key in _SEGMENT_KEYS:  # the extractors follow, unless they are told otherwise
            for modality in ("audio", "vision"):
                _assign(data, f"{modality}.segment_s", value)
    for key, value in pairs:
        _assign(data, key, value)
    return parse_recipe(data)


def _read_value(text: str) -> JsonValue:
    try:
        return float(text)  # YAML reads 1e-4 as a string
    except ValueError:
        return yaml.safe_load(text)


def _assign(data: dict[str, Any], key: str, value: JsonValue) -> None:
    full = key
    for short, long in _ALIASES.items():
        if key.startswith(short):
            full = long + key.removeprefix(short)
    *parents, last = full.split(".")
    place: Any = data
    for part in [*parents, last]:
        if not isinstance(place, dict) or part not in place:
            known = place if isinstance(place, dict) else {}
            raise ConfigError(f"--set: unknown key '{key}'{suggest(part, known)}")
        if part is not last:
            place = place[part]
    if isinstance(value, float) and isinstance(place[last], int) and value.is_integer():
        value = int(value)
    place[last] = value


def parse_recipe(data: dict[str, Any]) -> Recipe:
    """Validate a recipe and the plugins' own parts of it.

    Raises:
        ConfigError: naming the first field that does not fit.
    """
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, "", Recipe)) from None
    model = recipe.model
    for tower in (model.audio, model.vision):
        spec = registry().extractor(tower.extractor.name)
        feature_map_of(spec, tower.extractor.parse(spec))
        tower.aggregator.parse(registry().aggregator(tower.aggregator.name))
    assert model.head is not None
    model.head.parse(registry().head(model.head.name))
    objective = recipe.stage1.objective
    objective.parse(registry().objective(objective.name))
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
