"""Ablations: named variants of a recipe, trained and evaluated alike, in one table."""

from __future__ import annotations

import shlex
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, TrainingError, option
from zoo.experiments.ablation_jobs import JobResult, JobStarter, Schedule
from zoo.experiments.ablation_page import ResultTable
from zoo.experiments.ablation_plan import Job, Key, check_manifests, choose, plan, share_out
from zoo.experiments.ablation_table import Table, read_table
from zoo.experiments.lock import interruptible, locked
from zoo.experiments.overview import Experiment, RunAtWork, Watcher
from zoo.experiments.process import resume_command, spawn, stop
from zoo.experiments.results import read_result
from zoo.training.job import FEATURES_FOLDER
from zoo.training.request import first_difference
from zoo.training.resources import Resources
from zoo.training.run_folder import make_writable, refuse_filled

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

    @property
    def as_typed(self) -> dict[str, object]:
        """The options by their names."""
        names = ("workers", "cpus_per_worker", "gpus_per_worker", "address")
        own = {"jobs": self.jobs, "seeds": self.seeds, "only": self.only}
        return own | {name: getattr(self.resources, name) for name in names}


@dataclass
class Ablation(Experiment):
    """A table with its jobs, ready to be run.

    Attributes:
        table: what is compared.
        out: folder of everything.
        options: how to run them.
        all_jobs: of the whole table.
        jobs: those that were asked for.
        results: of the jobs that have ended, whether asked for or not.
    """

    unit = "job"
    table: Table
    out: Path
    options: Options
    all_jobs: list[Job] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    results: dict[Key, JobResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.title, self.limit = self.table.title, self.options.jobs

    def resolve(self) -> None:
        """Find the jobs of the table and what is known of them.

        Raises:
            ZooError: naming what does not fit.
        """
        options = self.options
        self.all_jobs = plan(self.table, self.out, share_out(options.resources, options.jobs))
        chosen = choose(self.all_jobs, self.table, options.seeds, options.only)
        self.jobs = [job for job in self.all_jobs if job.key in chosen]
        check_manifests(self.table, self.out, {job.key.data for job in self.jobs})
        found = {job.key: read_result(job.folder, JobResult) for job in self.all_jobs}
        self.results = {
            key: result
            for key, result in found.items()
            if result is not None and (result.is_done or key not in chosen)  # others are retried
        }

    @property
    def total(self) -> int:
        """Jobs that were asked for."""
        return len(self.jobs)

    @property
    def waiting(self) -> Counter[str]:
        """Variants of the jobs that have not ended."""
        return Counter(job.key.variant for job in self.jobs if job.key not in self.results)

    @property
    def failures(self) -> dict[str, str]:
        """Jobs that failed, and why."""
        found = [self.results[job.key] for job in self.jobs if job.key in self.results]
        return {str(r.key): r.reason or "" for r in found if not r.is_done}

    @property
    def known(self) -> ResultTable:
        """The table as far as it is known."""
        return ResultTable(self.table, self.all_jobs, self.results)

    @property
    def resume_command(self) -> str:
        """The command that goes on in the same way."""
        return resume_command("ablate", self.out, self.options.as_typed, Options().as_typed)

    def run(self, watcher: Watcher) -> bool:
        """Make the data, run the jobs and write the table after every one."""
        make_writable(self.out)
        with locked(self.out) as lock, interruptible():
            self.table.write(self.out / TABLE)
            if _make_data(self, watcher, lock.fileno()):
                self.resolve()  # tasks may find in the clips what they are about
            options, wanted = self.options, {job.key for job in self.jobs}
            resources = share_out(options.resources, options.jobs)
            starter = JobStarter(self.table.evaluate, resources, options.jobs, lock.fileno())
            results = {key: found for key, found in self.results.items() if key in wanted}
            schedule = Schedule(
                self.jobs, starter.start, options.jobs, gap_s=START_GAP_S, results=results
            )
            self.write()
            try:
                _work(self, schedule, watcher)
            except BaseException:
                stop(schedule.at_work.values())
                raise
            return True


def open_ablation(path: Path | None, out: Path, options: Options, *, resume: bool) -> Ablation:
    """Read a table, check it against its folder and resolve its jobs; nothing is written.

    Raises:
        ZooError: whatever is wrong with the table or the folder, in one sentence.
    """
    out = out.absolute()
    kept = out / TABLE
    if resume and not kept.exists():
        raise TrainingError(f"there is no ablation to resume in {out}: it has no {TABLE}")
    if not resume:
        refuse_filled(out)
    if path is None and not resume:
        raise ConfigError("say which table: zoo ablate TABLE.yaml")
    table = read_table(kept if path is None else path)
    if resume and path is not None:
        refuse_difference(read_table(kept), table, out)
    ablation = Ablation(table, out, options)
    ablation.resolve()
    return ablation


# --- what may change in a table that has begun ---


def refuse_difference(old: Table, new: Table, out: Path) -> None:
    """Refuse a table that changes what was begun; variants, seeds and data sets may be added.

    Raises:
        ConfigError: naming the first difference.
    """
    difference = _what_is_gone(old, new)
    if difference is None:
        difference = first_difference(_decisive(old, old, out), _decisive(new, old, out))
    if difference:
        raise ConfigError(
            f"{out} cannot go on with another table: {difference}; take another {option('out')}"
        )


def _what_is_gone(old: Table, new: Table) -> str | None:
    for kind, before, now in (
        ("variant", old.variants, new.variants),
        ("data set", old.data, new.data),
        ("seed", old.seeds, new.seeds),
    ):
        for name in before:
            if name not in now:
                return f"{kind} {name!r} is there, and not here"
    return None


def _decisive(table: Table, old: Table, out: Path) -> dict[str, Any]:
    """Return what decides the results of the variants and data sets of an older table."""
    data = {
        name: {**table.data[name].model_dump(), "manifest": str(table.manifest_of(name, out))}
        for name in old.data
    }
    variants = {}
    for name in old.variants:
        encoder = table.variants[name].encoder
        options = table.options_of(name).model_dump(mode="json")
        trained = {data_set: data_set in table.data_of(name) for data_set in old.data_of(name)}
        shown = None if encoder is None else encoder.model_dump()
        variants[name] = {"encoder": shown, **options, "data": trained}
    evaluate = table.evaluate.model_dump(mode="json")
    return {"data": data, "evaluate": evaluate, "variants": variants}


# --- running it ---


def _work(ablation: Ablation, schedule: Schedule, watcher: Watcher) -> None:
    while True:
        ended, begun = schedule.step()
        if ended:
            ablation.results |= {result.key: result for result in ended}
            ablation.write()
            _forget_features(ablation, schedule)
        for result in ended:
            job = next(job for job in schedule.jobs if job.key == result.key)
            told = outcome(job, result)
            watcher.ended(str(job.key), job.key.variant, told, is_done=result.is_done)
        for job in begun:
            run = partial(RunAtWork, job.run, job.recipe, job.stages)
            watcher.begins(str(job.key), job.key.variant, run)
        if schedule.is_over:
            return
        time.sleep(REFRESH_S)


def outcome(job: Job, result: JobResult) -> str:
    """Say how a job ended."""
    if not result.is_done:
        return f"failed: {result.reason}"
    scored = job.scored
    told = scored.describe({k: v for k, v in result.scores.items() if k in scored.rank})
    return f"{told} ({result.training.wall_s / 60:.1f} min of training)"


def _forget_features(ablation: Ablation, schedule: Schedule) -> None:
    """Remove the feature stores that no job of the table will read any more."""
    for job in ablation.jobs:
        ended = schedule.results.get(job.key)
        if ended is not None and ended.is_done and not schedule.is_needed(job.key):
            shutil.rmtree(job.run / FEATURES_FOLDER, ignore_errors=True)


def _make_data(ablation: Ablation, watcher: Watcher, lock: int) -> bool:
    """Make the manifests that are not there yet; say whether there was one."""
    table, out, has_made = ablation.table, ablation.out, False
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
        has_made = True
    return has_made


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
    ablation.run(Watcher())
    return ablation.known.as_json()
