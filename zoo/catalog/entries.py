"""The catalog: named models, as data. Nothing here runs a plugin's code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AliasChoices, Field, JsonValue, ValidationError, model_validator

from zoo.contracts import ComponentConfig
from zoo.errors import ModelError, suggest
from zoo.files import write_whole

HOME_VARIABLE = "ZOO_HOME"
PACKAGE = Path(__file__).parents[1]  # the folder of `zoo`
WEIGHTS, CONFIG = "model.safetensors", "model.json"
CALIBRATION = "calibration"  # in the latter
TIMM = "timm:"  # before the name of a model of timm
BY_CATALOG, NO_MODEL = "catalog", "none"  # in place of the name of a synchronizability model


class Download(ComponentConfig):
    """Where the weights of an entry come from, and in which layout."""

    url: str = Field(pattern=r"^https?://\S+$", description="address of the file")
    format: str = Field(description="layout of the file: zoo list formats")
    md5: str = Field(
        "",
        pattern="^[0-9a-f]{0,32}$",
        description="beginning of its MD5, as far as its authors publish it",
    )
    sha256: str = Field("", pattern="^[0-9a-f]{0,64}$", description="start of its SHA-256")
    num_bytes: int | None = Field(None, gt=0, description="its size, where known")


class CatalogEntry(ComponentConfig):
    """One named model, or weights to start one from."""

    summary: str = Field(description="what it is, in one sentence")
    kind: Literal["model", "extractor", "image_model"] = Field(
        "model", description="what the weights are of: a whole model, or what one may start from"
    )
    folder: str = Field("", description="model folder, relative to the catalog's own folder")
    download: Download | None = Field(None, description="weights to pull; None: they are here")
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="of the model, which its checkpoint does not tell"
    )
    synchronizability: str = Field(
        "",
        description="model that says whether a clip can be synchronized",
        validation_alias=AliasChoices("synchronizability", "trust"),  # the older spelling
    )
    preset: str = Field("", description="size of its components")
    trained_on: str = Field("", description="data it has seen")
    recipe: str = Field("", description="command, hardware and time that made it")
    scores: dict[str, JsonValue] = Field(default_factory=dict, description="with their protocol")
    license: str = Field("", description="of the weights")
    source: str = Field("", description="who made it")

    @model_validator(mode="after")
    def _is_somewhere(self) -> CatalogEntry:
        if bool(self.folder) == (self.download is not None):
            raise ValueError("give either a folder or a download")
        return self

    @property
    def is_file(self) -> bool:
        """Whether it is a file as its authors publish it, and no model folder."""
        return self.kind != "model"


def shipped_catalog() -> Path:
    """Return the catalog that comes with the package: beside it, or at the checkout's root."""
    inside = PACKAGE / "catalog.yaml"
    return inside if inside.exists() else PACKAGE.parent / "catalog.yaml"


def zoo_home() -> Path:
    """Return where the user's own models are: ``$ZOO_HOME``, by default ``~/.zoo``."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home) if home else Path.home() / ".zoo"


def user_catalog() -> Path:
    """Return the user's own catalog: ``$ZOO_HOME/catalog.yaml``."""
    return zoo_home() / "catalog.yaml"


def read_catalog() -> dict[str, tuple[CatalogEntry, Path]]:
    """Return all entries by name, with where they are; the user's own come last and win.

    A model is a folder.  Weights to start from are a file, as their authors publish it.
    What must be pulled first is not there before.
    """
    found = {}
    for file, root in ((shipped_catalog(), PACKAGE), (user_catalog(), zoo_home())):
        for name, entry in _read_file(file).items():
            found[name] = (entry, _pulled_path(name, entry) or root / entry.folder)
    return found


def file_name(name: str) -> str:
    """Return what files of a model are called."""
    return name.replace(":", "-")


def _pulled_path(name: str, entry: CatalogEntry) -> Path | None:
    if entry.download is None:
        return None
    path = zoo_home() / "models" / file_name(name)
    if entry.is_file:
        path /= PurePosixPath(urlsplit(entry.download.url).path).name
    return path


def _read_file(file: Path) -> dict[str, CatalogEntry]:
    if not file.exists():
        return {}
    try:
        models = (yaml.safe_load(file.read_text()) or {}).get("models") or {}
        return {name: _parse(file, name, entry) for name, entry in models.items()}
    except (yaml.YAMLError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the catalog {file} is not valid YAML: {reason}") from None


def _parse(file: Path, name: str, entry: object) -> CatalogEntry:
    try:
        return CatalogEntry.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (name, *first["loc"]))
        raise ModelError(f"the catalog {file}: '{place}': {first['msg']}") from None


def lookup(name: str) -> tuple[CatalogEntry, Path] | None:
    """Return an entry and where it is, or will be once it is pulled; None if there is none.

    ``timm:NAME`` is an entry for every model that timm publishes.

    Raises:
        ModelError: if timm publishes no such model.
    """
    if name.startswith(TIMM):
        from zoo.catalog.timm_weights import timm_entry

        full_name, entry = timm_entry(name)
        path = _pulled_path(full_name, entry)
        assert path is not None
        return entry, path
    return read_catalog().get(name)


def find(name: str) -> tuple[CatalogEntry, Path]:
    """Return an entry and where it is, or will be once it is pulled.

    Raises:
        ModelError: if the catalog has no such name.
    """
    found = lookup(name)
    if found is None:
        raise ModelError(
            f"no model '{name}' in the catalog{suggest(name, read_catalog()) or '.'} "
            "See: zoo list models"
        )
    return found


def resolve(name: str | Path) -> Path:
    """Return where a model is, given its catalog name or its folder.

    Weights that are no whole model are a file.

    Raises:
        ModelError: if it is neither, or must be pulled first.
    """
    found = lookup(str(name))
    if found is not None:
        entry, path = found
        if entry.download is not None and not path.exists():
            raise ModelError(f"'{name}' is not here yet; get it with: zoo pull {name}")
        return path
    if Path(name).is_dir():
        return Path(name)
    raise ModelError(
        f"no model '{name}' in the catalog, and no such folder"
        f"{suggest(str(name), read_catalog()) or '.'} See: zoo list models"
    )


def second_model(
    name: str | Path, synchronizability: str | Path | None = BY_CATALOG
) -> str | Path | None:
    """Return the model that says, beside another, whether a clip can be synchronized, or None.

    Args:
        name: the other model.
        synchronizability: a model, ``catalog`` for the one that the catalog names, if it is here,
            or ``none``.
    """
    if synchronizability != BY_CATALOG:
        return None if synchronizability == NO_MODEL else synchronizability
    catalog = read_catalog()
    named = catalog[str(name)][0].synchronizability if str(name) in catalog else ""
    return named if named in catalog and catalog[named][1].exists() else None


def read_description(folder: Path) -> dict[str, Any]:
    """Read ``model.json``.

    Raises:
        ModelError: if the folder is not a model folder.
    """
    try:
        description = json.loads((folder / CONFIG).read_text())
    except OSError:
        raise ModelError(f"{folder} is not a model folder: it has no {CONFIG}") from None
    except ValueError:
        raise ModelError(f"{folder / CONFIG} is damaged: it is not JSON") from None
    if not isinstance(description, dict):
        raise ModelError(f"{folder / CONFIG} is damaged: it does not describe a model")
    return description


def fingerprint(description: Mapping[str, Any]) -> str:
    """Return what tells a model's answers from another's.

    The hash of its weights, and after a colon that of its calibration, if it has one.
    """
    weights = str(description["sha256"])
    if CALIBRATION not in description:
        return weights
    known = json.dumps([description[CALIBRATION], description.get("beside")], sort_keys=True)
    return f"{weights}:{hashlib.sha256(known.encode()).hexdigest()[:12]}"


def add_entry(name: str, entry: CatalogEntry) -> None:
    """Write an entry into the user's catalog, in place of one of the same name."""
    write_own({**read_own(), name: entry})


def read_own() -> dict[str, CatalogEntry]:
    """Return the entries of the user's catalog."""
    return _read_file(user_catalog())


def write_own(models: Mapping[str, CatalogEntry]) -> None:
    """Write the user's catalog."""
    written = {name: entry.model_dump(exclude_defaults=True) for name, entry in models.items()}
    write_whole(user_catalog(), yaml.safe_dump({"models": written}, sort_keys=False))
