"""Trainings and searches as processes that are struck at seeded moments; what they leave behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file

from zoo.training.runlog import read_metrics

GENEROUS_S = 900
NAMES = {"worker": "ray::RayTrainWorker", "raylet": "raylet/raylet", "driver": ""}  # command lines
LEFT = (".shard-*", ".*.part", ".zoo-part-*")  # what nobody finished
# fmt: off
SETTINGS = {
    "stage1.steps": 16, "stage1.clips": 2, "stage1.num_segments": 9, "stage1.log_every": 1,
    "stage1.valid_every": 16, "stage1.checkpoint_every": 2, "stage2.steps": 120, "stage2.batch": 8,
    "stage2.log_every": 2, "stage2.valid_every": 40, "stage2.checkpoint_every": 8,
}
# fmt: on


def train_words(manifest: Path, out: Path, workers: int = 2) -> list[str]:
    """Return a small training of both stages."""
    return ["train", "--workers", str(workers), *_given(manifest, out)]


def search_words(manifest: Path, out: Path) -> list[str]:
    """Return a search over two points that share stage I."""
    layout = ["--lengths", "0.64", "--overlaps", "0,0.5", "--input-seconds", "4.8"]
    return ["tune", "segment-length", *layout, "--max-concurrent", "1", *_given(manifest, out)]


def _given(manifest: Path, out: Path) -> list[str]:
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    given = ["--extractor", "ast_motionformer", "--head", "correlation", "--data", str(manifest)]
    return [*given, *settings, "--out", str(out)]


def start(words: list[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a zoo command, one thread for the arithmetic of each of its processes."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "zoo.cli", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(words: list[str], log: Path, **environment: str) -> int:
    """Run a zoo command to its end."""
    return start(words, log, **environment).wait(GENEROUS_S)


def descendants(pid: int) -> dict[int, str]:
    """Return all processes below one, with their command lines."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    children: dict[int, list[tuple[int, str]]] = {}
    for child, parent, *words in rows:
        children.setdefault(int(parent), []).append((int(child), " ".join(words)))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child, words in children.get(waiting.pop(), []):
            found[child] = words
            waiting.append(child)
    return found


def has_logged(run: Path, stage: int, step: int) -> Callable[[], bool]:
    """Return a condition: a run has logged a step of a stage."""
    return lambda: any(
        r["kind"] == "train" and (r["stage"], r["step"]) >= (stage, step) for r in read_metrics(run)
    )


def is_storing(run: Path) -> Callable[[], bool]:
    """Return a condition: the feature store is being filled."""
    return lambda: any((run / "features").glob("*/*"))


@dataclass
class Struck:
    """A training or a search that something happens to.

    Attributes:
        words: its command line.
        run: its folder.
        log: file that it writes into.
        seen: all processes of it that were ever seen.
    """

    words: list[str]
    run: Path
    log: Path
    seen: set[int] = field(default_factory=set)

    def strike(
        self, when: Callable[[], bool], whom: str, number: int, seed: int, **environment: str
    ) -> int:
        """Start it, strike a process once a condition holds and a random moment has passed.

        Args:
            when: the condition.
            whom: what the command line of the process holds; empty for the driver itself.
            number: of the signal.
            seed: of the moment.
            environment: more variables.

        Returns:
            The exit code.
        """
        process = start(self.words, self.log, **environment)
        self.seen.add(process.pid)
        until = time.monotonic() + GENEROUS_S
        while not when():
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)
        time.sleep(random.Random(seed).random())
        family = descendants(process.pid)
        self.seen |= family.keys()
        found = [pid for pid, words in sorted(family.items()) if whom in words]
        target = random.Random(seed).choice(found) if whom else process.pid
        os.kill(target, number)
        return process.wait(GENEROUS_S)

    def resume(self, **environment: str) -> int:
        """Go on until it has ended; return the exit code."""
        words = [self.words[0], "--out", str(self.run), "--resume"]
        return finish(words, self.log, **environment)

    def leftovers(self) -> list[str]:
        """Return processes and files that should have gone, after a moment of grace."""
        until = time.monotonic() + 60
        while time.monotonic() < until and self._alive():
            time.sleep(0.5)
        files = [str(path) for pattern in LEFT for path in self.run.rglob(pattern)]
        return files + self._alive()

    def _alive(self) -> list[str]:
        return [f"process {pid}" for pid in sorted(self.seen) if Path(f"/proc/{pid}/exe").exists()]


def weights_of(run: Path) -> dict[str, bytes]:
    """Return the final weights, byte for byte."""
    weights = load_file(run / "model.safetensors")
    return {name: value.numpy().tobytes() for name, value in weights.items()}


def steps_of(run: Path) -> list[tuple[object, ...]]:
    """Return what was logged, without numbers and times.

    How far the feature store was is left out: one that is whole is not told again.
    """
    keys, untold = ("stage", "step", "kind", "split"), {"damaged", "features"}
    return [tuple(r.get(key) for key in keys) for r in read_metrics(run) if r["kind"] not in untold]


def can_mount() -> bool:
    """Say whether a small disk can be made, for which one must be root."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


class SmallDisk:
    """A disk of so many bytes in memory, which can grow."""

    def __init__(self, folder: Path, num_bytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._mount(f"size={num_bytes}", "none")

    def _mount(self, options: str, *words: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, *words, str(self.folder)]
        subprocess.run(command, check=True)

    def grow(self, num_bytes: int) -> None:
        """Make room."""
        self._mount(f"remount,size={num_bytes}", "none")

    def remove(self) -> None:
        """Let it go."""
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}
