"""Names of classes, as data sets list them: for models whose weights only number them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from zoo.errors import ManifestError

INDEX, NAME = "index", "display_name"  # columns of AudioSet's list, and of others after it


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes in the order of a model's outputs.

    Args:
        path: a CSV with the columns ``index`` and ``display_name``, as AudioSet lists its classes,
            or a text file with a name per line.

    Raises:
        ManifestError: if it cannot be read, or names no class, one twice, or not all of them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ManifestError(f"cannot read the classes of {path}: {reason}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    header = [word.strip() for word in lines[0].split(",")] if lines else []
    names = _from_csv(path, lines) if {INDEX, NAME} <= set(header) else lines
    if not names:
        raise ManifestError(f"{path} names no class")
    if not all(names):
        raise ManifestError(f"{path} has a row without {NAME}")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ManifestError(f"{path} names the class '{name}' {count} times")
    return tuple(names)


def _from_csv(path: Path, lines: list[str]) -> list[str]:
    rows = list(csv.DictReader(lines, skipinitialspace=True))
    if any(None in row or None in row.values() for row in rows):  # too many cells, or too few
        raise ManifestError(
            f"{path} has a row of more or fewer columns than its first line",
            "a name with a comma must stand in quotes",
        )
    try:
        found = {int(row[INDEX]): str(row[NAME]).strip() for row in rows}
    except (TypeError, ValueError):
        raise ManifestError(f"{path} has a row whose '{INDEX}' is no number") from None
    if sorted(found) != list(range(len(rows))):
        raise ManifestError(f"{path} does not number its {len(rows)} classes from 0 without a gap")
    return [found[number] for number in range(len(rows))]
