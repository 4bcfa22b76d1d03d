"""One driver at a time in a folder, and none of its processes left behind."""

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

LOCK, SHARED_LOCK = ".lock", ".trainings"
REFRESH_S, CLOSING_S = 0.25, 90.0  # the processes of an ablation that was killed end by themselves


@contextmanager
def locked(out: Path) -> Iterator[IO[str]]:
    """Keep others out of the folder; wait for the processes of one that was killed.

    The descriptor is open in all of them, so that the lock is held until the last has ended; those
    that a cluster runs hold another, see `share_lock`.

    Raises:
        TrainingError: if another ablation or search is at work there.
    """
    with (out / LOCK).open("a+") as lock:
        waited_until = time.monotonic() + CLOSING_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if _is_alive(lock) or time.monotonic() > waited_until:
                    raise TrainingError(f"another zoo command is at work in {out}") from None
                time.sleep(REFRESH_S)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock


def share_lock(out: Path) -> IO[str]:
    """Return a file whose lock trainings share, for as long as any of them keeps it open."""
    lock = (out / SHARED_LOCK).open("a+")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def wait_for_trainings(out: Path) -> None:
    """Wait until no training that a killed driver left behind shares the lock of a folder.

    Raises:
        TrainingError: if one does not end.
    """
    with (out / SHARED_LOCK).open("a+") as lock:
        waited_until = time.monotonic() + CLOSING_S
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > waited_until:
                    raise TrainingError(f"an earlier training is still at work in {out}") from None
                time.sleep(REFRESH_S)


def _is_alive(lock: IO[str]) -> bool:
    """Say whether the driver that wrote its number into a lock is still there."""
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
