"""Any model, ready for files."""

from __future__ import annotations

from pathlib import Path

import torch

from zoo.catalog.entries import BY_CATALOG, NO_MODEL, resolve, second_model
from zoo.catalog.model_folder import load_model, read_config
from zoo.contracts import Precision
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.predictor import Predictor, no_head, require_task
from zoo.inference.synchronizability import load_synchronizability
from zoo.models.model import Model, build_task, require_offsets
from zoo.models.task import Task


def load(
    name: str | Path,
    device: torch.device | str = "cpu",
    synchronizability: str | Path | None = BY_CATALOG,
    precision: Precision = "fp32",
) -> Predictor:
    """Load a model by catalog name or folder.

    Args:
        name: a model with a head.
        device: where it computes.
        synchronizability: beside a model that finds offsets, a second one that says whether a clip
            can be synchronized at all; by default the one that the catalog names, if any; None or
            ``"none"`` leaves it out.
        precision: of the encoder; bf16 is faster where the device can multiply it.

    Returns:
        An `OffsetPredictor` for a model that finds offsets.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it has no head, or a second model does not go with it.
    """
    model = _load(name, precision)
    finds_offsets = require_task(model, str(name)).answers_offsets
    if finds_offsets or synchronizability not in (BY_CATALOG, NO_MODEL, None):
        return _beside(model, name, device, synchronizability)
    return Predictor(model, str(name), device)


def load_offsets(
    name: str | Path,
    device: torch.device | str = "cpu",
    synchronizability: str | Path | None = BY_CATALOG,
    precision: Precision = "fp32",
) -> OffsetPredictor:
    """Load a model that finds offsets; see `load`.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it answers something else.
    """
    return _beside(_load(name, precision), name, device, synchronizability)


def read_task(name: str | Path) -> Task:
    """Return what a model was trained to answer, without loading its weights.

    Raises:
        ModelError: if there is no such model.
        ConfigError: if it has no head.
    """
    config = read_config(resolve(name))
    if config.task is None or config.head is None:
        raise no_head(name)
    return build_task(config.task)


def _load(name: str | Path, precision: Precision) -> Model:
    model = load_model(resolve(name))
    model.precision = precision
    return model


def _beside(
    model: Model,
    name: str | Path,
    device: torch.device | str,
    synchronizability: str | Path | None,
) -> OffsetPredictor:
    """Put the second model beside the one that finds offsets."""
    require_offsets(model, str(name))
    second = None
    second_name = second_model(name, synchronizability)
    if second_name is not None:
        second = load_synchronizability(second_name, device)
        second.model.precision = model.precision
    return OffsetPredictor(model, str(name), device, second)
