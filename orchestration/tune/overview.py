"""What ``zoo tune`` shows: points that have ended, points at work; a live view on a terminal."""

from __future__ import annotations

import shlex
import threading
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

from orchestration.tune.outcome import RUN, read_result
from orchestration.tune.points import Point, name_of
from orchestration.tune.run import BEST, COMMAND, Session, Watcher
from orchestration.tune.search import Params
from orchestration.tune.summary import Row
from orchestration.tune.writing import cells_of, model_cells
from zoo.experiments.finished_runs import is_trained
from zoo.experiments.process import program_words
from zoo.training.resources import Resources
from zoo.training.watch import MetricsTail, RunState, count

REFRESH_S = 0.5


@dataclass
class _Followed:
    """A run at work: how far it is."""

    run: Path
    state: RunState
    tail: MetricsTail

    @property
    def phase(self) -> tuple[str, int, int]:
        """What it does, and how far it is."""
        self.state.follow(self.tail)
        for stage in ("stage 2", "stage 1"):
            if stage in self.state.steps:
                return stage, self.state.steps[stage], self.state.totals[stage]
        return "starting", 0, 0


@dataclass
class Overview(Watcher):
    """Says what happens to the points of a search."""

    session: Session
    console: Console
    live: Live | None = None
    at_work: dict[str, Params] = field(default_factory=dict)
    followed: dict[str, _Followed] = field(default_factory=dict)
    num_ended: int = 0
    is_over: bool = False

    def begins(self, params: Params) -> None:
        """Say that a point begins."""
        is_new = repr(params) not in self.at_work
        self.at_work[repr(params)] = params
        if self.live is None and is_new:
            self._say(f"begins: {name_of(params)}")

    def ended(self, row: Row, number: int) -> None:
        """Say how a point ended."""
        self.num_ended = number
        self.at_work.pop(repr(row.params), None)
        self.followed.pop(repr(row.params), None)
        self._say(f"[{number}/{self.session.search.num_points}] {outcome(row)}")

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def refresh(self) -> None:
        """Show the points at work until it is over; runs in a thread of its own."""
        while not self.is_over:
            if self.live is not None:
                self.live.update(self._picture())
            time.sleep(REFRESH_S)

    def _picture(self) -> Group:
        total = self.session.search.num_points
        grid = Grid.grid(padding=(0, 1))
        bar = ProgressBar(total, self.num_ended, width=30)
        grid.add_row("points", bar, f"{self.num_ended}/{total}", "")
        for key, params in list(self.at_work.items()):
            row = self.session.rows.row_of(params)
            if row.point is None:
                continue
            seed, run, what = self._where(row.point)
            followed = self.followed.get(key)
            if followed is None or followed.run != run:
                state = RunState(row.point.recipe, run, row.point.stages)
                followed = self.followed[key] = _Followed(run, state, MetricsTail(run))
            phase, done, of = followed.phase
            shown = ProgressBar(of or None, done, width=30, pulse=not of)
            steps = f"{done}/{of}" if of else ""
            told = f"{what}{phase}, seed {seed}"
            grid.add_row(escape(name_of(params)), shown, steps, told)
        return Group(grid)

    def _where(self, point: Point) -> tuple[int, Path, str]:
        """Return the seed that is at work, its run, and whether that is the shared part."""
        out = self.session.out
        for seed in self.session.search.train_seeds:
            folder = point.folder(out, seed)
            if read_result(folder) is None:
                break
        towers = point.towers_folder(out, seed)
        if point.has_towers and not is_trained(towers, 1):
            return seed, towers, "towers: "
        return seed, folder / RUN, ""


def outcome(row: Row) -> str:
    """Say how a point ended, in one line."""
    head = f"{name_of(row.params)}: "
    if row.status == "failed":
        reason = next((r.reason for r in row.results if r.status == "failed"), "")
        return f"{head}failed: {reason}"
    exact, within = row.mean("exact"), row.mean("within_one")
    if exact is None or within is None:
        return f"{head}{row.status}"
    spread = row.spread("exact")
    text = f"{head}exact {100 * exact:.1f}"
    text += f" ± {100 * spread:.1f} %" if spread is not None else " %"
    text += f", ±1 class {100 * within:.1f} %, {count(len(row.scored), 'seed')}"
    return f"{text}, stopped" if row.status == "stopped" else text


@contextmanager
def overview(session: Session, console: Console) -> Iterator[Watcher]:
    """Show a search while it runs."""
    search, shown = session.search, Overview(session, console)
    shown.num_ended = sum(row.status != "open" for row in session.rows.read())
    going_on = f", {shown.num_ended} of them tried already" if shown.num_ended else ""
    line = f"{search.title}: {count(search.num_points, 'point')} x {count(search.seeds, 'seed')}"
    console.print(f"{line}{going_on}; {session.out}", highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        yield shown
        return
    with Live(console=console, refresh_per_second=4) as live:
        shown.live = live
        thread = threading.Thread(target=shown.refresh, daemon=True)
        thread.start()
        try:
            yield shown
        finally:
            shown.is_over = True
            thread.join()
            live.update("")


def closing(session: Session) -> Group:
    """Return the table for the terminal, and where everything is."""
    rows = session.rows.read()
    header, lines = cells_of(session.search, rows)
    grid = Grid(title=escape(session.search.title), title_justify="left")
    for number, column in enumerate(header):
        grid.add_column(column, justify="left" if number == 0 else "right")
    for line in lines:
        style = "dim" if line[0] == "chance" else "bold" if "best" in line[-1] else None
        grid.add_row(*(escape(cell.replace("**", "")) for cell in line), style=style)
    names = ", ".join(file.name for file in session.write())
    texts = [f"{names}, study.db in {session.out}"]
    best = session.out / BEST
    if (best / COMMAND).exists():
        texts += [f"best model: {best}", f"alone: {(best / COMMAND).read_text().strip()}"]
    return Group(grid, *(Text(text, overflow="fold") for text in texts))


def resume_command(session: Session) -> str:
    """Return the command that goes on with a search in the same way."""
    given, usual = session.options.resources, Resources()
    words = [*program_words(), "tune", "--out", str(session.out), "--resume"]
    pairs: dict[str, tuple[Any, Any]] = {
        "--max-concurrent": (session.options.max_concurrent, 0),
        "--workers-per-trial": (given.workers, usual.workers),
        "--gpus-per-worker": (given.gpus_per_worker, usual.gpus_per_worker),
        "--address": (given.address, usual.address),
    }
    for option, (value, default) in pairs.items():
        if value != default:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def plan_table(session: Session) -> Grid:
    """Return the points as a table for the terminal."""
    grid = Grid(title=escape(session.search.title), title_justify="left")
    columns = ("point", "segments", "crop, s", "tokens", "GFLOP", "steps", "towers", "state")
    for column in columns:
        grid.add_column(column, justify="left" if column in {"point", "state"} else "right")
    for point in session.points:
        steps = {1: point.recipe.stage1.steps, 2: point.recipe.stage2.steps}
        row = session.rows.row_of(point.params)
        grid.add_row(
            escape(point.name),
            *model_cells(row),
            " + ".join(str(steps[stage]) for stage in point.stages),
            point.key if point.has_towers else "own",
            "to do" if row.status == "open" else row.status,
        )
    return grid
