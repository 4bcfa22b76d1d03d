"""A CSV file of predictions that grows row by row; an interrupted one goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.entries import BY_CATALOG
from zoo.contracts import Precision
from zoo.errors import ConfigError, option
from zoo.files import write_whole

if TYPE_CHECKING:
    from zoo.models.task import Task

Row = dict[str, str]
REPLACE = f"choose another file, or replace it with {option('overwrite')}"
MADE_WITH = ("model", "sha256", "options")
OFFSET_FIELDS = (
    "path",
    "offset_s",
    "refined_s",
    "probability",
    "confidence",
    "meaning",
    "over_time",
    "synchronizability",
    "unfamiliarity",
    "duration_s",
    "notes",
    "error",
    *MADE_WITH,
)
ANSWER_FIELDS = ("path", "answer", "facts", "duration_s", "notes", "error", *MADE_WITH)


@dataclass(frozen=True)
class Options:
    """How every clip is looked at; see `zoo.inference.offset_predictor.OffsetPredictor.predict`."""

    step_s: float | None = None
    audio_track: int | None = None
    every_s: float | None = None
    max_offset_s: float | None = None
    synchronizability: str = BY_CATALOG
    precision: Precision = "fp32"
    video_track: int | None = None

    def arguments(self, task: Task) -> dict[str, Any]:
        """Return what a predictor for this task is given for every clip."""
        names = ("audio_track", "video_track", "every_s")
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        if task.answers_offsets:
            given |= {"step_s": self.step_s, "max_offset_s": self.max_offset_s}
        return given

    def __str__(self) -> str:
        """Write what differs from the defaults: ``step_s=0.04 every_s=10``."""
        defaults = {field.name: field.default for field in fields(self)}
        given = {name: v for name, v in vars(self).items() if v != defaults[name]}
        return " ".join(f"{name}={value}" for name, value in given.items()) or "default"


class Table:
    """A CSV file that grows as ``FILE.part`` and takes its name when it is complete.

    Args:
        path: the file.
        fields: its columns.
        model: the model's name.
        sha256: of its weights and its calibration (`zoo.catalog.entries.fingerprint`).
        options: with which all rows are made.
        overwrite: begin anew, whatever is there.

    Raises:
        ConfigError: if there is another file, or rows of another model or other options.
    """

    def __init__(
        self,
        path: Path,
        fields: Sequence[str],
        *,
        model: str,
        sha256: str,
        options: Options,
        overwrite: bool,
    ) -> None:
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent} to write {path.name} to")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; give a file for the table")
        self.path, self.part = path, path.with_name(f"{path.name}.part")
        self._fields = tuple(fields)
        self._made_with = {"model": model, "sha256": sha256, "options": str(options)}
        self.rows: dict[str, Row] = {}
        self._has_more = False
        if not overwrite:
            for file in (self.path, self.part):
                self.rows |= {row["path"]: row for row in self._read(file)}
        try:
            self._write(self.part, self.rows.values())
        except OSError as error:
            raise ConfigError(f"cannot write {self.part}: {error.strerror}") from None

    def _read(self, file: Path) -> Iterator[Row]:
        """Yield the whole rows; a process that was killed may leave half a row."""
        if not file.exists():
            return
        text = file.read_bytes().decode("utf-8", errors="surrogateescape")
        if file == self.part:
            text = text[: text.rfind("\r\n") + 2]
        with io.StringIO(text, newline="") as lines:
            reader = csv.DictReader(lines, strict=False)
            if tuple(reader.fieldnames or ()) != self._fields:
                raise ConfigError(f"{file} is no table of zoo predict", REPLACE)
            for row in reader:
                if None in row.values() or None in row or not row["options"]:
                    continue
                row["options"] = row["options"].replace(
                    "trust=", "synchronizability="
                )  # older name
                self._check(file, row)
                yield row

    def _check(self, file: Path, row: Row) -> None:
        for name, value in self._made_with.items():
            if row[name] != value:
                raise ConfigError(
                    f"{file} holds rows of {name} '{row[name]}', not '{value}'", REPLACE
                )

    def add(self, row: Row) -> None:
        """Append a row, at once on disk."""
        row = {**dict.fromkeys(self._fields, ""), **row, **self._made_with}
        self.rows[row["path"]], self._has_more = row, True
        with self.part.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            file.write(self._to_csv([row]))

    def finish(self, order: Sequence[str]) -> None:
        """Write all rows in the order of the clips, rows of other clips first."""
        wanted = set(order)
        others = [row for path, row in self.rows.items() if path not in wanted]
        self._write(self.part, [*others, *(self.rows[path] for path in order)])
        self.part.replace(self.path)

    def give_up(self) -> None:
        """Leave nothing behind if no row came."""
        if not self._has_more:
            self.part.unlink(missing_ok=True)

    def _write(self, file: Path, rows: Iterable[Row]) -> None:
        write_whole(file, ",".join(self._fields) + "\r\n" + self._to_csv(rows))

    def _to_csv(self, rows: Iterable[Row]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._fields).writerows(rows)
        return text.getvalue()
