"""A job at work: ``zoo train``, then ``zoo evaluate``, as processes with a log."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from orchestration.ablation.outcome import (
    LOG,
    REPORT,
    Result,
    collect,
    failed,
    write_result,
)
from orchestration.ablation.plan import Job
from orchestration.ablation.table import EvaluateOptions
from zoo.errors import TrainingError
from zoo.experiments.finished_runs import is_trained, tidy
from zoo.experiments.process import Process, spawn
from zoo.experiments.train_options import option_words, training_words
from zoo.training.job import FEATURES_FOLDER
from zoo.training.resources import Resources, count_cpus


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
        return Working(self, job, source, self.next_of(job))

    def next_of(self, job: Job) -> Process:
        """Start what is next: training, or the evaluation of a run that has ended."""
        log = job.folder / LOG
        if not is_trained(job.run, max(job.stages)):
            return spawn(train_words(job, self.resources), log, self.lock)
        threads = max(1, count_cpus() // self.jobs) if self.jobs > 1 else 0
        return spawn(evaluate_words(job, self), log, self.lock, threads=threads)


@dataclass
class Working:
    """A job at work."""

    shop: Workshop
    job: Job
    source: Result | None
    process: Process
    has_broken_off: bool = False

    def poll(self) -> Result | None:
        """Return the result once there is one; go on to the evaluation when training has ended."""
        code = self.process.code
        if code is None:
            return None
        if self._may_go_on():
            self.has_broken_off = True
            self.process = self.shop.next_of(self.job)
            return None
        if code:
            return self._end(failed(self.job, self.process.reason()))
        if self.process.command == "train":
            self.process = self.shop.next_of(self.job)
            return None
        try:
            result = collect(self.job, self.source)
        except TrainingError as error:
            return self._end(failed(self.job, str(error)))
        tidy(self.job.run)
        return self._end(result)

    def interrupt(self) -> None:
        """Ask the process to end; what it has done so far stays."""
        self.process.interrupt()

    def kill(self) -> None:
        """End the process and all that it started."""
        self.process.kill()

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.is_alive

    def _may_go_on(self) -> bool:
        """Whether a training broke off, for the first time."""
        is_training = self.process.command == "train"
        return is_training and not self.has_broken_off and self.process.broke_off

    def _end(self, result: Result) -> Result:
        write_result(self.job, result)
        return result


def remove_features(job: Job) -> None:
    """Remove the feature store of a run, when no job that starts from it is left."""
    shutil.rmtree(job.run / FEATURES_FOLDER, ignore_errors=True)


def train_words(job: Job, resources: Resources) -> list[str]:
    """Return the command that trains a job, or goes on with its training."""
    return training_words(job.request, job.run, resources)


def evaluate_words(job: Job, shop: Workshop) -> list[str]:
    """Return the command that evaluates a job."""
    words = ["evaluate", str(job.run), "--out", str(job.folder / REPORT)]
    words += option_words("data", job.request.data)
    options = shop.evaluate
    for name in ("protocol", "offsets", "rounds", "split", "seed", "features"):
        words += option_words(name, getattr(options, name))
    device = options.device or ("cuda" if shop.resources.gpus_per_worker else None)
    words += option_words("device", device)
    return [*words, "--controls" if options.controls else "--no-controls"]
