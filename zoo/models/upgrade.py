"""What earlier versions wrote, brought to what this one reads.

``format_version`` of ``model.json``: none means 1, which knew pairs of extractors, offsets and
synchronizability only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from zoo.errors import ConfigError, ModelError
from zoo.models.config import ModelConfig, explain
from zoo.registry.manager import registry

FORMAT_VERSION = 2
_DAMAGES = (KeyError, TypeError, AttributeError)  # of dictionaries that lack what they should have


def upgrade_description(description: dict[str, Any], where: str) -> dict[str, Any]:
    """Bring the content of a ``model.json`` to this version.

    Raises:
        ModelError: if it was written by a later version, or is damaged.
        PluginError: if a head that is not installed decides what the model answers.
    """
    version = description.get("format_version", 1)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelError(
            f"{where} has the format version {version}, and this version of avsync-zoo reads "
            f"{FORMAT_VERSION} and earlier ones: update it"
        )
    if version == FORMAT_VERSION or not isinstance(description.get("config"), dict):
        return description
    try:
        config = upgrade_model(description["config"], None)
    except _DAMAGES:
        raise ModelError(f"{where} is damaged: it does not describe a model") from None
    return {**description, "config": config, "format_version": FORMAT_VERSION}


def read_model_config(description: dict[str, Any], where: str) -> ModelConfig:
    """Return the configuration that a ``model.json`` of any version describes.

    Raises:
        ModelError: if it describes none.
        PluginError: if a component that decides what it means is not installed.
    """
    try:
        return ModelConfig.model_validate(upgrade_description(description, where).get("config"))
    except ValidationError as error:
        raise ModelError(f"{where}: {explain(error, '', ModelConfig)}") from None


def upgrade_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Bring a recipe to this version.

    Raises:
        ConfigError: if it is damaged.
    """
    model = recipe.get("model")
    if not isinstance(model, dict) or "audio" not in model:
        return recipe
    stage1, stage2 = dict(recipe.get("stage1") or {}), dict(recipe.get("stage2") or {})
    objective = stage1.pop("objective", None)
    if "towers" in stage2:
        stage2["encoder"] = stage2.pop("towers")
    try:
        model = upgrade_model(model, objective)
    except _DAMAGES:
        raise ConfigError("the recipe is damaged: it does not describe a model") from None
    return {**recipe, "model": model, "stage1": stage1, "stage2": stage2}


def upgrade_model(config: dict[str, Any], objective: dict[str, Any] | None) -> dict[str, Any]:
    """Bring the configuration of a model to this version: a pair with a grid and a comparison."""
    if "audio" not in config:
        return config
    old = dict(config)
    audio, vision, head = old.pop("audio"), old.pop("vision"), old.pop("head", None)
    grid, compare = old.pop("grid", None), old.pop("compare", "mean")
    temperature = old.pop("temperature", None)
    found = registry()
    task = found.default_task().name if head is None else found.head(head["name"]).tasks[0]
    objective = dict(objective or {"name": found.default_objective().name})
    settings = {**(objective.get("config") or {})}
    if "compare" in found.objective(objective["name"]).config_class.model_fields:
        settings["compare"] = compare
        if temperature is not None:
            settings["temperature"] = temperature
    name = f"{audio['extractor']['name']}+{vision['extractor']['name']}"
    return {
        **old,
        "encoder": {"name": name, "config": {"audio": audio, "vision": vision}},
        "objective": {**objective, "config": settings},
        "task": {"name": task, "config": {} if grid is None else {"grid": grid}},
        "head": head,
    }


def upgrade_names(tensors: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """Bring the names of weights to this version: both modalities lie in the encoder now."""
    names = set(wanted)
    return {
        f"encoder.{name}" if name not in names and f"encoder.{name}" in names else name: tensor
        for name, tensor in tensors.items()
    }
