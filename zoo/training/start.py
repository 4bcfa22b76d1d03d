"""What a run starts from: model folders, published models, weights of single extractors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.catalog.entries import CONFIG, read_catalog, read_description, resolve
from zoo.catalog.model_folder import load_model, save_model
from zoo.checkpoints.layouts import (
    Tensors,
    find_extractors,
    find_model,
    read_model,
    read_tensors,
)
from zoo.contracts import Modality, Positions, WeightsFormat
from zoo.errors import ConfigError, ModelError, option, suggest
from zoo.files import sha256_of
from zoo.models.config import Component, ModelConfig
from zoo.models.model import Model
from zoo.models.upgrade import read_model_config
from zoo.registry.manager import registry
from zoo.training.job import STAGE1_FOLDER, take_encoder
from zoo.training.recipe import Recipe

START_FOLDER, TAKEN = "init", "started_from"
DEFAULT_POSITIONS: Positions = "interpolate"


@dataclass(frozen=True)
class _Weights:
    """The weights of one extractor, found in a file."""

    path: Path
    modality: Modality
    extractor: str
    layout: WeightsFormat
    tensors: Tensors


def find_start(given: str) -> Path:
    """Return the file or model folder that ``--init`` names.

    Raises:
        ModelError: if there is none, or it must be pulled first.
    """
    catalog = read_catalog()
    if given not in catalog and not Path(given).exists():
        raise ModelError(
            f"{option('init')} {given}: no such file or folder, and no such model in the catalog"
            f"{suggest(given, catalog)}"
        )
    path = resolve(given) if given in catalog else Path(given)
    inner = path / STAGE1_FOLDER  # of a run that has not ended
    return inner if not (path / CONFIG).exists() and inner.exists() else path


def config_of_start(given: Sequence[str]) -> ModelConfig | None:
    """Return the config of the whole model that a run starts from; None if there is none.

    Raises:
        ModelError: if a file or folder cannot be read.
        ConfigError: if there are several models, or one that is not named first.
    """
    found = None
    for number, name in enumerate(given):
        config = _read_config(find_start(name))
        if config is not None and number:
            raise ConfigError(
                f"{option('init')} {name} is a whole model",
                "name it first, and only one: its encoder is taken, then the extractors of the "
                "others",
            )
        found = found or config
    return found


def _read_config(path: Path) -> ModelConfig | None:
    if path.is_dir():
        return read_model_config(read_description(path), str(path / CONFIG))
    parts = read_tensors(path)
    if any(find_extractors(parts)):
        return None
    find_model(path, parts)
    return read_model(path)[1].config


def start_folder(given: Sequence[str], run: Path) -> Path | None:
    """Return the model folder that the workers of a run read; None for a fresh start."""
    if not given:
        return None
    prepared = run / START_FOLDER
    if (prepared / CONFIG).exists():  # a resumed run: what it was made of may be gone
        return prepared
    first = find_start(given[0])
    return first if len(given) == 1 and first.is_dir() else prepared


def check_start(given: Sequence[str], positions: Positions, recipe: Recipe) -> None:
    """Check that the weights of single extractors fit a recipe.

    Raises:
        ConfigError: if an extractor is not part of the recipe, or is named twice.
        ModelError: if its weights do not fit.
    """
    for weights in _extractors_in(given, recipe):
        _read(weights, positions, recipe)


def prepare_start(given: Sequence[str], positions: Positions, recipe: Recipe, folder: Path) -> None:
    """Write the model folder that a run starts from: an encoder, mostly without a head.

    The encoder of a whole model comes first, then extractors; everything else is as in a fresh run.

    Args:
        given: what ``--init`` names.
        positions: how tables of positions are brought to their length.
        recipe: of the run.
        folder: to write.

    Raises:
        ModelError: if a file cannot be read or does not fit.
    """
    torch.manual_seed(recipe.seed)
    whole: Model | None = None
    taken: list[dict[str, Any]] = []
    first = find_start(given[0])
    if first.is_dir():
        whole = load_model(first)
        taken.append({"fills": "the encoder", "folder": str(first)})
    elif config_of_start(given[:1]) is not None:
        name, whole = read_model(first)
        taken.append({"fills": "the encoder", **_origin(first, name)})
    model = Model(recipe.model.model_copy(update={"head": None}))
    if whole is not None and recipe.task.fine_tunes:  # which starts from a trained head too
        kept = {key: getattr(whole.config, key) for key in ("head", "layout", "task")}
        model = Model(recipe.model.model_copy(update=kept))
        if whole.head is not None and model.head is not None:
            model.head.load_state_dict(whole.head.state_dict())
    if whole is not None:
        take_encoder(model, whole)
    for weights in _extractors_in(given, recipe):
        part = getattr(model.encoder, weights.modality)
        part.extractor.load_state_dict(_read(weights, positions, recipe))
        model.beside.clear()  # a decoder of the extractor that was there
        fills = f"the {weights.modality} extractor {weights.extractor}"
        origin = _origin(weights.path, weights.layout.name)
        taken.append({"fills": fills, **origin, "positions": positions})
    save_model(folder, model, None, **{TAKEN: taken})


def describe_start(folder: Path) -> list[str]:
    """Say what was taken from where, a line each, for a run that starts from a folder."""
    taken = read_description(folder).get(TAKEN)
    if not isinstance(taken, list):
        return [f"starts from the encoder of {folder}"]
    lines = []
    for part in taken:
        details = [f"{part['format']}, sha256 {part['sha256'][:12]}..."] if "file" in part else []
        if "positions" in part:
            details.append(f"positions: {part['positions']}")
        said = f" ({', '.join(details)})" if details else ""
        lines.append(f"{part['fills']} from {part.get('file') or part['folder']}{said}")
    return lines


def _origin(path: Path, layout: str) -> dict[str, str]:
    return {"file": str(path), "format": layout, "sha256": sha256_of(path)}


def _extractors_in(given: Sequence[str], recipe: Recipe) -> list[_Weights]:
    """Return the weights of single extractors among what ``--init`` names."""
    found: dict[str, _Weights] = {}
    for name in given:
        path = find_start(name)
        if path.is_dir():
            continue
        parts = read_tensors(path)
        may_be = list(find_extractors(parts))
        if not may_be:
            continue
        chosen = _extractors_of(recipe, name)
        fitting = [
            _Weights(path, spec.modality, spec.name, layout, tensors)
            for spec, layout, tensors in may_be
            if chosen[spec.modality].name == spec.name
        ]
        if not fitting:
            wanted = " and ".join(f"'{part.name}'" for part in chosen.values())
            raise ConfigError(
                f"{option('init')} {name} holds weights of '{may_be[0][0].name}', but the "
                f"extractors of this run are {wanted}"
            )
        weights = fitting[0]
        if weights.modality in found:
            raise ConfigError(
                f"{option('init')} {name}: the weights of '{weights.extractor}' are taken from "
                f"{found[weights.modality].path} already"
            )
        pair = recipe.model.two_tower()
        if found and pair is not None and pair.siamese:
            raise ConfigError(
                f"{option('init')} {name}: a siamese encoder has one set of blocks, which is taken "
                f"from {next(iter(found.values())).path} already; name one file"
            )
        found[weights.modality] = weights
    return list(found.values())


def _extractors_of(recipe: Recipe, given: str) -> dict[str, Component]:
    """Return both extractors of a recipe.

    Raises:
        ConfigError: if its encoder is no pair of extractors.
    """
    pair = recipe.model.two_tower()
    if pair is None:
        raise ConfigError(
            f"{option('init')} {given} holds weights of one extractor, and the encoder "
            f"'{recipe.model.encoder.name}' has none: start from a model of the same encoder"
        )
    return {"audio": pair.audio.extractor, "vision": pair.vision.extractor}


def _read(weights: _Weights, positions: Positions, recipe: Recipe) -> dict[str, Tensor]:
    component = _extractors_of(recipe, str(weights.path))[weights.modality]
    config = component.parse(registry().extractor(weights.extractor))
    try:
        return weights.layout.read(weights.tensors, config, positions)
    except ModelError as error:
        hint = f"published sizes need {option('preset')} paper" if recipe.preset == "tiny" else ""
        raise ModelError(
            f"{weights.path} ({weights.layout.name}) does not fit the extractor "
            f"'{weights.extractor}' of this run: {error}",
            hint,
        ) from None
