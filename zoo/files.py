"""Writing files whole or not at all, and telling them apart."""

from __future__ import annotations

import hashlib
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that whoever reads it finds the old text or the new one."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, newline="", encoding="utf-8")
    part.replace(file)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
