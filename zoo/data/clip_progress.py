"""A progress bar over clips, on standard error so that answers stay clean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def clip_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar and yield the function that moves it: ``progress(done, total)``."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
