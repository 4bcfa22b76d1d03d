"""What is extracted, and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError

from zoo.contracts import ComponentConfig, Frames, Modality
from zoo.errors import ConfigError, option, suggest
from zoo.models.config import explain
from zoo.models.model import Model
from zoo.timeline import SegmentLayout, to_frames, to_samples

Kind = Literal["audio_tokens", "vision_tokens", "audio_features", "vision_features"]
"""Features are what an extractor gives, tokens what the aggregator makes of them."""
Dtype = Literal["fp16", "bf16", "fp32"]
METHOD = 1  # raised whenever the same clips would give other numbers

KINDS: tuple[Kind, ...] = get_args(Kind)
GROUPS: dict[str, tuple[Kind, ...]] = {
    "tokens": ("audio_tokens", "vision_tokens"),
    "features": ("audio_features", "vision_features"),
    "all": KINDS,
}
V2A_FPS, V2A_FRAMES, V2A_STEP = 25.0, 16, 8  # frames per second, per segment, from one to the next


class Settings(ComponentConfig):
    """Files may lie in one folder only where all of this is equal."""

    which: tuple[Kind, ...] = Field(description="tensors to write")
    dtype: Dtype = Field(description="of the tensors; times are always 64 bits")
    segment_s: float = Field(gt=0, description="length of a segment, seconds")
    step_s: float = Field(gt=0, description="from one segment's start to the next, seconds")
    short_side: int = Field(gt=0, description="of the frames before the crop, pixels")
    model: str = Field(description="name or folder of the model")
    sha256: str = Field(description="of its weights")
    method: int = Field(METHOD, description="version of this code's definition of the features")

    @property
    def modalities(self) -> list[Modality]:
        """Which streams of a clip are read: ``audio``, ``vision``."""
        read = {kind.partition("_")[0] for kind in self.which}
        return [modality for modality in get_args(Modality) if modality in read]

    def layout(self, num_segments: int) -> SegmentLayout:
        """Return where so many segments lie, from time 0 of the clip."""
        return SegmentLayout(
            num_segments=num_segments, segment_s=self.segment_s, step_s=self.step_s
        )

    def difference(self, other: Settings) -> str | None:
        """Say where these settings differ from others; None where they do not.

        The model is known by its weights, whatever its name is.
        """
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name != "model" and mine != theirs:
                mine, theirs = (", ".join(v) if isinstance(v, tuple) else v for v in (mine, theirs))
                return f"{name.removesuffix('_s')} {theirs} there, {mine} here"
        return None


def build_settings(
    model: Model,
    name: str,
    sha256: str,
    *,
    preset: str | None = None,
    which: str | Sequence[str] | None = None,
    dtype: str | None = None,
    step_s: float | None = None,
    short_side: int | None = None,
) -> Settings:
    """Fill in what was not asked for, from a preset or from the model, and check the rest.

    Raises:
        ConfigError: if a value is unknown, or does not fit the model.
    """
    layout, frames = model.config.layout, model.vision_frontend
    frames_per_segment = frames.num_frames(model.io.vision.segment_s)
    values: dict[str, Any] = {
        "which": "tokens",
        "dtype": "fp32",
        "step_s": layout.step_s,
        "short_side": frames.short_side,
    }
    if preset is not None:
        values |= _of_preset(preset, frames, frames_per_segment, name)
    asked = {"which": which, "dtype": dtype, "step_s": step_s, "short_side": short_side}
    values |= {option: value for option, value in asked.items() if value is not None}
    values |= {"which": parse_which(values["which"]), "segment_s": layout.segment_s}
    _known(values["dtype"], get_args(Dtype), "dtype")
    try:
        settings = Settings(**values, model=name, sha256=sha256)
        settings.layout(2)
    except ValidationError as error:
        raise ConfigError(explain(error, "", Settings)) from None
    _check_fit(settings, model)
    return settings


def parse_which(which: str | Sequence[str]) -> tuple[Kind, ...]:
    """Read names of tensors or of groups of them, such as ``tokens`` or ``audio_tokens``.

    Raises:
        ConfigError: if there is no such name.
    """
    words = which.split(",") if isinstance(which, str) else which
    wanted: set[str] = set()
    for word in (word.strip() for word in words):
        _known(word, (*GROUPS, *KINDS), "which")
        wanted.update(GROUPS.get(word, (word,)))
    return tuple(kind for kind in KINDS if kind in wanted)


def _known(value: str, known: Sequence[str], name: str) -> None:
    if value not in known:
        raise ConfigError(
            f"{option(name)} '{value}' is not one of {', '.join(known)}{suggest(value, known)}"
        )


def _of_preset(
    preset: str, frames: Frames, frames_per_segment: int, name: str
) -> dict[str, str | float]:
    """Return the values of a preset.

    Source of v2a: MMAudio, whose frames are scaled to the size of the crop, so that the crop
    takes all of the shorter side.
    """
    _known(preset, ("v2a",), "preset")
    if frames.fps != V2A_FPS or frames_per_segment != V2A_FRAMES:
        raise ConfigError(
            f"preset v2a is {V2A_FRAMES} frames at {V2A_FPS:g} per second, and '{name}' reads "
            f"segments of {frames_per_segment} frames at {frames.fps:g}; choose "
            f"another model, or set {option('which')} and the step yourself"
        )
    return {
        "which": "vision_tokens",
        "dtype": "fp16",
        "step_s": V2A_STEP / V2A_FPS,
        "short_side": frames.size,
    }


def _check_fit(settings: Settings, model: Model) -> None:
    """Refuse what the encoder cannot give.

    That is: features without extractors, steps between frames or samples, frames smaller than
    their crop.
    """
    frames, audio = model.vision_frontend, model.audio_frontend
    asks_features = any(kind in GROUPS["features"] for kind in settings.which)
    if asks_features and model.config.two_tower() is None:
        raise ConfigError(
            f"the encoder of '{settings.model}' is no pair of extractors, so it has tokens but no "
            f"features; choose {option('which')} tokens"
        )
    if "vision" in settings.modalities:
        to_frames(settings.step_s, frames.fps)
    if "audio" in settings.modalities:
        to_samples(settings.step_s, audio.sample_rate_hz)
    if settings.short_side < frames.size:
        raise ConfigError(
            f"{option('short_side')} {settings.short_side} is smaller than the crop of "
            f"{frames.size} pixels that '{settings.model}' looks at"
        )
