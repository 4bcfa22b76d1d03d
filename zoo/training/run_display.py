"""Progress that people like to watch: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

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
from zoo.training.watch import MetricsTail, RunState, count

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
        self.status.plain = info + ("" if is_over else state.at_chance(stage))


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
    """Say what is trained on what, and what chance is."""
    model = job.recipe.model
    assert model.head is not None
    lines = [
        f"{model.encoder_title}, head {model.head.name} ({job.recipe.preset}), stage "
        f"{' and '.join(map(str, job.stages))}, {count(workers, 'worker')} x "
        f"{count(threads, 'thread')}; data: {job.manifest}"
    ]
    if 1 in job.stages and state.chance1.words:
        lines.append(f"chance in stage 1: loss {state.chance1.words}")
    if 2 in job.stages:
        told = state.spec.describe(state.task.chance)
        lines.append(f"chance in stage 2: loss {state.task.chance_words}, {told}")
    return lines


def summary(job: Job, state: RunState, plots: list[Path], seconds: float) -> Group:
    """Return the closing table: what was reached, where it is, what to type next."""
    spec = state.spec
    shown = [score for score in spec.scores if score.name in state.task.chance]
    table = Table("", *(score.title for score in shown), title="Result", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    scored = "the clips it trained on" if job.recipe.overfit else "valid"
    is_offset = state.task.answers_offsets
    for name, scores in (
        ("sliding check (features, no head)", state.sliding if is_offset else None),
        (f"head on {scored}, best", state.valid),
        ("chance", state.task.chance),
    ):
        if scores is not None:
            table.add_row(name, *(score.show(scores[score.name]) for score in shown))
    lines = [f"model folder: {job.run}  ({seconds / 60:.1f} minutes)"]
    if plots:
        lines.append(f"plots: {plots[0].parent} ({', '.join(p.name for p in plots)})")
    lines += left_out(job.run)
    lines.append(f"next: {next_command(job)}")
    texts = [Text(line, overflow="fold") for line in lines]
    return Group(table, *texts) if table.row_count > 1 else Group(*texts)


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
