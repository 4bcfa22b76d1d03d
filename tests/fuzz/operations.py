"""What is asked of every file, and what counts as an answer."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.check import check_clip
from zoo.data.published import read_clip
from zoo.errors import ZooError
from zoo.media import decode, probe, shift_audio
from zoo.media.apart import _Readers
from zoo.media.in_order import pictures_in_order, samples_in_order

ANSWERED, SENTENCE = "answered", "one clear sentence"
SURVIVED = "one clear sentence, of a process apart that crashed or hung"
EXCEPTION, MEMORY, CRASH, HANG = "exception", "memory", "crash", "hang"
FAULTS = {EXCEPTION, MEMORY, CRASH, HANG}
MOST_RESIDENT_KB = 1_500_000


@dataclass(frozen=True)
class Outcome:
    """What became of a file: which operation, which kind, and its words."""

    kind: str
    operation: str = ""
    words: str = ""

    @property
    def key(self) -> str:
        """What makes two faults the same."""
        return f"{self.kind}: {self.operation}: {self.words.partition('@')[2] or self.words}"


def judge(path: Path, predict: Callable[[Path], Any] | None = None) -> Outcome:
    """Do everything with a file; return the first fault, else what reading a window of it gave.

    Args:
        path: the file, with a folder of its own.
        predict: asks a model.
    """
    read = Outcome(ANSWERED)
    for name, operation in operations(path, predict):
        try:
            operation()
        except ZooError as error:
            fault = _fault_in(str(error))
            if fault:
                return Outcome(fault, name, str(error))
            if name == "window":
                read = Outcome(SENTENCE, name, str(error))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.name}"
            return Outcome(EXCEPTION, name, f"{type(error).__name__}: {error} @ {where}")
        resident_kb = _largest_kb()
        if resident_kb > MOST_RESIDENT_KB:
            _end_readers()  # what was once resident would be held against the next file
            return Outcome(MEMORY, name, f"{resident_kb:,} kB")
    return read


def operations(
    path: Path, predict: Callable[[Path], Any] | None
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what is done with a file."""
    yield "probe", lambda: probe(path)
    yield "window", lambda: decode(path, duration_s=1.0, short_side=64)
    yield "whole", lambda: decode(path)
    yield "check", lambda: check_clip(path)
    yield "pictures", lambda: sum(1 for _ in pictures_in_order(path, 25.0))
    yield "samples", lambda: samples_in_order(path, 10.0)
    yield "published", lambda: read_clip(path)
    yield "shift", lambda: shift_audio(path, path.with_name(f"copy{path.suffix}"), 0.2)
    if predict is not None:
        yield "predict", lambda: predict(path)


def _fault_in(sentence: str) -> str | None:
    """Return what a process apart has turned into a sentence; see `zoo.media.apart`."""
    if "more memory than there is" in sentence:
        return MEMORY
    if "it ends the process" in sentence or "no progress in" in sentence:
        return SURVIVED
    return EXCEPTION if re.search(r"cannot be read: \w+Error: ", sentence) else None


def _end_readers() -> None:
    readers = _Readers.here
    if readers is not None:
        readers.close()


def _largest_kb() -> int:
    """Return the largest resident size that a process apart has had."""
    readers = _Readers.here
    if readers is None:
        return 0
    sizes = [0]
    for reader in readers._idle:
        status = Path(f"/proc/{reader._process.pid}/status")
        if status.exists():
            sizes += [
                int(line.split()[1])
                for line in status.read_text().splitlines()
                if line.startswith("VmHWM")
            ]
    return max(sizes)
