"""Reading YAML as people write it: a key that is given twice is a mistake."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import ConfigError


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
