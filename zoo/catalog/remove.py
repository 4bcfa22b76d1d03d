"""Take a model out of the user's own catalog, or a pulled one from the disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from zoo.catalog.entries import file_name, find, read_own, shipped_catalog, write_own, zoo_home
from zoo.errors import ModelError


@dataclass(frozen=True)
class Removed:
    """What was removed.

    Attributes:
        entry: whether the user's catalog had it; else only its files are gone, to be pulled again.
        folder: where its files were; None if there were none, or they lie elsewhere and stay.
        num_bytes: of the files.
    """

    entry: bool
    folder: Path | None
    num_bytes: int


def remove_model(name: str) -> Removed:
    """Remove a model that was added or pulled.

    Raises:
        ModelError: if there is no such model, it comes with the package, or it is not on the disk.
    """
    entry, path = find(name)
    own = read_own()
    is_own, folder = name in own, zoo_home() / "models" / file_name(name)
    if not is_own and entry.download is None:
        raise ModelError(f"'{name}' comes with the package ({shipped_catalog()}) and stays")
    has_files = folder.exists() and path.is_relative_to(folder)
    if not is_own and not has_files:
        raise ModelError(f"'{name}' is not here; there is nothing to remove")
    num_bytes = 0
    if is_own:
        write_own({other: kept for other, kept in own.items() if other != name})
    if has_files:
        num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder)
    return Removed(is_own, folder if has_files else None, num_bytes)
