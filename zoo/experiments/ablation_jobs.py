"""Jobs at work: ``zoo train``, then ``zoo evaluate``, as processes; which one is at work when."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import Field

from zoo.errors import TrainingError
from zoo.experiments.ablation_plan import Job, Key
from zoo.experiments.ablation_table import EvaluateOptions
from zoo.experiments.process import Process, Stoppable, option_words, spawn
from zoo.experiments.results import Result, scores_in, write_result
from zoo.experiments.run_cost import Cost, costs_of
from zoo.experiments.training_runs import is_trained, tidy, training_words
from zoo.training.resources import Resources, count_cpus
from zoo.training.runlog import read_metrics

REPORT = "report.json"


class JobResult(Result):
    """How a job ended; scores are those of the evaluated clips."""

    data: str
    variant: str
    chance: dict[str, float] = Field(default_factory=dict, description="what guessing scores")
    num_clips: int | None = Field(None, description="clips evaluated")
    rounds: int | None = Field(None, description="samples per clip")
    stage1: Cost = Cost()
    stage2: Cost = Cost()
    stage1_steps: int = 0
    stage2_steps: int = 0
    parameters: int = 0

    @property
    def key(self) -> Key:
        """Which job this is."""
        return Key(self.data, self.variant, self.seed)

    @property
    def training(self) -> Cost:
        """All training that this result took."""
        return self.stage1 + self.stage2 + self.encoder


def failed(job: Job, reason: str) -> JobResult:
    """Return the result of a job that failed."""
    return JobResult(**job.key._asdict(), status="failed", reason=reason)


def collect(job: Job, source: JobResult | None) -> JobResult:
    """Read the result of a job that was trained and evaluated.

    Args:
        job: which.
        source: result of the job whose encoder it started from.

    Raises:
        TrainingError: if its report is missing or damaged.
    """
    task = job.recipe.task
    try:
        report = json.loads((job.folder / REPORT).read_text())
        scores, chance = (scores_in(report[name], job.scored) for name in ("pooled", "chance"))
        found = {name: report[name] for name in ("num_clips", "rounds")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"its report cannot be read: {error}") from None
    if not scores:
        what = f"the task '{task.name}'" if job.is_of_task else "the protocol"
        raise TrainingError(f"its report holds no score of {what}")
    records, costs = read_metrics(job.run), costs_of(job.run)
    return JobResult(
        **job.key._asdict(),
        status="done",
        scores=scores,
        chance=chance,
        **found,
        stage1=costs[1],
        stage2=costs[2],
        encoder=Cost() if source is None else _cost_of_start(source, has_head=task.fine_tunes),
        stage1_steps=_steps(records, 1),
        stage2_steps=_steps(records, 2),
        parameters=job.parameters,
    )


def _cost_of_start(source: JobResult, *, has_head: bool) -> Cost:
    """Return what the encoder of a job took: stage I, or all where that is not apart."""
    cost = source.stage1 + source.encoder
    return source.training if has_head or not cost.wall_s else cost


def _steps(records: list[dict[str, Any]], stage: int) -> int:
    return max((r["step"] for r in records if r["stage"] == stage), default=0)


# --- one job ---


@dataclass(frozen=True)
class JobStarter:
    """Starts jobs, and goes on with them.

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

    def start(self, job: Job, source: JobResult | None) -> JobAtWork:
        """Start a job or go on with it."""
        job.folder.mkdir(parents=True, exist_ok=True)
        return JobAtWork(self, job, source, self.next_of(job))

    def next_of(self, job: Job) -> Process:
        """Start what is next: training, or the evaluation of a run that has ended."""
        if not is_trained(job.run, max(job.stages)):
            return spawn(training_words(job.request, job.run, self.resources), job.log, self.lock)
        threads = max(1, count_cpus() // self.jobs) if self.jobs > 1 else 0
        words = evaluate_words(job, self.evaluate, self.resources)
        return spawn(words, job.log, self.lock, threads=threads)


@dataclass
class JobAtWork:
    """A job at work."""

    starter: JobStarter
    job: Job
    source: JobResult | None
    process: Process
    has_broken_off: bool = False

    def poll(self) -> JobResult | None:
        """Return the result once there is one; go on to the evaluation when training has ended."""
        code = self.process.code
        if code is None:
            return None
        if self._may_go_on():
            self.has_broken_off = True
            self.process = self.starter.next_of(self.job)
            return None
        if code:
            return self._end(failed(self.job, self.process.reason()))
        if self.process.command == "train":
            self.process = self.starter.next_of(self.job)
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

    def _end(self, result: JobResult) -> JobResult:
        return write_result(self.job.folder, result)


def evaluate_words(job: Job, options: EvaluateOptions, resources: Resources) -> list[str]:
    """Return the command that evaluates a job."""
    given = options.model_dump(exclude={"controls"})
    given["device"] = options.device or ("cuda" if resources.gpus_per_worker else None)
    given = {"out": job.folder / REPORT, "data": job.request.data, **given}
    controls = "--controls" if options.controls else "--no-controls"
    return ["evaluate", str(job.run), *option_words(given), controls]


# --- all of them ---


class AtWork(Stoppable, Protocol):
    """A job at work; see `JobAtWork`."""

    def poll(self) -> JobResult | None:
        """Return the result once there is one."""


@dataclass
class Schedule:
    """The jobs of an ablation and how far they are.

    Attributes:
        jobs: all, in order, each after the one it starts from.
        start: starts a job, given the result of the one whose encoder it starts from.
        limit: jobs at work at a time.
        gap_s: seconds between the starts of two jobs that are at work at the same time.
        results: of the jobs that have ended.
        at_work: the jobs that have begun.
    """

    jobs: list[Job]
    start: Callable[[Job, JobResult | None], AtWork]
    limit: int = 1
    gap_s: float = 0.0
    results: dict[Key, JobResult] = field(default_factory=dict)
    at_work: dict[Key, AtWork] = field(default_factory=dict)
    last_start: float = -math.inf

    @property
    def waiting(self) -> list[Job]:
        """Jobs that have not begun."""
        return [j for j in self.jobs if j.key not in self.results and j.key not in self.at_work]

    @property
    def is_over(self) -> bool:
        """Whether every job has ended."""
        return not self.at_work and not self.waiting

    def step(self) -> tuple[list[JobResult], list[Job]]:
        """Take in what has ended, start what can be; return the new results and what began."""
        ended, begun = [], []
        for key, working in list(self.at_work.items()):
            result = working.poll()
            if result is not None:
                del self.at_work[key]
                ended.append(result)
        self.results |= {result.key: result for result in ended}
        ended += self._without_encoder()
        for job in self.waiting:
            is_soon = bool(self.at_work) and time.monotonic() < self.last_start + self.gap_s
            if len(self.at_work) >= self.limit or is_soon:
                break
            source = None if job.source is None else self.results.get(job.source)
            if job.source is None or source is not None:
                self.at_work[job.key] = self.start(job, source)
                self.last_start = time.monotonic()
                begun.append(job)
        return ended, begun

    def _without_encoder(self) -> list[JobResult]:
        """Give up the jobs whose encoder could not be trained."""
        lost = []
        for job in self.waiting:
            source = None if job.source is None else self.results.get(job.source)
            if source is not None and not source.is_done:
                result = failed(job, f"the job whose encoder it starts from failed: {source.key}")
                self.results[job.key] = result
                lost.append(result)
        return lost

    def is_needed(self, key: Key) -> bool:
        """Whether a job that has not ended starts from this one."""
        return any(job.source == key and job.key not in self.results for job in self.jobs)
