"""Tables of results: their cells, and as Markdown, CSV and JSON files and on a console."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Score
from zoo.experiments.results import SeedResults
from zoo.files import write_whole

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

WIDE = 180  # letters
MARKDOWN, CSV, JSON, PLOT = "table.md", "table.csv", "table.json", "table.png"
MISSING, FAILED, NONE = "..", "failed", "–"
CHANCE = "chance"
_UNITS = {"share": " %", "seconds": " s", "number": ""}


# --- cells ---


def column_title(score: Score) -> str:
    """Return what a column of a score is called; shares are in percent."""
    return f"{score.title}, s" if score.unit == "seconds" else score.title


def in_unit(score: Score, value: float) -> float:
    """Return a value as it is shown: shares in percent."""
    return 100 * value if score.unit == "share" else value


def show_value(score: Score, value: float | None) -> str:
    """Return a value without its unit."""
    digits = {"share": 1, "seconds": 2, "number": 3}[score.unit]
    return NONE if value is None else f"{in_unit(score, value):.{digits}f}"


def score_cell(seeds: SeedResults[Any] | None, score: Score) -> str:
    """Return a score as mean ± spread, or what is to be said instead."""
    if seeds is None:
        return NONE
    mean, spread = seeds.mean(score.name), seeds.spread(score.name)
    if mean is None:
        return NONE if seeds.scored else FAILED if seeds.has_failed else MISSING
    text = show_value(score, mean)
    if spread is not None:
        text += f" ± {show_value(score, spread)}"
    if len(seeds.scored) < seeds.num_seeds:
        failed = f", {FAILED}" if seeds.has_failed else ""
        text += f" ({len(seeds.scored)} of {seeds.num_seeds}{failed})"
    return text


def score_words(seeds: SeedResults[Any], scores: Iterable[Score]) -> str:
    """Say the scores that there are in one line."""
    return ", ".join(
        f"{score.title} {score_cell(seeds, score)}{_UNITS[score.unit]}"
        for score in scores
        if seeds.values(score.name)
    )


def chance_cell(score: Score, chances: Iterable[Mapping[str, float]]) -> str:
    """Return what guessing scores; several values where trainings differ in what they answer."""
    shown = [show_value(score, chance[score.name]) for chance in chances if score.name in chance]
    return " / ".join(dict.fromkeys(shown))


def minutes(seconds: float | None) -> str:
    """Return a time in minutes."""
    return MISSING if seconds is None else f"{seconds / 60:.1f}"


def seeds_sentence(num_seeds: int) -> str:
    """Say what the cells of a table hold."""
    if num_seeds == 1:
        return "One seed, shares in %: nothing is known about the spread."
    return f"Mean ± sample standard deviation over {num_seeds} seeds, shares in %."


# --- files ---


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    lines.insert(1, ruler)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(
    title: str, parts: Iterable[str], lost: Mapping[str, str], *, has_plot: bool, failed: str
) -> str:
    """Return a page in Markdown.

    Args:
        title: of the page, and of its plot.
        parts: paragraphs and tables.
        lost: what failed, and why.
        has_plot: whether the plot of the table is shown.
        failed: heading above what failed.
    """
    told = [f"# {title}", *parts]
    if has_plot:
        told.append(f"![{title}]({PLOT})")
    if lost:
        told.append(f"## {failed}\n\n" + "\n".join(f"- {name}: {lost[name]}" for name in lost))
    return "\n\n".join(told) + "\n"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV; numbers with six digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row])
    return stream.getvalue()


class KnownTable(ABC):
    """The table of an experiment as far as it is known; what is not is left open."""

    @property
    @abstractmethod
    def has_scores(self) -> bool:
        """Whether there is anything to draw."""

    @abstractmethod
    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows, chance last."""

    @abstractmethod
    def markdown(self) -> str:
        """Return the table as a page."""

    @abstractmethod
    def as_csv(self) -> str:
        """Return a line for every training that has ended."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Return everything there is to know, ready for JSON."""

    @abstractmethod
    def plot(self, path: Path) -> Path:
        """Draw it, and return the file."""

    def write(self, out: Path) -> list[Path]:
        """Write all files of the table, and return them."""
        as_json = json.dumps(self.as_json(), indent=2) + "\n"
        texts = {MARKDOWN: self.markdown(), CSV: self.as_csv(), JSON: as_json}
        for name, text in texts.items():
            write_whole(out / name, text)
        files = [out / name for name in texts]
        return [*files, self.plot(out / PLOT)] if self.has_scores else files


# --- consoles ---


def wide_console(*, stderr: bool = False) -> Console:
    """Return a console that is wide where there is no terminal to ask."""
    from rich.console import Console

    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=WIDE)


def console_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, left: Iterable[str]
) -> Grid:
    """Return rows as a table for a console: chance pale, what is **bold** in Markdown bold.

    Args:
        title: above the table.
        header: names of the columns.
        rows: their cells.
        left: columns that are not aligned to the right.
    """
    from rich.markup import escape
    from rich.table import Table as Grid

    grid, to_the_left = Grid(title=escape(title), title_justify="left"), set(left)
    for name in header:
        grid.add_column(escape(name), justify="left" if name in to_the_left else "right")
    for row in rows:
        style = "dim" if row[0] == CHANCE else "bold" if "**" in row[-1] else None
        grid.add_row(*(escape(cell.replace("**", "")) for cell in row), style=style)
    return grid
