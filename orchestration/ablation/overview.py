"""What ``zoo ablate`` shows: jobs done, at work, waiting; a live view on a terminal."""

from __future__ import annotations

import shlex
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from orchestration.ablation.outcome import Result
from orchestration.ablation.plan import Job, Key
from orchestration.ablation.run import Ablation, Options, Watcher
from orchestration.ablation.schedule import Schedule
from orchestration.ablation.summary import planned_steps, summarise
from orchestration.ablation.writing import cells_of, write_table
from zoo.experiments.process import program_words
from zoo.training.resources import Resources
from zoo.training.watch import MetricsTail, RunState, count


@dataclass
class _Followed:
    """A job at work: how far its run is."""

    job: Job
    state: RunState
    tail: MetricsTail
    began: float = field(default_factory=time.monotonic)

    @property
    def phase(self) -> tuple[str, int, int]:
        """What it does, and how far it is."""
        self.state.follow(self.tail)
        if self.state.is_done_with(self.job.stages):
            return "evaluation", 0, 0
        for stage in (2, 1):
            done = self.state.steps.get(f"stage {stage}")
            if done is not None and stage in self.job.stages:
                return f"stage {stage}", done, self.state.totals[f"stage {stage}"]
        return "starting", 0, 0


@dataclass
class Overview(Watcher):
    """Follows a schedule and says what happens."""

    ablation: Ablation
    console: Console
    live: Live | None = None
    followed: dict[Key, _Followed] = field(default_factory=dict)
    took: dict[Key, float] = field(default_factory=dict)
    """Seconds of the jobs that ended in this session."""

    def watch(self, schedule: Schedule, ended: list[Result]) -> None:
        """Take in what is new and show it."""
        for number, result in enumerate(ended, len(schedule.results) - len(ended) + 1):
            followed = self.followed.pop(result.key, None)
            if followed is not None and result.is_done:
                self.took[result.key] = time.monotonic() - followed.began
            self.say(self._outcome(result, number))
        by_key = {job.key: job for job in schedule.jobs}
        for key in schedule.at_work:
            if key not in self.followed:
                job = by_key[key]
                state = RunState(job.recipe, job.run, job.stages)
                self.followed[key] = _Followed(job, state, MetricsTail(job.run))
                if self.live is None:
                    self.say(f"begins: {key}")
        if self.live is not None:
            self.live.update(self._picture(schedule))

    def say(self, line: str) -> None:
        """Tell what happens."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _outcome(self, result: Result, number: int) -> str:
        head = f"[{number}/{len(self.ablation.jobs)}] {result.key}: "
        if not result.is_done:
            return f"{head}failed: {result.reason}"
        assert result.exact is not None
        assert result.within_one is not None
        return (
            f"{head}exact {result.exact:.1%}, ±1 class {result.within_one:.1%} "
            f"({result.training.wall_s / 60:.1f} min of training)"
        )

    def _picture(self, schedule: Schedule) -> Group:
        total, ended = len(schedule.jobs), len(schedule.results)
        grid = Grid.grid(padding=(0, 1))
        left = self.seconds_left(schedule)
        told = "" if left is None else f"about {_duration(left)} left"
        grid.add_row("jobs", ProgressBar(total, ended, width=30), f"{ended}/{total}", told)
        for key, followed in self.followed.items():
            if key in schedule.at_work:
                phase, done, of = followed.phase
                steps = f"{done}/{of}" if of else ""
                bar = ProgressBar(of or None, done, width=30, pulse=not of)
                grid.add_row(escape(str(key)), bar, steps, phase)
        failed = sum(not result.is_done for result in schedule.results.values())
        return Group(grid, Text(f"{count(failed, 'job')} failed", style="red") if failed else "")

    def seconds_left(self, schedule: Schedule) -> float | None:
        """Guess how long it takes yet, from the jobs that ended: of the same variant if any."""
        if not self.took:
            return None
        now, left = time.monotonic(), 0.0
        for job in schedule.jobs:
            if job.key in schedule.results:
                continue
            alike = [s for key, s in self.took.items() if key.variant == job.key.variant]
            guess = statistics.fmean(alike or self.took.values())
            followed = self.followed.get(job.key)
            left += guess if followed is None else max(0.0, guess - (now - followed.began))
        return left / schedule.limit


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"


@contextmanager
def overview(ablation: Ablation, console: Console) -> Iterator[Watcher]:
    """Show an ablation while it runs."""
    shown = Overview(ablation, console)
    done = sum(job.key in ablation.results for job in ablation.jobs)
    going_on = f", {done} of them done already" if done else ""
    line = f"{ablation.table.title}: {count(len(ablation.jobs), 'job')}{going_on}; {ablation.out}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        yield shown
        return
    with Live(console=console, refresh_per_second=4) as live:
        shown.live = live
        yield shown
        live.update("")


def closing(ablation: Ablation) -> Group:
    """Return the table for the terminal, and where its files are."""
    rows = summarise(ablation.table, ablation.all_jobs, ablation.results)
    header, lines = cells_of(ablation.table, rows, ablation.all_jobs)
    grid = Grid(title=escape(ablation.table.title), title_justify="left")
    for column in header:
        grid.add_column(column, justify="left" if column == "variant" else "right")
    for line in lines:
        grid.add_row(*map(escape, line), style="dim" if line[0] == "chance" else None)
    files = write_table(ablation.table, ablation.all_jobs, ablation.results, ablation.out)
    names = ", ".join(file.name for file in files)
    return Group(grid, Text(f"{names} in {ablation.out}", overflow="fold"))


def resume_command(out: Path, options: Options) -> str:
    """Return the command that goes on with an ablation in the same way."""
    words = [*program_words(), "ablate", "--out", str(out), "--resume"]
    given, usual = options.resources, Resources()
    pairs = {
        "--jobs": (options.jobs, 1),
        "--seeds": (options.seeds, None),
        "--workers": (given.workers, usual.workers),
        "--cpus-per-worker": (given.cpus_per_worker, usual.cpus_per_worker),
        "--gpus-per-worker": (given.gpus_per_worker, usual.gpus_per_worker),
        "--address": (given.address, usual.address),
    }
    for option, (value, default) in pairs.items():
        if value != default:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    for name in options.only:
        words += ["--only", name]
    return shlex.join(words)


def plan_rows(ablation: Ablation) -> list[dict[str, Any]]:
    """Return what every job is about."""
    rows = []
    for job in ablation.jobs:
        model = job.recipe.model
        assert model.head is not None
        result = ablation.results.get(job.key)
        rows.append(
            {
                **job.key._asdict(),
                "extractor": f"{model.audio.extractor.name} + {model.vision.extractor.name}",
                "head": model.head.name,
                "steps": planned_steps(job),
                "parameters": job.parameters,
                "starts_from": _start(job),
                "state": "to do" if result is None else result.status,
                "folder": str(job.folder),
            }
        )
    return rows


def _start(job: Job) -> str | None:
    if job.source is not None:
        where = "" if job.source.data == job.key.data else f" on {job.source.data}"
        return f"towers of {job.source.variant}{where}"
    return None if job.request.init is None else ", ".join(job.request.init)


def plan_table(rows: list[dict[str, Any]], title: str) -> Grid:
    """Return the jobs as a table for the terminal: those that differ in nothing but seed in one."""
    grid = Grid(title=escape(title), title_justify="left")
    for column in ("data", "variant", "extractors, head", "steps", "starts from", "seeds", "to do"):
        grid.add_column(column, no_wrap=column in {"steps", "seeds"})
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault((row["data"], row["variant"]), []).append(row)
    for (data, variant), jobs in alike.items():
        steps = " + ".join(str(value) for value in jobs[0]["steps"].values())
        seeds = ", ".join(str(row["seed"]) for row in jobs)
        left = sum(row["state"] != "done" for row in jobs)
        model = f"{jobs[0]['extractor']}, {jobs[0]['head']}"
        start = jobs[0]["starts_from"] or "scratch"
        grid.add_row(*map(escape, (data, variant, model, steps, start, seeds, str(left))))
    return grid
