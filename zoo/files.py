"""Writing files whole or not at all, and telling them apart."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing tells whether a part is still written
    fcntl = None  # type: ignore[assignment]

PART = ".zoo-part-"
YOUNG_S = 10.0  # a part may not be locked yet in its first moments


@contextmanager
def part_beside(path: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Give a new file or folder beside a path, to be moved there; what is left of it goes.

    It is locked as long as somebody works on it.  Parts that are not locked were left by programs
    that were killed, and are removed.

    Args:
        path: where it shall go; the part has the same suffix.
        is_folder: whether to make a folder.

    Raises:
        OSError: if nothing can be written there.
    """
    _remove_abandoned(path.parent)
    part = path.with_name(f"{PART}{secrets.token_hex(4)}{path.suffix}")
    if is_folder:
        part.mkdir()
    else:
        part.touch(exist_ok=False)
    lock = None if fcntl is None else os.open(part, os.O_RDONLY)
    try:
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield part
    finally:
        _remove(part)
        if lock is not None:
            os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    if fcntl is None:
        return
    for part in folder.glob(f"{PART}*"):
        try:
            if time.time() - part.stat().st_mtime < YOUNG_S:
                continue
            lock = os.open(part, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(part)
        except OSError:  # somebody is at work on it
            continue
        finally:
            os.close(lock)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that whoever reads it finds the old text or the new one."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, newline="", encoding="utf-8")
    part.replace(file)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
