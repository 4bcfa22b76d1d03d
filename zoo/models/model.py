"""The assembled model: two towers (extractor, aggregator, projection) and a head."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, JsonValue, ValidationError
from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo.contracts import (
    AudioFrontend,
    ComponentConfig,
    ExtractorConfig,
    ExtractorSpec,
    FeatureMap,
    Frames,
    HeadInput,
    Modality,
    Precision,
    Spec,
    Task,
)
from zoo.errors import ConfigError, PluginError, ZooError, suggest
from zoo.models.device import autocast
from zoo.models.modules import Aggregator, Extractor, Head
from zoo.registry.manager import registry
from zoo.registry.plugin_files import reason_of
from zoo.timeline import OffsetGrid, SegmentLayout

# Numbers that enter a tower at a time: 3 video segments of 224 pixels, whose activations take
# 0.4 GB.  More make nothing faster.
ENCODED_AT_ONCE, MOST_SEGMENTS = 1 << 23, 64


class Component(ComponentConfig):
    """A registered component by name, with its configuration as JSON."""

    name: str = Field(description="registered name")
    config: dict[str, JsonValue] = Field(default_factory=dict, description="its own fields")

    def parse(self, spec: Spec) -> Any:
        """Validate the configuration with the plugin's own class.

        Raises:
            ConfigError: naming the field that does not fit.
        """
        try:
            return spec.config_class.model_validate(self.config)
        except ValidationError as error:
            raise ConfigError(explain(error, f"{spec.name}.", spec.config_class)) from None


class TowerConfig(ComponentConfig):
    """One modality: extractor, aggregator, projection."""

    extractor: Component
    aggregator: Component
    projection_dim: int | None = Field(
        None, gt=0, description="width of the space stage I compares in; None is the identity"
    )


class ModelConfig(ComponentConfig):
    """Everything needed to rebuild a model without its weights."""

    audio: TowerConfig
    vision: TowerConfig
    head: Component | None = None
    compare: Literal["mean", "aligned"] = Field(
        "mean",
        description="how stage I compares segments: tokens averaged over time as in the paper, "
        "or step by step at the same times",
    )
    layout: SegmentLayout = SegmentLayout()
    grid: OffsetGrid = OffsetGrid()
    temperature: float | None = Field(
        None, gt=0, description="temperature that stage I ended with, where it was published"
    )


def build_component(kind: str, spec: Spec, *given: Any) -> Any:
    """Build a component of a plugin.

    Raises:
        ZooError: whatever the plugin finds wrong.
        PluginError: naming the component, if the plugin fails in any other way.
    """
    try:
        return spec.build(*given)
    except ZooError:
        raise
    except Exception as error:
        raise PluginError(f"{kind} '{spec.name}' cannot be built: {reason_of(error)}") from error


def feature_map_of(spec: ExtractorSpec, config: ExtractorConfig) -> FeatureMap:
    """Return what an extractor says comes out.

    Raises:
        ConfigError: naming the extractor, if it cannot take its settings.
        PluginError: if it fails in any other way.
    """
    try:
        return config.feature_map()
    except ConfigError as error:
        told = "" if spec.name in str(error) else f"extractor '{spec.name}': "
        where = f"the settings are layout.segment_s and {spec.modality}.frontend"
        raise ConfigError(f"{told}{error}; {where}") from None
    except Exception as error:
        raise PluginError(
            f"extractor '{spec.name}' cannot say what it gives with these settings: "
            f"{reason_of(error)}"
        ) from error


def explain(error: ValidationError, prefix: str, config_class: type[BaseModel]) -> str:
    """Turn the first problem pydantic found into one sentence."""
    first = error.errors()[0]
    field = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{field}'{suggest(str(first['loc'][-1]), config_class.model_fields)}"
    if first["type"] == "value_error":  # of a validator, which says what is wrong in its own words
        return f"{field.rstrip('.')}: {first['ctx']['error']}".lstrip(": ")
    return f"'{field}': {first['msg']}, got {first['input']!r}"


class Tower(nn.Module):
    """One modality from segments to tokens; segments never see one another."""

    compare_at: Float[Tensor, "L T"] | None
    """Interpolates tokens to the times at which stage I compares them; None averages them."""

    def __init__(self, config: TowerConfig, modality: Modality) -> None:
        super().__init__()
        extractor_spec = registry().extractor(config.extractor.name)
        if extractor_spec.modality != modality:
            raise ConfigError(
                f"extractor '{extractor_spec.name}' reads {extractor_spec.modality}, not {modality}"
            )
        aggregator_spec = registry().aggregator(config.aggregator.name)
        extractor_config: ExtractorConfig = config.extractor.parse(extractor_spec)
        features = feature_map_of(extractor_spec, extractor_config)
        self.config, self.modality = config, modality
        self.frontend = extractor_config.frontend
        self.segment_s = extractor_config.segment_s
        self.extractor: Extractor = build_component("extractor", extractor_spec, extractor_config)
        self.aggregator: Aggregator = build_component(
            "aggregator", aggregator_spec, config.aggregator.parse(aggregator_spec), features
        )
        self.declared = (features.steps, features.positions, features.dim)
        dim = config.projection_dim or features.dim
        self.projection = nn.Linear(features.dim, dim) if config.projection_dim else nn.Identity()
        positions = features.positions if aggregator_spec.keeps_positions else 1
        self.tokens = FeatureMap(times_s=features.times_s, positions=positions, dim=dim)
        self.register_buffer("compare_at", None, persistent=False)
        self.precision: Precision = "fp32"

    def forward(self, segments: Tensor) -> Float[Tensor, "N TxP D"]:
        """Encode segments after the front end into tokens: one per time step, or T*P.

        Raises:
            PluginError: if a plugin gives something of another shape than it declares.
        """
        return self.tokens_from(self.extractor(segments))

    def tokens_from(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N TxP W"]:
        """Aggregate what the extractor gives."""
        self._check("extractor", features, self.declared)
        tokens = self.aggregator(features)  # (N, T*P, D), P mostly 1
        dim = self.declared[2]
        self._check("aggregator", tokens, (self.tokens.num_tokens, dim))
        return self.projection(tokens)

    def _check(self, kind: str, given: Tensor, declared: tuple[int, ...]) -> None:
        shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        if shape[1:] != declared:
            name = getattr(self.config, kind).name
            raise PluginError(
                f"{kind} '{name}' declares {('N', *declared)} and gives {shape}; "
                f"see: zoo plugin check {name}"
            )

    def embed(self, tokens: Float[Tensor, "N TxP D"]) -> Float[Tensor, "N E"]:
        """Turn the tokens of segments into unit vectors to compare (paper section 3.2)."""
        if self.tokens.positions > 1:
            tokens = tokens.unflatten(1, (self.tokens.steps, -1)).mean(dim=2)  # (N, T, D)
        if self.compare_at is None:
            return normalize(tokens.mean(dim=1), dim=-1)
        return normalize((self.compare_at @ tokens).flatten(1), dim=-1)

    @torch.no_grad()
    def encode(self, segments: Tensor, chunk: int | None = None) -> Float[Tensor, "N TxP D"]:
        """Encode many segments without gradients, ``chunk`` at a time, in bounded memory."""
        chunk = chunk or min(MOST_SEGMENTS, ENCODED_AT_ONCE // segments.shape[1:].numel()) or 1
        with autocast(segments.device, self.precision):
            return torch.cat([self(part).float() for part in segments.split(chunk)])


class SyncModel(nn.Module):
    """Two towers and a head: segments of a crop in, offset logits out (paper section 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = Tower(config.audio, "audio")
        self.vision = Tower(config.vision, "vision")
        _check_fit(self, config.layout)
        if config.compare == "aligned":
            _align(self.audio, self.vision)
        self.head: Head | None = None
        if config.head is not None:
            spec = registry().head(config.head.name)
            head_input = HeadInput(
                audio=self.audio.tokens,
                vision=self.vision.tokens,
                layout=config.layout,
                grid=config.grid,
            )
            self.head = build_component("head", spec, config.head.parse(spec), head_input)

    @property
    def task(self) -> Task:
        """What the head answers."""
        head = self.config.head
        return "offset" if head is None else registry().head(head.name).task

    @property
    def can_compare(self) -> bool:
        """Whether segments of both modalities lie in one space, as stage I needs them."""
        return self.audio.tokens.dim == self.vision.tokens.dim

    def has_same_towers(self, other: SyncModel) -> bool:
        """Say whether another model gives the same tokens for the same segments."""
        if (self.config.audio, self.config.vision) != (other.config.audio, other.config.vision):
            return False
        pairs = ((self.audio, other.audio), (self.vision, other.vision))
        states = [(x.state_dict(), y.state_dict()) for x, y in pairs]
        return all(torch.equal(x[name], y[name]) for x, y in states for name in x)

    @property
    def precision(self) -> Precision:
        """How exactly the towers encode many segments; the head computes in fp32."""
        return self.vision.precision

    @precision.setter
    def precision(self, value: Precision) -> None:
        self.audio.precision = self.vision.precision = value

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, audio: Tensor, vision: Tensor) -> Float[Tensor, "B K"]:
        """Classify crops.

        Args:
            audio: front-end output ``(B, S, F, Ta)``.
            vision: front-end output ``(B, S, C, Tv, H, W)``.
        """
        return self.classify(self.tokens_of(self.audio, audio), self.tokens_of(self.vision, vision))

    def classify(self, audio: Tensor, vision: Tensor) -> Float[Tensor, "B K"]:
        """Run the head on tokens ``(B, S*T, D)``."""
        if self.head is None:
            raise ConfigError("this model has no head: train stage 2 first")
        return self.head(audio, vision)

    @property
    def audio_frontend(self) -> AudioFrontend:
        """What the audio extractor wants to see."""
        assert not isinstance(self.audio.frontend, Frames)
        return self.audio.frontend

    @property
    def vision_frontend(self) -> Frames:
        """What the video extractor wants to see."""
        assert isinstance(self.vision.frontend, Frames)
        return self.vision.frontend

    @staticmethod
    def tokens_of(tower: Tower, segments: Tensor) -> Float[Tensor, "B SxTxP D"]:
        """Encode all segments of a batch of crops."""
        tokens = tower(segments.flatten(0, 1))  # (B*S, T, D)
        return tokens.unflatten(0, segments.shape[:2]).flatten(1, 2)


def require_offsets(model: SyncModel, name: str) -> None:
    """Refuse a model that has no answer to how far the sound is off.

    Raises:
        ConfigError: if the model has no head, or a head that answers something else.
    """
    if model.head is None:
        raise ConfigError(f"'{name}' has no head yet: train stage 2 first (zoo train --stage 2)")
    if model.task != "offset":
        raise ConfigError(
            f"'{name}' says whether sound and picture can be synchronized, not by how much; "
            "choose a model that predicts offsets (see: zoo list models)"
        )


def enable_gradient_checkpointing(model: SyncModel) -> None:
    """Trade compute for memory in the backward pass of all extractors that can."""
    for tower in (model.audio, model.vision):
        enable = getattr(tower.extractor, "enable_gradient_checkpointing", None)
        if enable is not None:
            enable()


def _check_fit(model: SyncModel, layout: SegmentLayout) -> None:
    for tower in (model.audio, model.vision):
        if abs(tower.segment_s - layout.segment_s) > 1e-9:
            raise ConfigError(
                f"the {tower.modality} extractor '{tower.config.extractor.name}' reads segments of "
                f"{tower.segment_s:g} s, but the layout has {layout.segment_s:g} s; set one length "
                "for all: --set layout.segment_s=S"
            )


def _align(audio: Tower, vision: Tower) -> None:
    """Let both towers be compared at the times of the one with fewer steps."""
    fewer = min((audio, vision), key=lambda tower: tower.tokens.steps)
    for tower in (audio, vision):
        tower.compare_at = interpolation(tower.tokens.times_s, fewer.tokens.times_s)


def interpolation(times_s: tuple[float, ...], wanted_s: tuple[float, ...]) -> Float[Tensor, "L T"]:
    """Return the matrix that interpolates values at some times linearly to other times."""
    columns = [np.interp(wanted_s, times_s, row) for row in np.eye(len(times_s))]
    return torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)


def count_parameters(module: nn.Module) -> int:
    """Count all parameters, frozen ones included."""
    return sum(p.numel() for p in module.parameters())
