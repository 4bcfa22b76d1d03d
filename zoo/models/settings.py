"""Settings by their names, ``encoder.mode``: of a recipe, or of a model read from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import JsonValue, ValidationError

from zoo.contracts import Frames
from zoo.errors import ConfigError, option, suggest
from zoo.models.config import ModelConfig, explain

# JSON leaves these out of a front end of frames while they are as earlier versions had them.
LEFT_OUT = {name: f.default for name, f in Frames.model_fields.items() if f.exclude_if is not None}
FRAMES_KIND = Frames().kind
CLASSES = "classes"  # of a task whose outputs have names
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


def read_value(text: str) -> JsonValue:
    """Read the value of an assignment, as YAML."""
    try:
        return float(text)  # YAML reads 1e-4 as a string
    except ValueError:
        return yaml.safe_load(text)


def read_assignments(assignments: Iterable[str]) -> dict[str, JsonValue]:
    """Return ``key=value`` assignments as a table.

    Raises:
        ConfigError: if one is not of that form.
    """
    return {key: read_value(text) for key, text in map(split_assignment, assignments)}


def split_assignment(assignment: str) -> tuple[str, str]:
    """Return key and value of ``key=value``.

    Raises:
        ConfigError: if it is not of that form.
    """
    key, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(f"{option('set')} takes key=value, got '{assignment}'")
    return key.strip(), text


def assign(data: dict[str, Any], key: str, value: JsonValue) -> None:
    """Set one place of a recipe as JSON; a model alone is ``{"model": ...}``.

    Raises:
        ConfigError: for an unknown key, with a suggestion.
    """
    full = key
    for short, long in sorted(_ALIASES.items(), key=lambda pair: len(pair[0])):
        if key.startswith(short):
            full = long + key.removeprefix(short)
    *parents, last = full.split(".")
    place: Any = data
    for part in [*parents, last]:
        if isinstance(place, dict) and place.get("kind") == FRAMES_KIND:
            place |= {name: value for name, value in LEFT_OUT.items() if name not in place}
        if not isinstance(place, dict) or part not in place:
            known = place if isinstance(place, dict) else {}
            raise ConfigError(f"{option('set')}: unknown key '{key}'{suggest(part, known)}")
        if part is not last:
            place = place[part]
    if isinstance(value, float) and isinstance(place[last], int) and value.is_integer():
        value = int(value)
    place[last] = value


def with_settings(config: ModelConfig, settings: Mapping[str, JsonValue]) -> ModelConfig:
    """Change settings of a model, by the names that ``zoo train --set`` knows.

    Raises:
        ConfigError: for an unknown key or a value of the wrong type.
    """
    data = {"model": config.completed().model_dump(mode="json")}
    for key, value in settings.items():
        assign(data, key, value)
    try:
        changed = ModelConfig.model_validate(data["model"])
    except ValidationError as error:
        raise ConfigError(explain(error, "", ModelConfig)) from None
    return changed.completed()


def with_classes(config: ModelConfig, names: Sequence[str]) -> ModelConfig:
    """Name the classes of a model, in the order of its outputs.

    Raises:
        ConfigError: if the model has none, or another number of them.
    """
    known = None if config.task is None else config.task.config.get(CLASSES)
    if not isinstance(known, list):
        raise ConfigError("the model has no classes to name")
    if len(known) != len(names):
        raise ConfigError(f"the model has {len(known)} classes, and {len(names)} names are given")
    return with_settings(config, {f"task.{CLASSES}": list(names)})
