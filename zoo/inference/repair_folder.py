"""The clips of a folder repaired one after another; what was interrupted goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.data.find import find_videos
from zoo.errors import ConfigError, MediaError, RepairError
from zoo.files import write_whole
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.repair import Repair, repair

Row = dict[str, str]
TABLE = "repairs.csv"
NUMBERS = ("offset_s", "confidence", "delay_s", "residue_s", "residue_confidence")
FIELDS = ("path", *NUMBERS, "warnings", "error", "model")


class FolderRepair:
    """Repairs of all clips below a folder, at the same places below another one.

    A copy that is there already is left as it is, so the same call goes on after an interruption.

    Args:
        predictor: the model at work.
        folder: of the clips, which are never touched.
        out: of the copies; it is made if it does not exist.
        overwrite: make copies anew that are there already.
        options: of every clip, as `repair` takes them.

    Raises:
        ManifestError: if there is no video below the folder.
        ConfigError: if one folder lies within the other.
    """

    def __init__(
        self,
        predictor: OffsetPredictor,
        folder: Path,
        out: Path,
        *,
        overwrite: bool = False,
        **options: Any,
    ) -> None:
        here, there = folder.resolve(), out.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise ConfigError(
                f"copies would lie among the clips of {folder}; choose another folder"
            )
        self.paths = find_videos(folder)
        self.table = out / TABLE
        self._predictor, self._folder, self._out = predictor, folder, out
        self._overwrite, self._options = overwrite, options
        self._rows = {} if overwrite else {row["path"]: row for row in self._read()}

    def run(self) -> Iterator[Row]:
        """Repair, and yield the row of every clip: what was done, or the ``error``.

        Raises:
            OSError: if the copies or the table cannot be written.
        """
        for path in self.paths:
            name = path.relative_to(self._folder).as_posix()
            copy = self._out / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            row = self._rows.get(name)
            if self._overwrite or not copy.exists():
                row = self._repair(path, copy)
            elif row is None:
                row = {"error": f"{copy} is already there, and not in {TABLE}"}
            self._rows[name] = {**dict.fromkeys(FIELDS, ""), **row, "path": name}
            write_whole(self.table, _to_csv(self._rows))
            yield self._rows[name]

    def _repair(self, path: Path, copy: Path) -> Row:
        try:
            done = repair(self._predictor, path, copy, overwrite=self._overwrite, **self._options)
        except (MediaError, RepairError) as error:
            return {"error": error.typed, "model": self._predictor.name}
        return _row_of(done)

    def _read(self) -> list[Row]:
        if not self.table.exists():
            return []
        with self.table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != FIELDS:
                raise ConfigError(f"{self.table} is no table of repairs; choose another folder")
            return list(reader)


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON types; what is empty is null."""
    return {
        name: float(value) if value and name in NUMBERS else value or None
        for name, value in row.items()
    }


def _row_of(done: Repair) -> Row:
    values = {name: getattr(done, name) for name in NUMBERS}
    row = {name: "" if value is None else f"{value:.4f}" for name, value in values.items()}
    return {**row, "warnings": "; ".join(done.warnings), "model": done.model}


def _to_csv(rows: dict[str, Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue()
