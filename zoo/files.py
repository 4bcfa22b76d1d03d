"""Writing files whole or not at all."""

from __future__ import annotations

from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that whoever reads it finds the old text or the new one."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, newline="", encoding="utf-8")
    part.replace(file)
