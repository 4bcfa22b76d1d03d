"""Reading a list: CAV-MAE's JSON or AVSiam's SQLite, whichever the file is."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from zoo.data.find import VIDEO_SUFFIXES
from zoo.errors import ManifestError

SQLITE_MAGIC = b"SQLite format 3\x00"
SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
TABLE = "annos"


class Entry(NamedTuple):
    """A clip of a list: its id, other names that its files may have, its classes' machine ids."""

    id: str
    names: tuple[str, ...]
    labels: tuple[str, ...]


def read_list(path: Path) -> list[Entry]:
    """Read a list of clips; paths in it belong to another machine, only their names are used.

    Raises:
        ManifestError: if it cannot be read, is neither of the two, or is empty.
    """
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError as error:
        raise ManifestError(f"cannot read the list {path}: {error.strerror}") from error
    if not is_sqlite and path.suffix.lower() in SQLITE_SUFFIXES:
        raise ManifestError(f"{path} is not an SQLite file; was the download cut short?")
    entries = list(_sqlite_entries(path) if is_sqlite else _json_entries(path))
    if not entries:
        raise ManifestError(f"{path} lists no clip")
    return entries


def _json_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of ``{"data": [{"video_id", "wav", "video_path", "labels"}]}``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # of the decoder too
        raise ManifestError(f"{path} is not a JSON file that can be read: {error}") from error
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list):
        raise ManifestError(f'{path} is not a list of CAV-MAE: it has no {{"data": [...]}}')
    for number, entry in enumerate(data, start=1):
        fields = entry if isinstance(entry, dict) else {}
        video = _text(fields.get("video_path"))  # of a video, or the folder of its frames
        is_video = PurePath(video).suffix.lower() in VIDEO_SUFFIXES
        others = [_name(video) if is_video else "", _name(fields.get("wav"))]
        name = next(filter(None, [_text(fields.get("video_id")), *others]), None)
        if name is None:
            raise ManifestError(f"{path}: entry {number} has no video_id")
        yield Entry(name, tuple(filter(None, others)), _labels(fields.get("labels")))


def _sqlite_entries(path: Path) -> Iterator[Entry]:
    """Yield the rows of the table ``annos``: an id, the clip's name, ..., labels."""
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"  # writes no file beside it
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({TABLE})")]
            if not columns:
                raise ManifestError(f"{path} is not a list of AVSiam: it has no table '{TABLE}'")
            if columns[0].lower() != "id" or len(columns) < 3:
                raise ManifestError(
                    f"{path}: the table '{TABLE}' has the columns {', '.join(columns)}; expected "
                    "id, the name of the clip, ..., labels"
                )
            rows = database.execute(f"SELECT * FROM {TABLE} ORDER BY id")
            for number, name, *_, labels in rows:
                stem = _name(name)
                if not stem:
                    raise ManifestError(f"{path}: the row of id {number} has no name of a clip")
                yield Entry(stem, (), _labels(labels))
    except sqlite3.Error as error:
        raise ManifestError(f"{path} is damaged: {error}") from error


def _name(value: Any) -> str:
    """Return the name of a file without its folder and the suffix of a video or of audio."""
    name = _text(value).replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in (*VIDEO_SUFFIXES, ".wav", ".flac") else name


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int) else ""


def _labels(value: Any) -> tuple[str, ...]:
    """Split at commas; equal words are kept once, for millions of rows."""
    words = value if isinstance(value, list) else _text(value).split(",")
    return tuple(sys.intern(word) for word in map(str.strip, map(str, words)) if word)
