"""What a model is made of, as JSON: components by name, validated by their plugins. No torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, JsonValue, ValidationError

from zoo.contracts import (
    ComponentConfig,
    EncoderConfig,
    EncoderIO,
    ExtractorConfig,
    ExtractorSpec,
    FeatureMap,
    Frames,
    Modality,
    ModalityIO,
    PairSpec,
    Spec,
)
from zoo.errors import ConfigError, PluginError, ZooError, suggest
from zoo.registry.manager import registry
from zoo.registry.plugin_files import reason_of
from zoo.timeline import SegmentLayout


class Component(ComponentConfig):
    """A registered component by name, with its configuration as JSON."""

    name: str = Field(description="registered name")
    config: dict[str, JsonValue] = Field(default_factory=dict, description="its own fields")

    @classmethod
    def of(cls, spec: Spec, config: ComponentConfig) -> Component:
        """Return a component with a configuration of its plugin."""
        return cls(name=spec.name, config=config.model_dump(mode="json"))

    def parse(self, spec: Spec) -> Any:
        """Validate the configuration with the plugin's own class.

        Raises:
            ConfigError: naming the field that does not fit.
        """
        try:
            return spec.config_class.model_validate(self.config)
        except ValidationError as error:
            raise ConfigError(explain(error, f"{spec.name}.", spec.config_class)) from None


class ModalityConfig(ComponentConfig):
    """One modality of a two-tower encoder: extractor, aggregator, projection."""

    extractor: Component
    aggregator: Component
    projection_dim: int | None = Field(
        None, gt=0, description="width of the space stage I compares in; None is the identity"
    )

    def extractor_config(self) -> ExtractorConfig:
        """Validate the extractor's own configuration."""
        config: ExtractorConfig = self.extractor.parse(registry().extractor(self.extractor.name))
        return config

    def features(self) -> FeatureMap:
        """Return what comes out of the extractor."""
        return feature_map_of(registry().extractor(self.extractor.name), self.extractor_config())

    def io(self) -> ModalityIO:
        """Return what is read, and the tokens that come out."""
        config, features = self.extractor_config(), self.features()
        spec = registry().aggregator(self.aggregator.name)
        tokens = FeatureMap(
            times_s=features.times_s,
            positions=spec.positions(self.aggregator.parse(spec), features),
            dim=self.projection_dim or features.dim,
        )
        return ModalityIO(frontend=config.frontend, segment_s=config.segment_s, tokens=tokens)


class TwoTowerConfig(EncoderConfig):
    """Two extractors that never see each other's modality, with what follows each."""

    audio: ModalityConfig
    vision: ModalityConfig
    siamese: bool = Field(
        False,
        description="share attention and MLPs of the transformer blocks between both extractors; "
        "norms stay apart",
    )

    def io(self) -> EncoderIO:
        """Return what both modalities read and give."""
        audio, vision = self.audio.io(), self.vision.io()
        segment_s = max(audio.segment_s, vision.segment_s)
        return EncoderIO(audio=audio.within(segment_s), vision=vision.within(segment_s))

    def modality(self, name: Modality) -> ModalityConfig:
        """Return the part of one modality."""
        return self.audio if name == "audio" else self.vision


class ModelConfig(ComponentConfig):
    """Everything needed to rebuild a model without its weights."""

    encoder: Component
    objective: Component | None = Field(
        None, description="what stage I trained the encoder with, and how it compares segments"
    )
    task: Component | None = None
    head: Component | None = None
    layout: SegmentLayout = SegmentLayout()

    def encoder_config(self) -> EncoderConfig:
        """Validate the encoder's own configuration."""
        return parse_encoder(self.encoder)

    def two_tower(self) -> TwoTowerConfig | None:
        """Return the two extractors of a pair; None for an encoder of another kind."""
        config = self.encoder_config()
        return config if isinstance(config, TwoTowerConfig) else None

    def completed(self) -> ModelConfig:
        """Return it with every field of its parts, those included that an earlier version lacked.

        Raises:
            ZooError: if a part is not installed, or does not take its settings.
        """
        full = self.encoder_config().model_dump(mode="json")
        parts = {"encoder": self.encoder.model_copy(update={"config": full})}
        for kind in ("objective", "task", "head"):
            part: Component | None = getattr(self, kind)
            if part is not None:
                spec = getattr(registry(), kind)(part.name)
                parts[kind] = Component.of(spec, part.parse(spec))
        return self.model_copy(update=parts)

    def task_config(self) -> Any:
        """Validate the task's own configuration; None without a task."""
        return None if self.task is None else self.task.parse(registry().task(self.task.name))

    def components(self) -> list[tuple[str, Component]]:
        """Return every component with its kind: ``extractors``, ``heads``, ..."""
        pair = self.two_tower()
        found: list[tuple[str, Component]] = []
        if pair is None:
            found.append(("encoders", self.encoder))
        else:
            parts = (pair.audio, pair.vision)
            found += [("extractors", part.extractor) for part in parts]
            found += [("aggregators", part.aggregator) for part in parts]
        named = (("objectives", self.objective), ("tasks", self.task), ("heads", self.head))
        return found + [(kind, part) for kind, part in named if part is not None]

    @property
    def vision_fps(self) -> float:
        """Frames per second that the encoder reads."""
        frontend = self.encoder_config().io().vision.frontend
        assert isinstance(frontend, Frames)
        return frontend.fps

    @property
    def encoder_title(self) -> str:
        """What the encoder is called in a sentence: ``ast + motionformer``."""
        return self.encoder.name.replace("+", " + ")


def parse_encoder(encoder: Component) -> EncoderConfig:
    """Validate the configuration of an encoder.

    Raises:
        PluginError: if there is no such encoder.
        ConfigError: naming the field that does not fit.
    """
    spec = registry().encoder(encoder.name)
    config_class = TwoTowerConfig if isinstance(spec, PairSpec) else spec.config_class
    try:
        return config_class.model_validate(encoder.config)
    except ValidationError as error:
        typed = "" if isinstance(spec, PairSpec) else "encoder."  # as after --set
        raise ConfigError(explain(error, typed, config_class)) from None


def pair_component(config: TwoTowerConfig) -> Component:
    """Return a two-tower encoder by the names of its extractors, whatever pair they came from."""
    name = f"{config.audio.extractor.name}+{config.vision.extractor.name}"
    return Component(name=name, config=config.model_dump(mode="json"))


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


def explain(error: ValidationError, prefix: str, config_class: type[BaseModel]) -> str:
    """Turn the first problem pydantic found into one sentence."""
    first = error.errors()[0]
    field = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{field}'{suggest(str(first['loc'][-1]), config_class.model_fields)}"
    if first["type"] == "value_error":  # of a validator, which says what is wrong in its own words
        return f"{field.rstrip('.')}: {first['ctx']['error']}".lstrip(": ")
    return f"'{field}': {first['msg']}, got {first['input']!r}"
