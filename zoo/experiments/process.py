"""A zoo command as a process: its output in a log, nothing of it left behind."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zoo.registry.plugin_files import PLUGIN_FILES_VARIABLE, plugin_files

BROKE_OFF = "training broke off"  # how the sentence begins when it was not the input
PATIENCE_S = 60.0  # for a command to end after Ctrl-C
_ERROR = re.compile(r"^(error: |[\w.]*(?:Error|Exception): )")


class Stoppable(Protocol):
    """Something that can be asked to end."""

    def interrupt(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""


@dataclass
class Process:
    """A command at work.

    Attributes:
        command: its verb.
        log: file that it writes into.
        log_start: byte at which what it writes begins.
        popen: the process.
    """

    command: str
    log: Path
    log_start: int
    popen: subprocess.Popen[bytes]

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it is alive."""
        return self.popen.poll()

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does; what it has done so far stays."""
        if self.is_alive:
            self.popen.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all that it started."""
        if self.is_alive:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()

    @property
    def broke_off(self) -> bool:
        """Whether a training ended for another reason than its input, and may be resumed."""
        code = self.code
        if not code:
            return False
        return code < 0 or self.reason().startswith(BROKE_OFF)

    def reason(self) -> str:
        """Say why it failed: its last error, or how it ended."""
        told = reason_in(self.log, self.log_start)
        if told:
            return told
        code = self.code or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"zoo {self.command} ended with {how}; see {self.log}"


def spawn(
    words: list[str], log: Path, lock: int | None, *, threads: int = 0, folder: Path | None = None
) -> Process:
    """Start a zoo command, which ends when this process does.

    Args:
        words: its command line.
        log: file to append to.
        lock: descriptor to keep open in it.
        threads: of its arithmetic, unless the environment says otherwise; 0 is all.
        folder: to run in.
    """
    environment = dict(os.environ)
    environment[PLUGIN_FILES_VARIABLE] = os.pathsep.join(str(p.absolute()) for p in plugin_files())
    if threads:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with log.open("ab") as stream:
        start = stream.tell()
        stream.write(f"\n$ {shlex.join(['zoo', *words])}\n".encode())
        stream.flush()
        popen = subprocess.Popen(
            [sys.executable, "-m", "zoo.experiments.child", str(os.getpid()), *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[] if lock is None else [lock],
            start_new_session=True,  # Ctrl-C reaches us alone, and we pass it on
        )
    return Process(words[0], log, start, popen)


def reason_in(log: Path, start: int) -> str:
    """Return the last error that a command wrote into a log from some byte on.

    Args:
        log: file.
        start: where what the command wrote begins.
    """
    with log.open("rb") as stream:
        stream.seek(start)
        lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines()]
    told = [line.removeprefix("error: ") for line in lines if _ERROR.match(line)]
    return told[-1] if told else ""


def stop(working: Iterable[Stoppable], patience_s: float = PATIENCE_S) -> None:
    """Ask all to end, and end those that do not; a second Ctrl-C ends them at once."""
    working = list(working)
    waited_until = time.monotonic() + patience_s
    try:
        for one in working:
            one.interrupt()
        while any(one.is_alive for one in working) and time.monotonic() < waited_until:
            time.sleep(0.1)
    finally:
        for one in working:
            one.kill()


def program_words() -> list[str]:
    """Return how a command line begins, plugins that are not installed included."""
    return ["zoo", *(word for file in plugin_files() for word in ("--plugin", str(file)))]


def option_words(options: Mapping[str, object]) -> list[str]:
    """Write options as one types them, once for each of their values; None is left out."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        for one in values:
            words += [
                f"--{name.replace('_', '-')}",
                f"{one:g}" if isinstance(one, float) else str(one),
            ]
    return words


def resume_command(
    verb: str, out: Path, given: Mapping[str, object], usual: Mapping[str, object]
) -> str:
    """Return the command that goes on in a folder in the same way.

    Args:
        verb: of the command line.
        out: the folder.
        given: options by name.
        usual: their defaults; what is equal is left out.
    """
    unusual = {name: value for name, value in given.items() if value != usual.get(name)}
    words = [*program_words(), verb, "--out", str(out), "--resume", *option_words(unusual)]
    return shlex.join(words)
