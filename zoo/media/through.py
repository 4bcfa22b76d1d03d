"""How far a file is read that has to be read through, to know its times, before it can be used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Tell = Callable[[Path, float], None]
EVERY_S = 0.2  # between two times that it is told


class _Listener:
    """Whom to tell, whatever the thread: one bar is shown at a time."""

    tell: Tell = staticmethod(lambda _path, _share: None)


@contextmanager
def told_of_reading(tell: Tell) -> Iterator[None]:
    """Have a function called with a file and how much of it is read through, from 0 to 1."""
    before, _Listener.tell = _Listener.tell, staticmethod(tell)
    try:
        yield
    finally:
        _Listener.tell = staticmethod(before)


def tell_share(path: Path, share: float) -> None:
    """Say how much of a file is read through."""
    _Listener.tell(path, share)


@contextmanager
def reading_through(path: Path, num_bytes: int) -> Iterator[Callable[[int | None], None]]:
    """Tell how far reading is: the function that it gives takes the place of a packet in the file.

    It tells at once, then now and then, and at the end.
    """
    last_s, furthest = -EVERY_S, 0  # packets of two streams lie in no order

    def reach(place: int | None) -> None:
        nonlocal last_s, furthest
        furthest = max(furthest, place or 0)
        if time.monotonic() - last_s >= EVERY_S:
            last_s = time.monotonic()
            tell_share(path, min(1.0, furthest / max(1, num_bytes)))

    try:
        yield reach
    finally:
        tell_share(path, 1.0)
