"""What the tables of results are written with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Result = dict[str, Any]


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def where(result: Result) -> str:
    """Say on which machine and when."""
    found = result["machine"]
    name = found.get("gpu") or f"{found['processor']}, {found['cores']} cores"
    return (
        f"*{name}; {found['threads']} thread, torch {found['torch']}, PyAV {found['av']}; "
        f"{found['date']} UTC, load {found['load'][0]}.*"
    )


def times(value: dict[str, float]) -> str:
    """Write a ratio with its spread."""
    middle, lowest, highest = (
        f"{value[name]:.2f}" if value[name] < 10 else f"{value[name]:.0f}"
        for name in ("median", "lowest", "highest")
    )
    return f"{middle}x ({lowest} to {highest})"
