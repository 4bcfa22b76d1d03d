"""Model folders: safetensors, the config that rebuilds the model, a hash."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.catalog.entries import (
    CALIBRATION,
    CONFIG,
    WEIGHTS,
    CatalogEntry,
    add_entry,
    find,
    read_catalog,
    read_description,
    user_catalog,
)
from zoo.errors import ModelError, PluginError, option
from zoo.files import part_beside, remove_quietly, save_tensors, sha256_of, write_whole
from zoo.models.calibration import Calibration
from zoo.models.config import ModelConfig
from zoo.models.device import fork_safely
from zoo.models.model import FAMILIAR, OBJECTIVE, Model, count_parameters
from zoo.models.settings import with_classes
from zoo.models.upgrade import FORMAT_VERSION, read_model_config, upgrade_names
from zoo.models.without_values import WithoutInitialisation
from zoo.registry.manager import registry
from zoo.registry.plugin_files import missing_plugin, origin_of

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "add_model",
    "files_of",
    "keep_calibration",
    "load_model",
    "name_classes",
    "read_config",
    "read_description",
    "save_model",
    "verify_folder",
]


def save_model(
    folder: Path, model: Model, objective: Mapping[str, Tensor] | None = None, **facts: Any
) -> None:
    """Write a model folder: ``model.safetensors`` and ``model.json``.

    Args:
        folder: where; made if missing.
        model: what to save.
        objective: trained parameters of its objective, such as a decoder, kept in a file of their
            own; by default those that the model came with.
        facts: anything else worth knowing, kept in ``model.json`` (scores, say).

    Raises:
        ModelError: if a weight is not finite; nothing is written then.
        OSError: if the folder cannot be written.
    """
    beside = {name: read() for name, read in model.beside.items()}
    if objective is not None:
        beside[OBJECTIVE] = objective
    for tensors in (model.state_dict(), beside.get(OBJECTIVE, {})):
        _require_finite(tensors, "the model")
    folder.mkdir(parents=True, exist_ok=True)
    tensors_of: dict[str, Mapping[str, Tensor]] = {WEIGHTS: model.state_dict()}
    tensors_of |= {f"{name}.safetensors": tensors for name, tensors in beside.items() if tensors}
    parts = {name: folder / f".{name}.part" for name in tensors_of}
    try:
        for name, tensors in tensors_of.items():
            save_tensors(tensors, parts[name])
        hashes = {name: sha256_of(part) for name, part in parts.items()}
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            remove_quietly(part)
    weights_sha256 = hashes.pop(WEIGHTS)
    description = {
        "format_version": FORMAT_VERSION,
        "config": model.config.model_dump(mode="json"),
        "sha256": weights_sha256,
        **({"beside": {Path(n).stem: sha256 for n, sha256 in hashes.items()}} if hashes else {}),
        "parameters": count_parameters(model),
        "plugins": plugins_of(model.config),
        **_calibration_of(model),
        **facts,
    }
    write_whole(folder / CONFIG, json.dumps(description, indent=2) + "\n")
    for name in parts:  # safetensors writes for its owner
        (folder / name).chmod((folder / CONFIG).stat().st_mode)


def _calibration_of(model: Model) -> dict[str, Any]:
    known = model.calibration
    return {} if known is None else {CALIBRATION: known.model_dump(mode="json")}


def _read_calibration(description: Mapping[str, Any], where: Path) -> Calibration | None:
    """Read what probabilities are worth, if that is known.

    Raises:
        ModelError: if it is damaged.
    """
    if CALIBRATION not in description:
        return None
    try:
        return Calibration.model_validate(description[CALIBRATION])
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"])
        raise ModelError(f"{where} has a damaged '{CALIBRATION}': {reason}") from None


def keep_calibration(folder: Path, model: Model) -> None:
    """Keep in a model's folder what its probabilities are worth, and which tokens are usual.

    Raises:
        ModelError: if the folder does not describe a model.
        OSError: if it cannot be written.
    """
    description, familiar = read_description(folder), model.beside[FAMILIAR]()
    beside = {n: sha256 for n, sha256 in description.get("beside", {}).items() if n != FAMILIAR}
    # An interruption leaves a model without a calibration rather than with half of one.
    without = {key: value for key, value in description.items() if key != CALIBRATION}
    write_whole(folder / CONFIG, json.dumps({**without, "beside": beside}, indent=2) + "\n")
    file = folder / f"{FAMILIAR}.safetensors"
    with part_beside(file) as part:
        save_tensors(familiar, part)
        part.replace(file)
    file.chmod((folder / CONFIG).stat().st_mode)
    changed = {
        **without,
        "beside": {**beside, FAMILIAR: sha256_of(file)},
        **_calibration_of(model),
    }
    write_whole(folder / CONFIG, json.dumps(changed, indent=2) + "\n")


def _read(file: Path, sha256: str) -> dict[str, Tensor]:
    """Read what is kept beside the weights.

    Raises:
        ModelError: if it is missing or damaged, or not finite.
    """
    _check_beside(file, sha256)
    tensors = load_file(file)
    if file.stem == OBJECTIVE:  # leftovers are not computed with
        _require_finite(tensors, str(file))
    return tensors


def _check_beside(file: Path, sha256: str) -> None:
    if not file.exists() or sha256_of(file) != sha256:
        raise ModelError(f"{file} is missing or damaged; restore the file")


def verify_folder(folder: Path, *, beside: bool = False) -> dict[str, Any]:
    """Check that a model folder is whole; return its description.

    Args:
        folder: of the model.
        beside: check what is kept beside the weights, too, which is read when it is needed.

    Raises:
        ModelError: if a file is missing or damaged.
    """
    description = read_description(folder)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise ModelError(f"{folder} has no {WEIGHTS}; copy it there or train again")
    if sha256_of(weights) != description.get("sha256"):
        raise ModelError(
            f"{weights} is damaged: its hash differs from the one in {CONFIG}; restore the file"
        )
    for name, sha256 in description.get("beside", {}).items() if beside else ():
        _check_beside(folder / f"{name}.safetensors", sha256)
    return description


def files_of(description: Mapping[str, Any]) -> list[str]:
    """Return the files that a model is made of, by its description."""
    return [WEIGHTS, CONFIG, *(f"{name}.safetensors" for name in description.get("beside", {}))]


def read_config(folder: Path) -> ModelConfig:
    """Read what a model is made of, without its weights.

    Raises:
        ModelError: if the folder does not describe a model.
        PluginError: if a component is not installed.
    """
    description = read_description(folder)
    try:
        config = read_model_config(description, str(folder / CONFIG))
        for kind, part in config.components():
            getattr(registry(), kind.removesuffix("s"))(part.name)
    except PluginError as error:
        raise missing_plugin(error, folder, description.get("plugins", {})) from error
    return config


def load_model(folder: Path) -> Model:
    """Rebuild a model from its folder, in eval mode.

    Raises:
        ModelError: if a file is missing or damaged, or the weights do not fit the config or are
            not finite.
        PluginError: if a component is not installed.
    """
    fork_safely()
    description = verify_folder(folder)
    weights = folder / WEIGHTS
    try:
        config = read_model_config(description, str(folder / CONFIG))
        with WithoutInitialisation():
            model = Model(config)
        model.load_state_dict(upgrade_names(load_file(weights), model.state_dict()))
    except PluginError as error:
        raise missing_plugin(error, folder, description.get("plugins", {})) from error
    except (SafetensorError, RuntimeError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"{weights} does not fit {CONFIG}: {first_line}") from None
    _require_finite(model.state_dict(), str(weights))
    for name, sha256 in description.get("beside", {}).items():
        model.beside[name] = partial(_read, folder / f"{name}.safetensors", sha256)
    if FAMILIAR in model.beside:  # now, since another calibration may take its place
        known = model.beside[FAMILIAR]()
        model.beside[FAMILIAR] = lambda: known
    model.calibration = _read_calibration(description, folder / CONFIG)
    return model.eval()


def _require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not finite.

    Raises:
        ModelError: naming the first.
    """
    broken = next((name for name, tensor in tensors.items() if not _is_finite(tensor)), None)
    if broken is not None:
        raise ModelError(
            f"{where} holds NaN or infinity ('{broken}'), so its training diverged",
            "train again with a lower learning rate",
        )


def _is_finite(tensor: Tensor) -> bool:
    """Say whether all values are finite; a sum tells most often, and reads them once."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def name_classes(folder: Path, names: Sequence[str]) -> None:
    """Name the classes of a model, in the order of its outputs.

    Raises:
        ModelError: if the folder does not describe a model.
        ConfigError: if the model has no classes, or another number of them.
    """
    description = read_description(folder)
    config = with_classes(read_config(folder), names)
    changed = {
        **description,
        "format_version": FORMAT_VERSION,
        "config": config.model_dump(mode="json"),
    }
    write_whole(folder / CONFIG, json.dumps(changed, indent=2) + "\n")


def add_model(folder: Path, name: str, summary: str, synchronizability: str = "") -> Path:
    """Copy a model folder into the user's catalog under a name; return the copy.

    Raises:
        ModelError: if the folder is damaged, the name is taken or not a plain word, or the catalog
            has no model ``synchronizability``, which says whether a clip can be synchronized.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ModelError(f"'{name}' cannot be a name: use letters, digits, '-', '_' and '.'")
    if name in read_catalog():
        raise ModelError(
            f"the catalog already has a model '{name}'; choose another {option('name')}"
        )
    if synchronizability:
        find(synchronizability)
    load_model(folder)
    description = verify_folder(folder, beside=True)
    place = f"models/{name}"
    target = user_catalog().parent / place
    target.mkdir(parents=True, exist_ok=True)
    for part in files_of(description):
        shutil.copy2(folder / part, target / part)
    scores = description.get("scores", {})
    add_entry(
        name,
        CatalogEntry(
            summary=summary, folder=place, synchronizability=synchronizability, scores=scores
        ),
    )
    return target


def plugins_of(config: ModelConfig) -> dict[str, str]:
    """Return ``"extractor name" -> origin`` of every component that is not built in."""
    parts = {(kind, part.name) for kind, part in config.components()}
    owners = registry().plugins
    origins = {
        f"{kind.removesuffix('s')} {name}": origin_of(owners[f"{kind} {name}"])
        for kind, name in sorted(parts)
    }
    return {part: origin for part, origin in origins.items() if origin is not None}
