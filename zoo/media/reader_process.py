"""The process in which clips are read for another one: `zoo.media.apart` starts and asks it."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from zoo.errors import MediaError, ZooError
from zoo.media.apart import BEAT, END, ITEM, LOG, SHARE, receive, send
from zoo.media.through import told_of_reading
from zoo.media.untrusted import on_progress

BEAT_S = 1.0  # between two signs of life
LOOK_S = 2.0  # between two looks whether the parent is still there
MEMORY_SHARE = 0.5  # of the machine, that one process may take


def main() -> None:
    """Answer requests until there are no more, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes itself
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    most = int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # a stricter limit may hold already
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        beat = _Beat(parent, float(sys.argv[3]))
        on_progress(beat)
        logging.basicConfig(level=logging.WARNING, handlers=[_Log(parent)])
        telling = told_of_reading(lambda path, share: send(parent, (SHARE, (path, share))))
        with telling, suppress(EOFError, OSError):
            send(parent, (BEAT, None))
            while True:
                request = receive(parent)
                beat.wind_up()
                answer = _answer(parent, *request)
                signal.setitimer(signal.ITIMER_PROF, 0)
                send(parent, (END, answer))


def _answer(parent: socket.socket, folder: str | None, read: Any, args: Any, kwargs: Any) -> Any:
    """Return what a function returns or raises; what it yields is sent at once.

    Relative paths are in ``folder``, which whoever asks may have changed since this process began.
    """
    try:
        if folder is not None:
            os.chdir(folder)
        answer = read(*args, **kwargs)
        if not isinstance(answer, Generator):
            return answer
        for item in answer:
            send(parent, (ITEM, item))
    except ZooError as error:
        return type(error)(error.message, error.hint)
    except Exception as error:  # one strange file must not end a run over thousands
        name = Path(args[0] if args else kwargs["path"]).name
        return MediaError(f"{name} cannot be read: {type(error).__name__}: {error}")
    return None


class _Beat:
    """Tells the parent now and then that there is progress, and a timer that kills without it.

    The timer counts processor time, so that a busy machine harms no clip.
    """

    def __init__(self, parent: socket.socket, stall_s: float) -> None:
        self._parent, self._stall_s, self._last_s = parent, stall_s, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last_s >= BEAT_S:
            self._last_s = time.monotonic()
            self.wind_up()
            send(self._parent, (BEAT, None))

    def wind_up(self) -> None:
        """Allow for so much time until the next packet."""
        signal.setitimer(signal.ITIMER_PROF, self._stall_s)


class _Log(logging.Handler):
    """Sends the parent what is logged."""

    def __init__(self, parent: socket.socket) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        send(self._parent, (LOG, (record.name, record.levelno, message)))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    main()
