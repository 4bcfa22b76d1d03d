"""Writing files whole or not at all, and telling them apart."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows, where nothing tells whether a part is still written
    fcntl = None  # type: ignore[assignment]

_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in the words of safetensors
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
            with suppress(OSError):  # some shared file systems cannot lock
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield part
    finally:
        remove_quietly(part)
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
            remove_quietly(part)
        except OSError:  # somebody is at work on it
            continue
        finally:
            os.close(lock)


def remove_quietly(part: Path) -> None:
    """Remove a file or folder if it is there; a failure must not hide why it has to go."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink()


def in_utf8(path: Path) -> str:
    """Return a path as text; where it is not UTF-8, bytes stand as ``xff`` after a backslash."""
    return os.fsencode(path).decode(errors="backslashreplace")


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that whoever reads it finds the old text or the new one.

    Names that are not UTF-8 (`os.fsdecode`) are written as they are.

    Raises:
        OSError: if it cannot be written; the old text stays.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, newline="", encoding="utf-8", errors="surrogateescape")
        part.replace(file)
    except OSError as error:
        remove_quietly(part)
        error.filename = str(file)
        raise


def append_line(file: Path, line: str) -> None:
    """Append a line to a text file, on a line of its own even after one that was cut short.

    Raises:
        OSError: if it cannot be written; nothing of it stays.
    """
    data = f"{line}\n".encode(errors="surrogateescape")
    with file.open("ab+", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        if end:
            stream.seek(end - 1)
            if stream.read(1) != b"\n":
                data = b"\n" + data
        if stream.write(data) != len(data):  # the disk is full
            stream.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))


class _Lenient(io.RawIOBase):
    """Takes all that is written; keeps the first error of the file behind it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return 0  # torch rewinds what it has written

    def write(self, data: Any) -> int:
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return len(data)


@contextmanager
def written_by_torch(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for `torch.save`, which ends the process if a write fails half-way.

    Raises:
        OSError: at the end, if the file could not be written.
    """
    with path.open("wb") as file:
        lenient = _Lenient(file)
        yield cast(IO[bytes], lenient)
        if lenient.error is not None:
            raise lenient.error


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors as safetensors.

    Raises:
        OSError: if the file cannot be written; part of it may be there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({n: tensor.detach().cpu().contiguous() for n, tensor in tensors.items()}, file)
    except SafetensorError as error:
        found = _OS_ERROR.search(str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number), str(file)) from None


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
