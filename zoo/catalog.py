"""The catalog: named models, as data. Nothing here runs a plugin's code."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError

from zoo.contracts import ComponentConfig
from zoo.errors import ModelError, suggest

HOME_VARIABLE = "ZOO_HOME"


class Download(ComponentConfig):
    """Where the weights of an entry come from, and in which layout."""

    url: str = Field(description="address of the file")
    format: str = Field(description="layout of the file: zoo list formats")
    md5: str = Field("", description="beginning of its MD5, as far as its authors publish it")
    sha256: str = Field("", description="its SHA-256, where known")
    num_bytes: int | None = Field(None, gt=0, description="its size, where known")


class CatalogEntry(ComponentConfig):
    """One named model."""

    summary: str = Field(description="what it is, in one sentence")
    folder: str = Field(description="model folder, relative to the catalog's own folder")
    download: Download | None = Field(None, description="weights to pull; None: they are here")
    preset: str = Field("", description="size of its components")
    trained_on: str = Field("", description="data it has seen")
    recipe: str = Field("", description="command, hardware and time that made it")
    scores: dict[str, JsonValue] = Field(default_factory=dict, description="with their protocol")
    license: str = Field("", description="of the weights")
    source: str = Field("", description="who made it")


def shipped_catalog() -> Path:
    """Return the catalog that comes with the package: beside it, or at the checkout's root."""
    inside = Path(__file__).parent / "catalog.yaml"
    return inside if inside.exists() else Path(__file__).parents[1] / "catalog.yaml"


def user_catalog() -> Path:
    """Return the user's own catalog: ``$ZOO_HOME/catalog.yaml``, by default in ``~/.zoo``."""
    home = os.environ.get(HOME_VARIABLE)
    return (Path(home) if home else Path.home() / ".zoo") / "catalog.yaml"


def read_catalog() -> dict[str, tuple[CatalogEntry, Path]]:
    """Return all entries by name, with their folders; the user's own come last and win."""
    found = {}
    package = Path(__file__).parent
    for file, root in ((shipped_catalog(), package), (user_catalog(), user_catalog().parent)):
        for name, entry in _read_file(file).items():
            found[name] = (entry, root / entry.folder)
    return found


def _read_file(file: Path) -> dict[str, CatalogEntry]:
    if not file.exists():
        return {}
    try:
        models = (yaml.safe_load(file.read_text()) or {}).get("models") or {}
        return {name: CatalogEntry.model_validate(entry) for name, entry in models.items()}
    except (yaml.YAMLError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the catalog {file} is not valid YAML: {reason}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"the catalog {file}: '{place}': {first['msg']}") from None


def resolve(name: str | Path) -> Path:
    """Return the folder of a model, given its catalog name or its folder.

    Raises:
        ModelError: if it is neither.
    """
    catalog = read_catalog()
    if str(name) in catalog:
        return catalog[str(name)][1]
    if Path(name).is_dir():
        return Path(name)
    raise ModelError(
        f"no model '{name}' in the catalog, and no such folder"
        f"{suggest(str(name), catalog) or '.'} See: zoo list models"
    )


def add_model(folder: Path, name: str, summary: str) -> Path:
    """Copy a model folder into the user's catalog under a name; return the copy.

    Raises:
        ModelError: if the folder is damaged, or the name is taken or not a plain word.
    """
    from zoo.folder import CONFIG, WEIGHTS, load_model, read_description

    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ModelError(f"'{name}' cannot be a name: use letters, digits, '-', '_' and '.'")
    if name in read_catalog():
        raise ModelError(f"the catalog already has a model '{name}'; choose another --name")
    load_model(folder)
    description = read_description(folder)
    file = user_catalog()
    target = file.parent / "models" / name
    target.mkdir(parents=True, exist_ok=True)
    for part in (WEIGHTS, CONFIG):
        shutil.copy2(folder / part, target / part)
    entry = CatalogEntry(
        summary=summary, folder=f"models/{name}", scores=description.get("scores", {})
    )
    models: dict[str, Any] = {n: e.model_dump() for n, e in _read_file(file).items()}
    models[name] = entry.model_dump(exclude_defaults=True)
    temporary = file.with_suffix(".part")
    temporary.write_text(yaml.safe_dump({"models": models}, sort_keys=False))
    temporary.replace(file)
    return target
