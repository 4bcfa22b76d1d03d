"""Runs mutated files through everything that reads clips, and counts what becomes of them.

``python -m tests.fuzz.run --files 50000 --seed 1 --workers 2 --out OUT`` prints a table; files that
break something are kept in OUT, each with a smaller one that breaks it in the same way.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import make_corpus
from tests.fuzz.minimise import minimised
from tests.fuzz.mutators import mutated
from tests.fuzz.operations import CRASH, FAULTS, HANG, SURVIVED, Outcome, judge
from zoo.media import apart

STALL_S = 20.0  # of processor time for one packet
SILENCE_S = 600.0  # for one file; what takes longer hangs outside of the processes that read
AT_ONCE = 2000  # files that a process judges
MODEL = "tiny-synthetic"


@dataclass(frozen=True)
class Result:
    """What became of the file of a number."""

    number: int
    name: str
    outcome: Outcome


def run(
    corpus: Mapping[str, bytes],
    seed: int,
    numbers: Iterable[int],
    folder: Path,
    predict: Callable[[Path], Any] | None = None,
) -> Iterator[Result]:
    """Judge files one after the other; whoever calls it reads them apart.

    Args:
        corpus: what files are made of.
        seed: of all mutations.
        numbers: of the files.
        folder: for one file at a time.
        predict: asks a model about a file.
    """
    for number in numbers:
        name, data = mutated(corpus, seed, number)
        yield Result(number, name, judge_bytes(data, name, folder, predict))


def judge_bytes(
    data: bytes, name: str, folder: Path, predict: Callable[[Path], Any] | None = None
) -> Outcome:
    """Judge the content of a file under a name."""
    own = folder / "file"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    (own / name).write_bytes(data)
    return judge(own / name, predict)


def run_in_processes(corpus: Path, seed: int, numbers: range, workers: int) -> Iterator[Result]:
    """Judge files in processes; the file that ends or stops one is found, and the others go on.

    Args:
        corpus: folder of what files are made of.
        seed: of all mutations.
        numbers: of the files.
        workers: processes.
    """
    waiting = [numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE)][::-1]
    running: dict[Connection, tuple[BaseProcess, list[int]]] = {}
    context = multiprocessing.get_context("spawn")
    while waiting or running:
        while waiting and len(running) < workers:
            share = waiting.pop()
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, corpus, seed, share))
            process.start()
            theirs.close()
            running[ours] = process, list(share)
        ready = wait([*running], SILENCE_S)
        for connection in ready or [*running]:
            process, left = running[connection]
            try:
                fault = Outcome(CRASH, "outside") if ready else Outcome(HANG, "outside")
                result: Result | None = connection.recv() if ready else None
            except EOFError:
                result = None
            if result is not None:
                left.remove(result.number)
                yield result
                continue
            del running[connection]
            process.kill()
            process.join()
            if left:
                yield Result(left[0], mutated({"": b""}, seed, left[0])[0], fault)
                waiting.append(range(left[0] + 1, left[-1] + 1))


def _work(connection: Connection, corpus: Path, seed: int, numbers: range) -> None:
    read_apart()
    predict = _predictor()
    with tempfile.TemporaryDirectory() as folder:
        for result in run(make_corpus(corpus), seed, numbers, Path(folder), predict):
            connection.send(result)


def read_apart() -> None:
    """Read in processes of their own, with the limit of this program."""
    logging.getLogger("zoo").setLevel(logging.ERROR)
    apart.STALL_S = STALL_S
    apart.read_apart_from_now_on()


def _predictor() -> Callable[[Path], Any]:
    import torch

    from zoo.inference.load import load

    torch.set_num_threads(1)
    return partial(load(MODEL, "cpu").predict, every_s=2.0)


def keep(out: Path, corpus: Mapping[str, bytes], seed: int, result: Result, seconds: float) -> Path:
    """Keep a file that breaks something, and a smaller one that does so too."""
    name, data = mutated(corpus, seed, result.number)
    kept = out / f"{seed}-{result.number}-{name}"
    kept.write_bytes(data)
    kept.with_name(f"{kept.name}.txt").write_text(f"{result.outcome}\n")
    if result.outcome.kind not in {CRASH, HANG} or result.outcome.operation != "outside":
        with tempfile.TemporaryDirectory() as folder:

            def is_same(smaller: bytes) -> bool:
                return judge_bytes(smaller, name, Path(folder)).key == result.outcome.key

            kept.with_name(f"small-{kept.name}").write_bytes(minimised(data, is_same, seconds))
    return kept


def main() -> int:
    """Run the program; the exit code says whether a file broke something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"))
    parser.add_argument("--minimise", type=float, default=60.0, help="seconds per broken file")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus(given.out / "corpus")
    read_apart()
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    numbers = range(given.first, given.first + given.files)
    for done, result in enumerate(
        run_in_processes(given.out / "corpus", given.seed, numbers, given.workers), start=1
    ):
        counts[result.outcome.kind] += 1
        if result.outcome.kind in {*FAULTS, SURVIVED}:
            faults[result.outcome.key] += 1
            say(f"{result.number} {result.name}: {result.outcome}")
            if faults[result.outcome.key] == 1:
                keep(given.out, corpus, given.seed, result, given.minimise)
        if done % 1000 == 0:
            say(f"{done} files: {dict(counts)}")
    say("| outcome | files |\n|---|---|")
    for kind, count in counts.most_common():
        say(f"| {kind} | {count:,} |")
    for key, count in faults.most_common():
        say(f"{count:6,} x {key}")
    return int(any(counts[kind] for kind in FAULTS))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
