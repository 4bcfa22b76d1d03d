"""One ablation at a time in a folder, and none of its processes left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from zoo.errors import TrainingError

LOCK = ".lock"
REFRESH_S, CLOSING_S = 0.25, 90.0  # the processes of an ablation that was killed end by themselves


@contextmanager
def locked(out: Path) -> Iterator[IO[str]]:
    """Keep others out of the folder; wait for the processes of one that was killed.

    The descriptor is open in all of them, so that the lock is held until the last has ended.

    Raises:
        TrainingError: if another ablation is at work there.
    """
    with (out / LOCK).open("a+") as lock:
        waited_until = time.monotonic() + CLOSING_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if _is_alive(lock) or time.monotonic() > waited_until:
                    raise TrainingError(f"another zoo ablate is at work in {out}") from None
                time.sleep(REFRESH_S)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock


def _is_alive(lock: IO[str]) -> bool:
    """Say whether the ablation that wrote its number into a lock is still there."""
    lock.seek(0)
    number = lock.read().strip()
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def interruptible() -> Iterator[None]:
    """Take a request to terminate like Ctrl-C, so that no process is left behind.

    A shell's background job ignores Ctrl-C, and so would the programs that it starts: they inherit
    what is ignored, but not what is handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT or not is_ignored:
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
