"""A job at work: ``zoo train``, then ``zoo evaluate``, as processes with a log."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.ablation.outcome import (
    LOG,
    REPORT,
    Result,
    collect,
    failed,
    is_trained,
    reason_in,
    write_result,
)
from orchestration.ablation.plan import Job
from orchestration.ablation.table import EvaluateOptions
from orchestration.cluster import Resources, count_cpus
from orchestration.driver import RAY_FOLDER
from orchestration.request import Request
from orchestration.run_folder import RECIPE, REQUEST
from zoo.errors import TrainingError
from zoo.training.run import CACHE_FOLDER, FEATURES_FOLDER

INTERRUPTED = 130


@dataclass(frozen=True)
class Workshop:
    """What all jobs have in common.

    Attributes:
        evaluate: options of ``zoo evaluate``.
        resources: of every job.
        jobs: how many are at work at a time.
        lock: descriptor that stays open in all processes of the ablation.
    """

    evaluate: EvaluateOptions
    resources: Resources
    jobs: int = 1
    lock: int | None = None

    def start(self, job: Job, source: Result | None) -> Working:
        """Start a job or go on with it."""
        job.folder.mkdir(parents=True, exist_ok=True)
        working = Working(self, job, source)
        working.advance()
        return working

    def spawn(self, words: list[str], log: Path, threads: int = 0) -> subprocess.Popen[bytes]:
        """Start a zoo command that writes into a log."""
        command = [sys.executable, "-m", "orchestration.ablation.child", str(os.getpid()), *words]
        environment = dict(os.environ)
        if threads:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        with log.open("ab") as stream:
            stream.write(f"\n$ {shlex.join(['zoo', *words])}\n".encode())
            stream.flush()
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[] if self.lock is None else [self.lock],
                start_new_session=True,  # Ctrl-C reaches us alone, and we pass it on
            )


@dataclass
class Working:
    """A job at work."""

    shop: Workshop
    job: Job
    source: Result | None
    process: subprocess.Popen[bytes] | None = None
    phase: str = ""
    started: float = field(default_factory=time.monotonic)
    log_start: int = 0

    def poll(self) -> Result | None:
        """Return the result once there is one; go on to the evaluation when training has ended."""
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return None
        if code:
            return self._end(failed(self.job, self._reason(code)))
        if self.phase == "train":
            self.advance()
            return None
        try:
            result = collect(self.job, self.source)
        except TrainingError as error:
            return self._end(failed(self.job, str(error)))
        self._tidy()
        return self._end(result)

    def advance(self) -> None:
        """Start what is next: training, or the evaluation of a run that has ended."""
        log = self.job.folder / LOG
        self.log_start = log.stat().st_size if log.exists() else 0
        threads = 0
        if is_trained(self.job):
            self.phase, words = "evaluate", evaluate_words(self.job, self.shop)
            threads = max(1, count_cpus() // self.shop.jobs) if self.shop.jobs > 1 else 0
        else:
            self.phase, words = "train", train_words(self.job, self.shop.resources)
        self.process = self.shop.spawn(words, log, threads)

    def interrupt(self) -> None:
        """Ask the process to end; what it has done so far stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process and all that it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    def _reason(self, code: int) -> str:
        log = self.job.folder / LOG
        told = reason_in(log, self.log_start)
        if told:
            return told
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"zoo {self.phase} ended with {how}; see {log}"

    def _end(self, result: Result) -> Result:
        write_result(self.job, result)
        return result

    def _tidy(self) -> None:
        """Remove what only a run that goes on needs."""
        for name in (CACHE_FOLDER, RAY_FOLDER):
            shutil.rmtree(self.job.run / name, ignore_errors=True)


def remove_features(job: Job) -> None:
    """Remove the feature store of a run, when no job that starts from it is left."""
    shutil.rmtree(job.run / FEATURES_FOLDER, ignore_errors=True)


def train_words(job: Job, resources: Resources) -> list[str]:
    """Return the command that trains a job, or goes on with its training."""
    words = ["train", "--out", str(job.run)]
    if _can_resume(job.run):
        words += ["--resume"]
    else:
        if job.run.exists():
            shutil.rmtree(job.run)  # broken off before anything was learnt
        words += request_words(job.request)
    words += ["--workers", str(resources.workers), "--address", resources.address]
    if resources.cpus_per_worker:
        words += ["--cpus-per-worker", str(resources.cpus_per_worker)]
    if resources.gpus_per_worker:
        words += ["--gpus-per-worker", f"{resources.gpus_per_worker:g}"]
    return words


def _can_resume(run: Path) -> bool:
    try:
        json.loads((run / RECIPE).read_text())
        json.loads((run / REQUEST).read_text())
    except (OSError, ValueError):
        return False
    return True


def request_words(request: Request) -> list[str]:
    """Write a request as options of ``zoo train``."""
    words = []
    for name in ("extractor", "data", "head", "aggregator", "objective", "stage", "init"):
        words += _option(name, getattr(request, name))
    for name in ("init_positions", "preset", "features", "overfit", "seed"):
        words += _option(name, getattr(request, name))
    return words + _option("set", request.settings)


def _option(name: str, value: object) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (f"--{name.replace('_', '-')}", str(one))]


def evaluate_words(job: Job, shop: Workshop) -> list[str]:
    """Return the command that evaluates a job."""
    words = ["evaluate", str(job.run), "--out", str(job.folder / REPORT)]
    words += _option("data", job.request.data)
    options = shop.evaluate
    for name in ("protocol", "offsets", "rounds", "split", "seed", "features"):
        words += _option(name, getattr(options, name))
    device = options.device or ("cuda" if shop.resources.gpus_per_worker else None)
    words += _option("device", device)
    return [*words, "--controls" if options.controls else "--no-controls"]
