"""Reading files of options as people write them: a key that is given twice is a mistake."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from zoo.catalog.entries import read_catalog
from zoo.contracts import ComponentConfig
from zoo.errors import ConfigError, suggest
from zoo.models.config import explain
from zoo.training.request import TrainRequest

Config = TypeVar("Config", bound=ComponentConfig)
SHARED_OPTIONS = tuple(name for name in TrainRequest.model_fields if name not in {"data", "seed"})
"""Options of ``zoo train`` that trainings share; each has its data and its seed."""


class _Loader(yaml.SafeLoader):
    """Reads YAML and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(f"'{key}' is given twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Read a file of options; names of data sets and variants become text.

    Args:
        path: file.
        what: what it should be, for the error that says it is not.

    Raises:
        ConfigError: if it cannot be read, is not YAML or has no keys.
    """
    try:
        raw = yaml.load(path.read_text(), Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {path}: {reason}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not {what}")
    for key in ("data", "variants"):
        if isinstance(raw.get(key), dict):
            raw[key] = {str(name): value for name, value in raw[key].items()}
    return raw


def parse_part(config_class: type[Config], raw: Any, path: Path, where: str) -> Config:
    """Read a part of a file.

    Raises:
        ConfigError: naming the file and the key that does not fit.
    """
    if not isinstance(raw, dict):
        name = where.removesuffix(".")
        raise ConfigError(f"{path}: '{name}' must be a list of options, got {raw!r}")
    try:
        return config_class.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, where, config_class)}") from None


def refuse_unknown(raw: dict[str, Any], known: Iterable[str], path: Path, where: str = "") -> None:
    """Refuse a key that a part of a file does not have.

    Raises:
        ConfigError: naming the file and the key.
    """
    known = tuple(known)
    for key in raw:
        if key not in known:
            raise ConfigError(f"{path}: unknown key '{where}{key}'{suggest(str(key), known)}")


def absolute_starts(starts: Iterable[str], folder: Path) -> tuple[str, ...]:
    """Make paths to start from absolute; names of the catalog stay as they are."""
    known = read_catalog()
    return tuple(name if name in known else str(folder / name) for name in starts)


def parse_options(raw: Any, path: Path, where: str) -> TrainRequest:
    """Read the options that trainings share; paths to start from are relative to the file.

    Raises:
        ConfigError: naming the file and the key that does not fit.
    """
    if isinstance(raw, dict):
        refuse_unknown(raw, SHARED_OPTIONS, path, where)
    options = parse_part(TrainRequest, raw, path, where)
    if options.init is None:
        return options
    folder = path.absolute().parent
    return options.model_copy(update={"init": absolute_starts(options.init, folder)})
