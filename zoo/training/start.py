"""What a run starts from: model folders, published models, weights of a part of a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.catalog.entries import CONFIG, lookup, read_catalog, read_description, resolve
from zoo.catalog.model_folder import load_model, save_model
from zoo.checkpoints.layouts import read_model, read_tensors
from zoo.contracts import Positions
from zoo.errors import ConfigError, ModelError, option, suggest
from zoo.files import sha256_of
from zoo.models.config import ModelConfig
from zoo.models.model import OBJECTIVE, Model, build_objective
from zoo.models.upgrade import read_model_config
from zoo.models.without_values import without_values
from zoo.training.job import STAGE1_FOLDER, take_encoder, take_objective
from zoo.training.recipe import Recipe
from zoo.training.start_weights import ENCODER, StartWeights, are_weights, fill, find_weights

log = logging.getLogger(__name__)
START_FOLDER, TAKEN = "init", "started_from"
DEFAULT_POSITIONS: Positions = "interpolate"


def find_start(given: str) -> Path:
    """Return the file or model folder that ``--init`` names.

    Raises:
        ModelError: if there is none, or it must be pulled first.
    """
    is_named = lookup(given) is not None
    if not is_named and not Path(given).exists():
        raise ModelError(
            f"{option('init')} {given}: no such file or folder, and no such model in the catalog"
            f"{suggest(given, read_catalog())}"
        )
    path = resolve(given) if is_named else Path(given)
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
    return _config_in(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _config_in(path: Path, _mtime_ns: int) -> ModelConfig | None:
    """Return the config of the model in a file, which is read and checked once."""
    return None if are_weights(read_tensors(path)) else read_model(path)[1].config


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
    """Check that the weights of a model, or of parts of one, fit a recipe.

    Raises:
        ConfigError: if a tensor has another shape, or weights are of no part of the recipe, or of
            one that was filled before.
        ModelError: if they do not fit.
    """
    whole = config_of_start(given)
    if whole is not None:
        with without_values():
            Model(_bare(recipe.model)).encoder.take(Model(_bare(whole)).encoder)
    for weights in _weights_in(given, recipe):
        if weights.place == ENCODER and whole is not None:
            raise ConfigError(
                f"{option('init')} {weights.path} and {given[0]} both fill the encoder",
                "leave one out",
            )
        weights.read(positions, recipe)


def _bare(config: ModelConfig) -> ModelConfig:
    return config.model_copy(update={"head": None})


def prepare_start(given: Sequence[str], positions: Positions, recipe: Recipe, folder: Path) -> None:
    """Write the model folder that a run starts from: an encoder, mostly without a head.

    The encoder of a whole model comes first, then weights of parts; everything else is as in a
    fresh run.  What the objective has learnt is taken too, if it is the same one.

    Args:
        given: what ``--init`` names.
        positions: how tables of positions are brought to their length.
        recipe: of the run.
        folder: to write.

    Raises:
        ModelError: if a file cannot be read or does not fit.
    """
    torch.manual_seed(recipe.seed)
    taken: list[dict[str, Any]] = []
    whole, origin = _read_whole(find_start(given[0]))
    model = Model(_bare(recipe.model))
    if whole is not None and recipe.task.fine_tunes:  # which starts from a trained head too
        kept = {key: getattr(whole.config, key) for key in ("head", "layout", "task")}
        model = Model(recipe.model.model_copy(update=kept))
        if whole.head is not None and model.head is not None:
            model.head.load_state_dict(whole.head.state_dict())
    learnt: dict[str, Tensor] | None = None  # by the objective
    if whole is not None:
        take_encoder(model, whole)
        learnt = _learnt(model, recipe, whole)
        taken.append({"fills": _filled("the encoder", learnt), **origin})
    for weights in _weights_in(given, recipe):
        given_part, of_objective = weights.read(positions, recipe)
        _take(model, weights, given_part)
        if weights.place != ENCODER:
            model.beside.clear()  # a decoder of the extractor that was there
            learnt = None
        if of_objective:
            own = dict(build_objective(recipe.objective, model.encoder).state_dict())
            learnt = own if fill(own, of_objective) else None
            if learnt is None:
                log.warning("the decoder of %s has other sizes, and is left out", weights.path)
        origin = _origin(weights.path, weights.layout.name)
        filled = _filled(weights.title, learnt if of_objective else None)
        taken.append({"fills": filled, **origin, "positions": positions})
    save_model(folder, model, learnt, **{TAKEN: taken})


def _read_whole(path: Path) -> tuple[Model | None, dict[str, str]]:
    """Return the whole model to start from, and where it is from; None if there is none."""
    if path.is_dir():
        return load_model(path), {"folder": str(path)}
    if _read_config(path) is None:
        return None, {}
    name, whole = read_model(path)
    return whole, _origin(path, name)


def _learnt(model: Model, recipe: Recipe, whole: Model) -> dict[str, Tensor] | None:
    """Return what the objective of a recipe has learnt already in the model to start from."""
    known, wanted = whole.config.objective, recipe.objective
    if OBJECTIVE not in whole.beside or known is None or known.name != wanted.name:
        return None
    objective = build_objective(wanted, model.encoder)
    return dict(objective.state_dict()) if take_objective(objective, wanted.name, whole) else None


def _take(model: Model, weights: StartWeights, given: Mapping[str, Tensor]) -> None:
    """Give a part of a model its weights; an encoder may keep some of its own."""
    if weights.place != ENCODER:
        getattr(model.encoder, weights.place).extractor.load_state_dict(given)
        return
    model.encoder.load_state_dict({**model.encoder.state_dict(), **given})


def _filled(what: str, objective: Mapping[str, Tensor] | None) -> str:
    return f"{what} and the objective" if objective else what


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


def _weights_in(given: Sequence[str], recipe: Recipe) -> list[StartWeights]:
    """Return the weights of parts of a model among what ``--init`` names."""
    return find_weights([(name, find_start(name)) for name in given], recipe)
