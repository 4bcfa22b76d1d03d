"""One file under two names: a link, a hard link, a copy.  It would be learnt from and tested on."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.contracts import ClipRecord
from zoo.files import sha256_of

PEEK_BYTES = 1 << 16  # read of files of equal size, to see whether they can be equal


def once_each(
    records: Sequence[ClipRecord],
) -> tuple[list[ClipRecord], list[tuple[ClipRecord, str]]]:
    """Take every file once: a file before the links to it, else the first name or copy.

    Returns:
        The records that are left, in order, and the others, each with the reason.
    """
    chosen: dict[object, ClipRecord] = {}
    reasons: dict[Path, str] = {}
    for record in sorted(records, key=lambda record: record.path.is_symlink()):
        first = chosen.setdefault(_identity(record.path), record)
        if first is not record:
            reasons[record.path] = f"the same file as {first.path}, which is taken once"
    kept = [record.path for record in records if record.path not in reasons]
    for path, first_path in _copies(kept):
        reasons[path] = f"a copy of {first_path}, which is taken once"
    left = [record for record in records if record.path not in reasons]
    return left, [(r, reasons[r.path]) for r in records if r.path in reasons]


def _identity(path: Path) -> object:
    """Return what all names of a file have in common."""
    try:
        found = path.stat()
    except OSError:
        return os.path.abspath(path)
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)


def _copies(paths: Iterable[Path]) -> Iterable[tuple[Path, Path]]:
    """Yield files whose content another file before them has, and that file."""
    by_size: dict[object, list[Path]] = defaultdict(list)
    for path in paths:
        by_size[_size(path)].append(path)
    alike: dict[object, list[Path]] = defaultdict(list)
    for size, group in by_size.items():
        for path in group if size and len(group) > 1 else ():
            alike[size, _peek(path)].append(path)
    first: dict[object, Path] = {}
    for group in alike.values():
        for path in group if len(group) > 1 else ():
            other = first.setdefault(sha256_of(path), path)
            if other is not path:
                yield path, other


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _peek(path: Path) -> bytes:
    """Hash a little of the middle of a file; one that cannot be read is like no other."""
    try:
        with path.open("rb") as stream:
            stream.seek(_size(path) // 2)
            return hashlib.sha256(stream.read(PEEK_BYTES)).digest()
    except OSError:
        return os.fsencode(path)
