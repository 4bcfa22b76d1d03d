"""Progress that people like to watch: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from zoo.training.job import Job
from zoo.training.watch import MetricsTail, RunState, count, describe

STARTING = "Ray is starting the workers (10 to 30 seconds)"


@dataclass
class Display:
    """Shows the state of a run and prints what there is to say about it."""

    state: RunState
    tail: MetricsTail
    console: Console
    live: Live | None = None
    bars: Progress | None = None
    tasks: dict[str, Any] = field(default_factory=dict)
    status: Text = field(default_factory=Text)

    def catch_up(self) -> None:
        """Read what an earlier start of the run has done, without telling it again."""
        self.state.follow(self.tail)

    def refresh(self) -> None:
        """Read what is new and show it."""
        for line in self.state.follow(self.tail):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        if self.bars is not None:
            self._move_bars(self.bars)

    def _move_bars(self, bars: Progress) -> None:
        state = self.state
        for phase, done in state.steps.items():
            if phase not in self.tasks:
                self.tasks[phase] = bars.add_task(phase, total=None)
            bars.update(self.tasks[phase], completed=done, total=state.totals[phase])
        if not state.steps:
            self.status.plain = STARTING
            return
        stage = 2 if "stage 2" in state.steps else 1
        info = state.info.get(f"stage {stage}", "")
        is_over = state.steps.get(f"stage {stage}") == state.totals[f"stage {stage}"]
        self.status.plain = info + ("" if is_over else state.plateau(stage))


@contextmanager
def display(job: Job, workers: int, threads: int, console: Console) -> Iterator[Display]:
    """Show a run while it trains."""
    shown = Display(RunState(job.recipe, job.run, job.stages), MetricsTail(job.run), console)
    for line in opening(job, workers, threads, shown.state):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.print(STARTING)
        yield shown
        shown.refresh()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown.bars = Progress(*columns, console=console)
    with Live(Group(shown.bars, shown.status), console=console, refresh_per_second=4) as live:
        shown.live = live
        yield shown
        shown.refresh()
        shown.status.plain = ""


def opening(job: Job, workers: int, threads: int, state: RunState) -> list[str]:
    """Say what is trained on what, and what guessing would score."""
    model, guess = job.recipe.model, state.guess
    assert model.head is not None
    names = f"{model.audio.extractor.name} + {model.vision.extractor.name}, head {model.head.name}"
    lines = [
        f"{names} ({job.recipe.preset}), stage {' and '.join(map(str, job.stages))}, "
        f"{count(workers, 'worker')} x {count(threads, 'thread')}; data: {job.manifest}"
    ]
    if 1 in job.stages:
        lines.append(
            f"chance in stage 1: loss ln {job.recipe.stage1.clips * job.recipe.stage1.num_segments}"
            f" = {state.guess1:.2f}"
        )
    if 2 in job.stages:
        num = round(math.exp(guess.cross_entropy))
        told = describe(guess.as_dict())
        lines.append(f"chance in stage 2: loss ln {num} = {guess.cross_entropy:.2f}, {told}")
    return lines


def summary(job: Job, state: RunState, pictures: list[Path], seconds: float) -> Group:
    """Return the closing table: what was reached, where it is, what to type next."""
    is_offset = state.goal.task == "offset"
    names = ("exact", "+-1 class", "mean error") if is_offset else ("right", "cross-entropy")
    table = Table("", *names, title="Result", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    scored = "the clips it trained on" if job.recipe.overfit else "valid"
    for name, scores in (
        ("sliding check (features, no head)", state.sliding if is_offset else None),
        (f"head on {scored}, best", state.valid),
        ("chance", state.guess.as_dict()),
    ):
        if scores is not None:
            table.add_row(name, *_cells(scores))
    lines = [f"model folder: {job.run}  ({seconds / 60:.1f} minutes)"]
    if pictures:
        lines.append(f"pictures: {pictures[0].parent} ({', '.join(p.name for p in pictures)})")
    lines += left_out(job.run)
    lines.append(f"next: {next_command(job)}")
    texts = [Text(line, overflow="fold") for line in lines]
    return Group(table, *texts) if table.row_count > 1 else Group(*texts)


def _cells(scores: dict[str, Any]) -> list[str]:
    accuracy = f"{scores['accuracy']:.1%}"
    if "within_one" not in scores:
        return [accuracy, f"{scores['cross_entropy']:.3f}"]
    return [accuracy, f"{scores['within_one']:.1%}", f"{scores['mean_abs_error_s']:.2f} s"]


def left_out(run: Path) -> list[str]:
    """Say how many clips could not be read and where their reasons are."""
    from zoo.training.runlog import QUARANTINE, read_quarantine

    clips = read_quarantine(run)
    if not clips:
        return []
    return [f"left out: {count(len(clips), 'clip')} that could not be read, see {run / QUARANTINE}"]


def next_command(job: Job) -> str:
    """Return the command that one would type after this run."""
    if 2 not in job.stages:
        return f"zoo train --stage 2 --init {job.run} --data {job.manifest} --out NEW_RUN"
    return f"zoo evaluate {job.run} --data {job.manifest} --split valid"
