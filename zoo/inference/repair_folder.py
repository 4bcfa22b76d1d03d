"""The clips of a folder repaired one after another; what was interrupted goes on."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from zoo.data.find import find_videos
from zoo.errors import ConfigError, MediaError, RepairError
from zoo.files import write_whole
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.repair import repair
from zoo.inference.windows import Progress

Row = dict[str, str]
TABLE = "repairs.csv"
NUMBERS = ("offset_s", "confidence", "delay_s", "residue_s", "residue_confidence")
FIELDS = ("path", *NUMBERS, "warnings", "error", "model")


def repair_folder(
    predictor: OffsetPredictor,
    folder: Path,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> list[Row]:
    """Repair all clips below a folder, to the same places below another one.

    A copy that is there already is left as it is, so the same call goes on after an interruption.
    The table is written after every clip.

    Args:
        predictor: the model at work.
        folder: of the clips, which are never touched.
        out: of the copies; it is made if it does not exist.
        overwrite: make copies anew that are there already.
        progress: is told how many clips are done, and of how many.
        options: of every clip, as `repair` takes them.

    Returns:
        A row for every clip: what was done, or the ``error``.

    Raises:
        ManifestError: if there is no video below the folder.
        ConfigError: if one folder lies within the other, or the table is of something else.
        OSError: if the copies or the table cannot be written.
    """
    here, there = folder.resolve(), out.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise ConfigError(f"copies would lie among the clips of {folder}; choose another folder")
    paths, table = find_videos(folder), out / TABLE
    rows = {} if overwrite else {row["path"]: row for row in _read(table)}
    names = [path.relative_to(folder).as_posix() for path in paths]
    for number, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        copy = out / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        row = rows.get(name)
        if overwrite or not copy.exists():
            row = _repair(predictor, path, copy, overwrite=overwrite, **options)
        elif row is None or row["error"]:
            row = {"error": f"{copy} is already there, and not in {TABLE}"}
        rows[name] = {**dict.fromkeys(FIELDS, ""), **row, "path": name}
        write_whole(table, _to_csv(rows))
        if progress is not None:
            progress(number, len(paths))
    return [rows[name] for name in names]


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON types; what is empty is null."""
    return {
        name: float(value) if value and name in NUMBERS else value or None
        for name, value in row.items()
    }


def _repair(predictor: OffsetPredictor, path: Path, copy: Path, **options: Any) -> Row:
    try:
        done = repair(predictor, path, copy, **options)
    except (MediaError, RepairError) as error:
        return {"error": error.typed, "model": predictor.name}
    values = {name: getattr(done, name) for name in NUMBERS}
    row = {name: "" if value is None else f"{value:.4f}" for name, value in values.items()}
    return {**row, "warnings": "; ".join(done.warnings), "model": done.model}


def _read(table: Path) -> list[Row]:
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            raise ConfigError(f"{table} is no table of repairs; choose another folder")
        return list(reader)


def _to_csv(rows: dict[str, Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue()
