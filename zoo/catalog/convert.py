"""Published checkpoints to model folders and back, all or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from zoo.catalog.model_folder import CONFIG, load_model, save_model
from zoo.checkpoints.flax_file import write_flax
from zoo.checkpoints.layouts import PUBLISHED, as_published, read_model
from zoo.errors import ModelError
from zoo.files import sha256_of, written_by_torch
from zoo.models.config import ModelConfig
from zoo.models.settings import with_classes, with_settings
from zoo.registry.manager import registry


def convert_checkpoint(
    path: Path,
    folder: Path,
    *,
    format: str | None = None,
    settings: Mapping[str, JsonValue] | None = None,
    classes: Sequence[str] = (),
    **facts: Any,
) -> str:
    """Convert a published checkpoint to a model folder, all or nothing; return its layout.

    Args:
        path: the checkpoint; nothing in it is run.
        folder: of the model, made or filled.
        format: name of the layout, where it must be a certain one.
        settings: of the model, which the checkpoint does not tell: ``{"encoder.mode": "apart"}``.
        classes: names of its classes, in the order of its outputs; empty leaves them numbered.
        facts: kept in ``model.json``, beside the name and hash of the file.

    Raises:
        ModelError: if the file cannot be read, or is not of a known layout, or is broken.
        ConfigError: if a setting is unknown or does not fit, or the classes do not.
        PluginError: if there is no such layout.
    """

    def change(config: ModelConfig) -> ModelConfig:
        changed = with_settings(config, settings or {})
        return with_classes(changed, classes) if classes else changed

    name, model = read_model(path, format, change)
    origin = {"file": path.name, "sha256": sha256_of(path), "format": name}
    caution = registry().formats[name].caution
    if caution:
        origin["caution"] = caution
    with _half_done(folder) as half:
        save_model(half, model, converted_from=origin, **facts)
        if folder.is_dir():
            for part in sorted(half.iterdir(), key=lambda part: part.name == CONFIG):
                part.replace(folder / part.name)  # the description comes last
        else:
            half.replace(folder)
    return name


def export_checkpoint(model_folder: Path, path: Path, format: str = PUBLISHED) -> str:
    """Write a model in a published layout, for the code of its authors; return the layout.

    Args:
        model_folder: the model.
        path: file to write, with torch.save or as Flax does.
        format: name of the layout, or ``published`` for the one that holds such models.

    Raises:
        ModelError: if the folder is damaged, or the layout cannot hold this model.
        PluginError: if there is no such layout.
    """
    spec, content = as_published(load_model(model_folder), str(model_folder), format)
    with _half_done(path) as half:
        if spec.container == "flax":
            write_flax(half, content)
        else:
            with written_by_torch(half) as stream:
                torch.save(content, stream)
        half.replace(path)
    return spec.name


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
