"""A recipe: everything that decides what a run learns, frozen and saved beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from zoo.contracts import ComponentConfig, Precision, TaskSpec
from zoo.data.augment import Augment, Softening
from zoo.errors import ConfigError, option
from zoo.models.config import Component, ModelConfig, explain
from zoo.models.upgrade import upgrade_recipe
from zoo.registry.manager import registry
from zoo.timeline import LATTICE_TOLERANCE, SegmentLayout

Preset = Literal["tiny", "paper"]


class VariationConfig(Augment):
    """What varies between two readings of a clip; both stages share these fields."""

    jitter_s: float = Field(0.05, ge=0, description="largest audio jitter, sampled per clip")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip, per clip")
    random_crop: bool = Field(
        True, description="crop frames at random rather than in the middle, per clip"
    )

    def augment(self) -> Augment:
        """Return these fields alone."""
        return Augment(**{name: getattr(self, name) for name in Augment.model_fields})

    def of_validation(self) -> Augment:
        """Return how validation clips are read: nothing varies."""
        return Augment(sampling="aligned" if self.sampling == "aligned" else "middle")


class OptimiserConfig(ComponentConfig):
    """Warm-up, a schedule, an optimiser, clipped gradients; both stages share these fields."""

    model_config = ConfigDict(allow_inf_nan=False)

    steps: int = Field(gt=0, description="optimiser steps")
    lr: float = Field(gt=0, description="learning rate after warm-up")
    warmup_steps: int = Field(ge=0, description="linear warm-up, steps")
    warmup_from: Literal["first", "zero"] = Field(
        "first",
        description="whether the first step has the first share of the rate, or a rate of 0 as "
        "AV-MAE and MBT have it",
    )
    schedule: Literal["cosine", "constant", "step"] = Field("cosine", description="after warm-up")
    decay: float = Field(0.5, gt=0, le=1, description="factor of each decay, with schedule=step")
    decay_from: int = Field(0, ge=0, description="first decay, steps")
    decay_every: int = Field(0, ge=0, description="from one decay to the next, steps; 0: one only")
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        "adamw",
        description="'adam' adds the weight decay to the gradient, as older code does, and so does "
        "'sgd', which has no averages but its momentum",
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's averages")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd, without Nesterov's look ahead")
    weight_decay: float = Field(0.0, ge=0, description="on matrices only; with adam, on everything")
    rates: dict[str, PositiveFloat] = Field(
        {}, description="factors of the learning rate, by how names of parameters begin: {head: 10}"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the learning rate from one layer of the encoder to the one before; "
        "it multiplies rates",
    )
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    log_every: int = Field(20, gt=0, description="steps between logged losses")
    valid_every: int = Field(200, gt=0, description="steps between validations")
    checkpoint_every: int = Field(200, gt=0, description="steps between checkpoints")


class Stage1Config(OptimiserConfig, VariationConfig):
    """Pre-training with an objective (paper section 3.2); published: 28 segments a GPU, lr 1e-4."""

    clips: int = Field(2, gt=0, description="B, clips per step over all workers")
    num_segments: int = Field(14, gt=0, description="S, contiguous segments per clip")
    valid_clips: int = Field(64, gt=0, description="clips of a validation")
    share: float = Field(
        1.0, gt=0, le=1, description="of the training clips that are used, at random"
    )


class Stage2Config(OptimiserConfig, VariationConfig, Softening):
    """A head on a frozen encoder (paper section 3.3); published: batch 16 a GPU, lr 2e-6."""

    encoder: Literal["frozen", "trained"] = Field(
        "frozen", description="'trained' trains the encoder along with the head, on features online"
    )
    batch: int = Field(16, gt=0, description="B, samples per step over all workers")
    soft_sigma: float = Field(
        0.0, ge=0, description="spread of ordinal soft targets at the start, classes; 0 is off"
    )
    soft_until: float = Field(
        0.6, gt=0, le=1, description="share of the run over which soft targets become hard"
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of the training clips that are used, as evenly from all labels as there are",
    )
    balanced: bool = Field(
        False, description="sample clips of rare classes more often, with replacement"
    )
    average_from: int = Field(
        0, ge=0, description="first step whose weights enter the average that is kept"
    )
    average_every: int = Field(
        0, ge=0, description="from one of them to the next, steps; 0 keeps the best validation"
    )
    valid_rounds: int = Field(4, gt=0, description="fixed samples per validation clip")
    patience: int = Field(10, gt=0, description="validations without improvement before stopping")

    @property
    def is_frozen(self) -> bool:
        """Whether the encoder stays as stage I made it."""
        return self.encoder == "frozen"

    @property
    def varies_online(self) -> list[str]:
        """Settings in use that change what is read from files."""
        names = (
            "gain_db reverb shift_bins noise roll mask_bins mask_frames mixup colour_jitter grey"
        )
        used = [name for name in names.split() if getattr(self, name)]
        used += ["snr_db"] * (self.snr_db is not None)
        used += ["scale_jitter"] * self.scales + ["frame_choices"] * (self.frame_choices > 1)
        return used + ["sampling"] * (self.sampling != "aligned")

    @property
    def averaged_steps(self) -> range:
        """Steps after which weights enter the average that is kept; none keeps the best."""
        if not self.average_every:
            return range(0)
        return range(self.average_from or self.average_every, self.steps + 1, self.average_every)

    @model_validator(mode="after")
    def _something_to_average(self) -> Self:
        if self.average_every and not self.averaged_steps:
            raise ValueError(
                f"average_from={self.average_from} lies behind the last step, {self.steps}"
            )
        return self


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
    def _varied_features(self) -> Self:
        used = self.stage2.varies_online
        if used and self.data.features == "store":
            raise ValueError(
                f"stage2.{used[0]} changes what is read, and features of a store are read once: "
                f"add {option('features')} online"
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


def parse_recipe(data: dict[str, Any]) -> Recipe:
    """Validate a recipe and the plugins' own parts of it; one of an earlier version is upgraded.

    Raises:
        ConfigError: naming the first field that does not fit.
    """
    try:
        recipe = Recipe.model_validate(upgrade_recipe(data))
    except ValidationError as error:
        raise ConfigError(explain(error, "", Recipe)) from None
    model = recipe.model.completed()
    model.encoder_config().io()
    return recipe.model_copy(update={"model": model})


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
