"""Published checkpoints to model folders and back."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from zoo.catalog.model_folder import CONFIG, WEIGHTS, load_model, save_model
from zoo.checkpoints.layouts import find_model, read_tensors
from zoo.errors import ModelError
from zoo.models.config import ModelConfig
from zoo.models.model import Model
from zoo.registry.manager import registry

PUBLISHED = "published"


def convert_checkpoint(path: Path, folder: Path, *, format: str | None = None, **facts: Any) -> str:
    """Convert a published checkpoint to a model folder, all or nothing; return its layout.

    Args:
        path: the checkpoint; nothing in it is run.
        folder: of the model, made or filled.
        format: name of the layout, where it must be a certain one.
        facts: kept in ``model.json``, beside the name and hash of the file.

    Raises:
        ModelError: if the file cannot be read, or is not of a known layout, or is broken.
        PluginError: if there is no such layout.
    """
    name, model = read_model(path, format)
    origin = {"file": path.name, "sha256": sha256_of(path), "format": name}
    with _half_done(folder) as half:
        save_model(half, model, converted_from=origin, **facts)
        if folder.is_dir():
            for part in (WEIGHTS, CONFIG):
                (half / part).replace(folder / part)
        else:
            half.replace(folder)
    return name


def read_model(path: Path, format_name: str | None = None) -> tuple[str, Model]:
    """Read a model from a published checkpoint; return the name of its layout as well.

    Its weights are views into the file; buffers that are no weights stay on the meta device, so
    it can be saved, not run.

    Raises:
        ModelError: if the file cannot be read, or is not of a known layout, or is broken.
    """
    spec, tensors = find_model(path, read_tensors(path), format_name)
    try:
        config, state = spec.read(tensors)
    except ModelError as error:
        raise ModelError(f"{path} does not fit the layout '{spec.name}': {error}") from None
    return spec.name, build_around(config, state)


def build_around(config: ModelConfig, state: dict[str, torch.Tensor]) -> Model:
    """Build a model around weights, without memory of its own."""
    with torch.device("meta"):
        model = Model(config)
    model.load_state_dict(state, assign=True)
    return model


def export_checkpoint(model_folder: Path, path: Path, format: str = PUBLISHED) -> str:
    """Write a model in a published layout, for the code of its authors; return the layout.

    Args:
        model_folder: the model.
        path: file to write, with torch.save.
        format: name of the layout, or ``published`` for the one that holds such models.

    Raises:
        ModelError: if the folder is damaged, or the layout cannot hold this model.
        PluginError: if there is no such layout.
    """
    known = registry().formats.values()
    specs = list(known) if format == PUBLISHED else [registry().format(format)]
    model = load_model(model_folder)
    reasons = []
    for spec in specs:
        try:
            content = spec.write(model)
        except ModelError as error:
            reasons.append(f"{spec.name}: {error}")
            continue
        with _half_done(path) as half:
            torch.save(content, half)
            half.replace(path)
        return spec.name
    raise ModelError(f"{model_folder} fits no published layout: {'; '.join(reasons)}")


@contextmanager
def _half_done(target: Path) -> Iterator[Path]:
    """Give a place beside a target to prepare it in, and clean up.

    Raises:
        ModelError: if it cannot be written.
    """
    half = target.with_name(f".{target.name}.part-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield half
    except OSError as error:
        raise ModelError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            with suppress(OSError):
                half.unlink()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
