"""Reading clips in processes of their own, which a file may crash, hang or fill up.

Within `reading_apart`, every function marked with `reads_clip` runs in one of a few processes that
import little and live long.  One that dies is replaced and its clip is tried once more; whoever
asked gets a `MediaError`, as for any other clip that cannot be read.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from zoo.errors import MediaError, ZooError
from zoo.media.through import tell_share
from zoo.media.untrusted import blamed_on

P = ParamSpec("P")
T = TypeVar("T")

PROGRAM = "zoo.media.reader_process"
STALL_S = 60.0  # of processor time without a packet read, after which a process is hanging
SILENCE_S = 600.0  # of any time
TRIES = 2
AT_ONCE = 2**22  # bytes of an array on their way
# What a process sends: that it goes on, a line of its log, how much of a clip it has read through,
# an array, the answer.
BEAT, LOG, SHARE, ITEM, END = range(5)


def reads_clip(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function whose first argument is a clip it reads, and whose answer can be pickled.

    What FFmpeg cannot do with the clip becomes a `MediaError`.
    """

    @wraps(function)
    def read(*args: P.args, **kwargs: P.kwargs) -> T:
        path, readers = _clip_of(args, kwargs), _Readers.in_use()
        if readers is not None:
            return readers.ask(path, (read, args, kwargs))
        with blamed_on(path):
            return function(*args, **kwargs)

    return read


def reads_frames(function: Callable[P, Generator[T]]) -> Callable[P, Generator[T]]:
    """Mark a generator of arrays whose first argument is a clip; see `reads_clip`."""

    @wraps(function)
    def read(*args: P.args, **kwargs: P.kwargs) -> Generator[T]:
        path, readers = _clip_of(args, kwargs), _Readers.in_use()
        if readers is not None:
            yield from readers.run(path, (read, args, kwargs))
            return
        with blamed_on(path):
            yield from function(*args, **kwargs)

    return read


def is_reading_apart() -> bool:
    """Say whether this process has its clips read by others."""
    return _Readers.in_use() is not None


def _clip_of(args: tuple[Any, ...], named: dict[str, Any]) -> Path:
    return Path(args[0] if args else named["path"])


@contextmanager
def reading_apart() -> Iterator[None]:
    """Read clips in other processes until the end of the block; they wait there for the next one.

    The processes end with this one.
    """
    read_apart_from_now_on()
    readers = _Readers.here
    assert readers is not None
    try:
        yield
    finally:
        with readers.lock:
            readers.users -= 1


def read_apart_from_now_on() -> None:
    """Do so until this process ends."""
    with _Readers.lock:
        if _Readers.here is None or _Readers.here.pid != os.getpid():  # a fork has none
            _Readers.here = _Readers(os.getpid())
            atexit.register(_Readers.here.close)
        _Readers.here.users += 1


class _Readers:
    """Processes that read: as many as are asked at the same time."""

    lock = threading.Lock()
    here: _Readers | None = None

    def __init__(self, pid: int) -> None:
        self.pid, self.users = pid, 0
        self._idle: list[_Reader] = []

    @classmethod
    def in_use(cls) -> _Readers | None:
        """Return them if this process reads apart; a fork would share their sockets."""
        here = cls.here
        return here if here is not None and here.users and here.pid == os.getpid() else None

    def ask(self, path: Path, request: Any) -> Any:
        """Have a request answered; see `run`."""
        run = self.run(path, request)
        while True:
            try:
                next(run)
            except StopIteration as end:
                return end.value

    def run(self, path: Path, request: Any) -> Generator[Any, None, Any]:
        """Yield what a request yields, and return what it returns.

        Raises:
            MediaError: if two processes after each other did not survive it.
            ZooError: that was raised there.
        """
        why = ""
        for _ in range(TRIES):
            reader, is_done = self._take(path), False
            try:
                answer = yield from reader.run(request)
                is_done = True
            except _DeadError as error:
                why = str(error)
                if error.is_late:
                    break
                continue
            finally:
                if is_done:
                    self._put_back(reader, path)
                else:
                    reader.end()
            if isinstance(answer, Exception):
                raise answer
            return answer
        raise MediaError(f"{path.name} {why}", "it is damaged; copy or download it again")

    def _take(self, path: Path) -> _Reader:
        """Take an idle process, one that knows the clip if there is one."""
        with self.lock:
            same = [reader for reader in self._idle if reader.last == path]
            if self._idle:
                reader = (same or self._idle)[-1]
                self._idle.remove(reader)
                return reader
        return _Reader()

    def _put_back(self, reader: _Reader, path: Path) -> None:
        reader.last = path
        with self.lock:
            self._idle.append(reader)

    def close(self) -> None:
        """End the processes."""
        while self._idle:
            self._idle.pop().end()


class _DeadError(Exception):
    """A process ended, or was ended; says what the clip did to it, and if that was midway."""

    def __init__(self, why: str, *, is_late: bool) -> None:
        super().__init__(why)
        self.is_late = is_late


class _Reader:
    """A process that reads, seen from outside.

    Attributes:
        last: the clip it read last.
    """

    def __init__(self) -> None:
        self.last: Path | None = None
        self._socket, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, AT_ONCE)
        with theirs:
            given = theirs.fileno(), os.getpid(), STALL_S
            self._process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, *map(str, given)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what the C library says as it ends
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._socket.settimeout(SILENCE_S)
        try:
            receive(self._socket)  # that it has begun
        except (OSError, EOFError) as error:
            self.end()
            raise ZooError(
                f"the process that is to read clips does not start ({_how(self._process)}); is "
                "there enough memory?"
            ) from error

    def run(self, request: Any) -> Generator[Any, None, Any]:
        """Yield items, then return an answer, or the error that was raised there.

        Raises:
            _DeadError: if the process does not survive it, or makes no progress.
        """
        is_late = False
        try:
            send(self._socket, (_folder(), *request))
            while True:
                kind, content = receive(self._socket)
                if kind == END:
                    return content
                if kind == LOG:
                    logger, level, text = content
                    logging.getLogger(logger).log(level, "%s", text)
                if kind == SHARE:
                    tell_share(*content)
                if kind == ITEM:
                    is_late = True
                    yield content
        except TimeoutError:
            why = f"cannot be read: no progress for {SILENCE_S:g} s"
        except (OSError, EOFError):
            self.end()
            why = f"cannot be read: it ends the process that reads it ({_how(self._process)})"
            if self._process.returncode == -signal.SIGPROF:
                why = f"cannot be read: no progress in {STALL_S:g} s of processor time"
        raise _DeadError(why, is_late=is_late)

    def end(self) -> None:
        """End the process."""
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):  # it may have ended by itself
            self._process.wait(0.2)
        self._process.kill()
        self._process.wait()


def _folder() -> str | None:
    """Return the working folder, in which relative paths are; None if it was removed."""
    with suppress(FileNotFoundError):
        return os.getcwd()
    return None


def _how(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def send(to: socket.socket, message: Any) -> None:
    """Send a message, arrays as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
    to.sendall(struct.pack(f"<I{len(parts)}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        to.sendall(part)


def receive(source: socket.socket) -> Any:
    """Receive a message.

    Raises:
        EOFError: if there will be none.
    """
    (count,) = struct.unpack("<I", _take(source, 4))
    sizes = struct.unpack(f"<{count}Q", _take(source, 8 * count))
    data, *buffers = [_take(source, size) for size in sizes]
    return pickle.loads(data, buffers=buffers)


def _take(source: socket.socket, size: int) -> memoryview:
    view, done = np.empty(size, np.uint8).data, 0
    while done < size:
        count = source.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    return view
