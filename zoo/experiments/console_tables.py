"""How tables look: as Markdown, and on a console."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 180  # letters


def wide_console(*, stderr: bool = False) -> Console:
    """Return a console that is wide where there is no terminal to ask."""
    from rich.console import Console

    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=WIDE)


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return rows as a Markdown table."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    lines.insert(1, ruler)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
