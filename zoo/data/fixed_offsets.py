"""Published lists of offsets: at which offset, and from which start, a clip is evaluated."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from zoo.errors import ManifestError

# The two published headers differ in the order of columns and in how the clip's column is called.
ID_COLUMNS = ("path", "video_id")
COLUMNS = ("offset_sec", "vstart_sec")
# Folders of AudioSet as they are on disk, and as the lists call them.
SHORT_FOLDERS = {
    "unbalanced_train_segments": "unbalanced",
    "balanced_train_segments": "balanced",
    "eval_segments": "eval",
}


@dataclass(frozen=True, slots=True)
class FixedOffset:
    """Where a protocol evaluates a clip.

    Attributes:
        offset_s: offset of the audio; above 0 it is early, seconds.
        start_s: start of the video crop, seconds.
        is_sync: whether the clip was found to be in sync by hand; None where nobody says.
    """

    offset_s: float
    start_s: float
    is_sync: bool | None = None


def read_fixed_offsets(*paths: Path) -> dict[str, FixedOffset]:
    """Read one or more lists with the columns ``path``, ``offset_sec``, ``vstart_sec``.

    The other published header, ``dataset_name,video_id,vstart_sec,offset_sec,is_sync``, is read
    too.

    Args:
        paths: CSV files; an id may be in several of them.

    Returns:
        Offsets and starts by clip id, in the order of the files.

    Raises:
        ManifestError: if a file cannot be read, lacks a column, holds no row or a wrong number, or
            if two rows of one clip differ.
    """
    found: dict[str, FixedOffset] = {}
    for path in paths:
        for name, fixed in _rows(path):
            if found.setdefault(name, fixed) != fixed:
                raise ManifestError(
                    f"{path}: the clip '{name}' is listed with two different offsets, "
                    f"{_shown(found[name])} and {_shown(fixed)}; keep one of them"
                )
    return found


def fixed_for(path: PurePath, offsets: Mapping[str, FixedOffset]) -> FixedOffset | None:
    """Return the fixed offset of a clip: the one with the longest tail of its path, or None.

    ``clips/pretrain/C8zY0oAdQrs/00018.mp4`` is looked up as
    ``clips/pretrain/C8zY0oAdQrs/00018``, then ``pretrain/C8zY0oAdQrs/00018``, and so on.
    AudioSet's folder ``eval_segments`` counts as ``eval``, which is what its lists call it.
    """
    parts = [SHORT_FOLDERS.get(part, part) for part in path.with_suffix("").parts]
    tails = ("/".join(parts[first:]) for first in range(len(parts)))
    return next((offsets[tail] for tail in tails if tail in offsets), None)


def _rows(path: Path) -> Iterator[tuple[str, FixedOffset]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            column = next((name for name in ID_COLUMNS if name in header), None)
            missing = [name for name in COLUMNS if name not in header]
            if column is None or missing:
                lacking = ", ".join([*([] if column else ["path"]), *missing])
                raise ManifestError(f"{path} is not a list of fixed offsets: it lacks {lacking}")
            line = 1
            for line, row in enumerate(reader, start=2):
                yield row[column], _read_row(row, f"{path}, line {line}")
    except OSError as error:
        raise ManifestError(f"cannot read the fixed offsets {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} is not a CSV file: {error}") from error
    if line == 1:
        raise ManifestError(f"{path} holds no fixed offset")


def _read_row(row: dict[str, str], where: str) -> FixedOffset:
    try:
        offset_s, start_s = (float(row[name]) for name in COLUMNS)
    except (TypeError, ValueError):
        raise ManifestError(f"{where}: offset_sec and vstart_sec must be numbers") from None
    if not math.isfinite(offset_s) or not 0 <= start_s < math.inf:
        raise ManifestError(
            f"{where}: offset {offset_s:g} s and start {start_s:g} s are no times within a clip"
        )
    is_sync = row.get("is_sync")
    return FixedOffset(offset_s, start_s, None if is_sync is None else is_sync.strip() == "1")


def _shown(fixed: FixedOffset) -> str:
    sync = "" if fixed.is_sync is None else f", is_sync {int(fixed.is_sync)}"
    return f"offset {fixed.offset_s:+g} s at {fixed.start_s:g} s{sync}"
