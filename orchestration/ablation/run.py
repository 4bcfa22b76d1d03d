"""Running a whole table: its folder, its data, its jobs, its files."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestration.ablation.changes import refuse_difference
from orchestration.ablation.outcome import Result, read_result
from orchestration.ablation.plan import Job, Key, check_manifests, choose, plan, share_out
from orchestration.ablation.schedule import Schedule
from orchestration.ablation.summary import as_json
from orchestration.ablation.table import Table, read_table
from orchestration.ablation.work import Workshop, remove_features
from orchestration.ablation.writing import write_table
from zoo.errors import ConfigError, TrainingError
from zoo.experiments.lock import interruptible, locked
from zoo.experiments.process import spawn, stop
from zoo.training.resources import Resources
from zoo.training.run_folder import make_writable

TABLE, MAKE_LOG = "table.yaml", "make.txt"
REFRESH_S = 0.25
START_GAP_S = 8.0  # two Rays that start at the same moment may take the same ports


@dataclass(frozen=True)
class Options:
    """How a table is run.

    Attributes:
        jobs: trainings at a time.
        seeds: only the first so many.
        only: only these variants, and what they start from.
        resources: of every training.
    """

    jobs: int = 1
    seeds: int | None = None
    only: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)


class Watcher:
    """Is told how an ablation goes; this one keeps silent."""

    def say(self, line: str) -> None:
        """Tell what happens."""

    def watch(self, schedule: Schedule, ended: list[Result]) -> None:
        """Look at how far the jobs are, a few times per second, and at what has just ended."""


@dataclass
class Ablation:
    """A table with its jobs, ready to be run.

    Attributes:
        table: what is compared.
        out: folder of everything.
        all_jobs: of the whole table.
        jobs: those that were asked for.
        options: how to run them.
        results: of the jobs that have ended, whether asked for or not.
    """

    table: Table
    out: Path
    all_jobs: list[Job]
    jobs: list[Job]
    options: Options
    results: dict[Key, Result]

    @property
    def failures(self) -> list[Result]:
        """Results of the jobs that failed."""
        found = (self.results.get(job.key) for job in self.jobs)
        return [result for result in found if result is not None and not result.is_done]

    def write(self) -> list[Path]:
        """Write the files of the table as far as it is known."""
        return write_table(self.table, self.all_jobs, self.results, self.out)

    def as_json(self) -> dict[str, Any]:
        """Return everything there is to know, ready for JSON."""
        return as_json(self.table, self.all_jobs, self.results)


def open_ablation(path: Path | None, out: Path, options: Options, *, resume: bool) -> Ablation:
    """Read a table, check it against its folder and resolve its jobs; nothing is written.

    Raises:
        ZooError: whatever is wrong with the table or the folder, in one sentence.
    """
    out = out.absolute()
    kept = out / TABLE
    if resume and not kept.exists():
        raise TrainingError(f"there is no ablation to resume in {out}: it has no {TABLE}")
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(
            f"{out} exists and is not empty; take another --out, or go on with --resume"
        )
    if path is None and not resume:
        raise ConfigError("say which table: zoo ablate TABLE.yaml --out OUT")
    table = read_table(kept if path is None else path)
    if resume and path is not None:
        refuse_difference(read_table(kept), table, out)
    shared = share_out(options.resources, options.jobs)
    all_jobs = plan(table, out, shared)
    chosen = choose(all_jobs, table, options.seeds, options.only)
    jobs = [job for job in all_jobs if job.key in chosen]
    check_manifests(table, out, {job.key.data for job in jobs})
    found = {job.key: result for job in all_jobs if (result := read_result(job)) is not None}
    retried = {key for key in chosen if key in found and not found[key].is_done}
    results = {key: result for key, result in found.items() if key not in retried}
    return Ablation(table, out, all_jobs, jobs, options, results)


def run_ablation(ablation: Ablation, watcher: Watcher) -> None:
    """Make the data, run the jobs and write the table after every one.

    Raises:
        ZooError: if data cannot be made.
        KeyboardInterrupt: after Ctrl-C, when all that was at work has ended.
    """
    make_writable(ablation.out)
    with locked(ablation.out) as lock, interruptible():
        ablation.table.write(ablation.out / TABLE)
        _make_data(ablation, watcher, lock.fileno())
        options = ablation.options
        resources = share_out(options.resources, options.jobs)
        shop = Workshop(ablation.table.evaluate, resources, options.jobs, lock.fileno())
        wanted = {job.key for job in ablation.jobs}
        schedule = Schedule(
            ablation.jobs,
            shop.start,
            options.jobs,
            gap_s=START_GAP_S,
            results={key: found for key, found in ablation.results.items() if key in wanted},
        )
        ablation.write()
        try:
            _work(ablation, schedule, watcher)
        except BaseException:
            stop(schedule.at_work.values())
            raise


def _work(ablation: Ablation, schedule: Schedule, watcher: Watcher) -> None:
    while True:
        ended = schedule.step()
        if ended:
            ablation.results |= {result.key: result for result in ended}
            ablation.write()
            _forget_features(ablation, schedule)
        watcher.watch(schedule, ended)
        if schedule.is_over:
            return
        time.sleep(REFRESH_S)


def _forget_features(ablation: Ablation, schedule: Schedule) -> None:
    """Remove the feature stores that no job of the table will read any more."""
    for job in ablation.jobs:
        ended = schedule.results.get(job.key)
        if ended is not None and ended.is_done and not schedule.is_needed(job.key):
            remove_features(job)


def _make_data(ablation: Ablation, watcher: Watcher, lock: int) -> None:
    """Make the manifests that are not there yet."""
    table, out = ablation.table, ablation.out
    used = {job.key.data for job in ablation.jobs}
    for name in used:
        make, manifest = table.data[name].make, table.manifest_of(name, out)
        if make is None or manifest.exists():
            continue
        watcher.say(f"making {name}: zoo {make}")
        process = spawn(shlex.split(make), out / MAKE_LOG, lock, folder=out)
        try:
            while process.is_alive:
                time.sleep(REFRESH_S)
        except BaseException:
            stop([process])
            raise
        where = f"{table.path}: 'data.{name}.make'"
        if process.code:
            raise TrainingError(f"{where}: {process.reason()}")
        if not manifest.exists():
            raise TrainingError(f"{where} ended well, but there is no {manifest}")
    check_manifests(table, out, used)


def run_table(
    path: Path | str | None,
    out: Path | str,
    *,
    resume: bool = False,
    jobs: int = 1,
    seeds: int | None = None,
    only: tuple[str, ...] = (),
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Train and evaluate the variants of a table; what ``zoo ablate`` does, without its words.

    Args:
        path: the table; None takes the copy in ``out`` when resuming.
        out: folder for runs and results.
        resume: go on with an ablation in ``out``; jobs that have ended are not repeated.
        jobs: trainings at a time.
        seeds: only the first so many seeds.
        only: only these variants, and what they start from.
        resources: of every training; by default one worker on this machine.

    Returns:
        What ``table.json`` holds: per variant and data set mean and sample standard deviation over
        seeds, and the result of every job, failed ones included.

    Raises:
        ZooError: if the table cannot be used; a job that fails is part of the result instead.
    """
    options = Options(jobs, seeds, tuple(only), resources or Resources())
    given = None if path is None else Path(path)
    ablation = open_ablation(given, Path(out), options, resume=resume)
    run_ablation(ablation, Watcher())
    return ablation.as_json()
