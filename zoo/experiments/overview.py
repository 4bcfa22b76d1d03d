"""What an experiment says while it runs: what begins and ends, and on a terminal a live view."""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from zoo.cli.output import print_json
from zoo.experiments.result_tables import KnownTable, console_table, wide_console
from zoo.training.recipe import Recipe
from zoo.training.watch import MetricsTail, RunState, count

NOT_ALL, INTERRUPTED = 1, 130  # exit codes


class RunAtWork(NamedTuple):
    """A run that is trained now."""

    run: Path
    recipe: Recipe
    stages: tuple[int, ...]
    words: str = ""
    """Which of several runs of the same name it is."""


class Watcher:
    """Is told how an experiment goes; this one keeps silent."""

    def say(self, line: str) -> None:
        """Tell what happens."""

    def begins(self, name: str, kind: str, run: Callable[[], RunAtWork]) -> None:
        """Take note that a job or point begins.

        Args:
            name: of it.
            kind: others of the same kind take about as long.
            run: says what is trained at the moment.
        """

    def ended(self, name: str, kind: str, words: str, *, is_done: bool) -> None:
        """Take note of how a job or point ended, also if it never began."""


@dataclass
class _AtWork:
    kind: str
    run: Callable[[], RunAtWork]
    began: float = field(default_factory=time.monotonic)
    path: Path | None = None
    tail: MetricsTail | None = None
    state: RunState | None = None

    def phase(self) -> tuple[str, int, int]:
        """Return what is done, and how far it is."""
        now = self.run()
        if self.tail is None or self.state is None or self.path != now.run:
            self.path, self.tail = now.run, MetricsTail(now.run)
            self.state = RunState(now.recipe, now.run, now.stages)
        state = self.state
        state.follow(self.tail)
        if state.is_done_with(now.stages):
            return f"trained{now.words}", 0, 0
        for stage in (2, 1):
            done = state.steps.get(f"stage {stage}")
            if done is not None and stage in now.stages:
                return f"stage {stage}{now.words}", done, state.totals[f"stage {stage}"]
        return f"starting{now.words}", 0, 0


@dataclass
class Overview(Watcher):
    """Says what happens.

    Attributes:
        console: where.
        unit: what ends one by one: ``job``, ``point``.
        total: how many there are.
        waiting: kinds of those that have not ended, how many of each.
        limit: how many are at work at a time; None if that is not known.
    """

    console: Console
    unit: str
    total: int
    waiting: Counter[str]
    limit: int | None = None
    is_live: bool = False
    num_failed: int = 0
    at_work: dict[str, _AtWork] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of those that ended in this session, by kind."""

    @property
    def num_ended(self) -> int:
        """How many have ended."""
        return self.total - self.waiting.total()

    def say(self, line: str) -> None:
        """Tell what happens."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def begins(self, name: str, kind: str, run: Callable[[], RunAtWork]) -> None:
        """Say that a job or point begins, if it has not before."""
        if name not in self.at_work and not self.is_live:
            self.say(f"begins: {name}")
        self.at_work[name] = _AtWork(kind, run)

    def ended(self, name: str, kind: str, words: str, *, is_done: bool) -> None:
        """Say how a job or point ended."""
        found = self.at_work.pop(name, None)
        if found is not None and is_done:
            self.took.setdefault(kind, []).append(time.monotonic() - found.began)
        if self.waiting[kind]:
            self.waiting[kind] -= 1
        self.num_failed += not is_done
        self.say(f"[{self.num_ended}/{self.total}] {name}: {words}")

    def render(self) -> Group:
        """Return what is shown on a terminal."""
        grid, left = Grid.grid(padding=(0, 1)), self.seconds_left()
        told = "" if left is None else f"about {_duration(left)} left"
        bar = ProgressBar(self.total, self.num_ended, width=30)
        grid.add_row(f"{self.unit}s", bar, f"{self.num_ended}/{self.total}", told)
        for name, one in list(self.at_work.items()):
            phase, done, of = one.phase()
            bar = ProgressBar(of or None, done, width=30, pulse=not of)
            grid.add_row(escape(name), bar, f"{done}/{of}" if of else "", escape(phase))
        failed = f"{count(self.num_failed, self.unit)} failed" if self.num_failed else ""
        return Group(grid, Text(failed, style="red"))

    def seconds_left(self) -> float | None:
        """Estimate how long it takes yet, from what has ended: of the same kind if any."""
        everything = [seconds for times in self.took.values() for seconds in times]
        if not everything or self.limit is None:
            return None
        mean = {kind: statistics.fmean(self.took.get(kind, everything)) for kind in self.waiting}
        total = sum(number * mean[kind] for kind, number in self.waiting.items())
        now = time.monotonic()
        for one in list(self.at_work.values()):
            total -= min(mean.get(one.kind, 0.0), now - one.began)
        return max(0.0, total) / self.limit

    @contextmanager
    def shown(self) -> Iterator[Watcher]:
        """Show a live view while this lasts, if there is a terminal."""
        if not self.console.is_terminal:
            yield self
            return
        self.is_live = True
        with Live(
            get_renderable=self.render, console=self.console, refresh_per_second=2, transient=True
        ):
            yield self


def _duration(seconds: float) -> str:
    whole = round(seconds / 60)
    return f"{whole // 60} h {whole % 60} min" if whole >= 60 else f"{max(1, whole)} min"


class Experiment(ABC):
    """Trainings that end one by one, with a table that is rewritten whenever one has."""

    unit: ClassVar[str]
    """What ends one by one: ``job``, ``point``."""
    title: str
    out: Path
    limit: int | None = None
    """How many are at work at a time; None if that is not known."""

    @property
    @abstractmethod
    def total(self) -> int:
        """How many there are."""

    @property
    @abstractmethod
    def waiting(self) -> Counter[str]:
        """Kinds of those that have not ended, how many of each."""

    @property
    @abstractmethod
    def known(self) -> KnownTable:
        """The table as far as it is known."""

    @property
    @abstractmethod
    def failures(self) -> dict[str, str]:
        """What failed, and why."""

    @property
    @abstractmethod
    def resume_command(self) -> str:
        """The command that goes on in the same way."""

    @property
    def closing(self) -> list[str]:
        """What else is said at the end."""
        return []

    @abstractmethod
    def run(self, watcher: Watcher) -> bool:
        """Run it to its end, and write its table whenever a training has ended.

        Returns:
            Whether all has ended; False if it was interrupted.

        Raises:
            ZooError: if it cannot be run.
            KeyboardInterrupt: if it was interrupted, when all that was at work has ended.
        """

    def write(self) -> list[Path]:
        """Write the files of the table as far as it is known."""
        return self.known.write(self.out)


def run_shown(experiment: Experiment, *, as_json: bool) -> int:
    """Run an experiment, say how it goes, print its table and return the exit code."""
    console, unit = wide_console(stderr=as_json), experiment.unit
    shown = Overview(console, unit, experiment.total, experiment.waiting, experiment.limit)
    going_on = f", {shown.num_ended} of them done already" if shown.num_ended else ""
    shown.say(f"{experiment.title}: {count(shown.total, unit)}{going_on}; {experiment.out}")
    try:
        with shown.shown() as watcher:
            is_over = experiment.run(watcher)
    except KeyboardInterrupt:
        is_over = False
    if not is_over:
        shown.say(f"interrupted; go on with: {experiment.resume_command}")
        return INTERRUPTED
    if as_json:
        print_json(experiment.known.as_json())
    else:
        header, rows = experiment.known.cells()
        console.print(console_table(experiment.title, header, rows, left=header[:1]))
        names = ", ".join(file.name for file in experiment.write())
        for line in (f"{names} in {experiment.out}", *experiment.closing):
            console.print(Text(line, overflow="fold"), highlight=False)
    failures = experiment.failures
    for name, reason in failures.items():
        console.print(Text(f"failed: {name}: {reason}", style="red"), soft_wrap=True)
    return NOT_ALL if failures else 0
