"""How commands print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2))


def file_name(path: str | Path) -> str:
    """Return a path as rich is to print it: on one line, and brackets are no markup."""
    return escape(" ".join(str(path).splitlines()))


@contextmanager
def progress_bar(title: str, hidden: bool = False) -> Iterator[Any]:
    """Show a bar on standard error; yields a function of (done, total).

    A clip that has to be read through before it can be used has a bar of its own meanwhile.
    """
    from zoo.media.through import told_of_reading

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(title, total=None)
        through = progress.add_task("", total=100, visible=False)

        def tell(path: Path, share: float) -> None:
            progress.update(
                through,
                description=f"reading {path.name}, %",
                completed=int(100 * share),
                visible=share < 1,
            )

        with told_of_reading(tell):
            yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def byte_bar(title: str) -> Iterator[tuple[Callable[[int, int | None], None], Callable[..., None]]]:
    """Show a download on standard error.

    Yields a function of (bytes done, total) and one that prints a message above the bar.
    """
    columns = [
        TextColumn(title, markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    console = Console(stderr=True)
    is_hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task(title, total=None, visible=False)

        def update(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        def tell(message: str) -> None:
            console.print(f"{title}: {message}", soft_wrap=True, highlight=False, markup=False)

        yield update, tell
