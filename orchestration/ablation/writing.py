"""The table as files: Markdown, CSV, JSON and a picture, rewritten after every job."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from orchestration.ablation.outcome import Result
from orchestration.ablation.plan import Job, Key
from orchestration.ablation.summary import Cell, Row, as_json, guesses, planned_steps, summarise
from orchestration.ablation.table import PaperScores, Table
from zoo.experiments.console_tables import markdown_table
from zoo.files import write_whole

MARKDOWN, CSV, JSON, PICTURE = "table.md", "table.csv", "table.json", "table.png"
MISSING, FAILED, NONE = "..", "failed", "–"
SHARED = "†"
_COLUMNS = (
    *("data", "variant", "seed", "status", "exact", "within_one", "mean_abs_error_s"),
    *("stage1_steps", "stage2_steps", "parameters", "num_clips", "rounds", "reason"),
)
_COSTS = ("training", "stage1", "stage2", "towers")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def write_table(
    table: Table, jobs: list[Job], results: Mapping[Key, Result], out: Path
) -> list[Path]:
    """Write all files of a table; what is not known yet is left open."""
    from orchestration.ablation.picture import draw_table

    files = [out / name for name in (MARKDOWN, CSV, JSON)]
    write_whole(files[0], markdown(table, jobs, results))
    write_whole(files[1], as_csv(jobs, results))
    write_whole(files[2], json.dumps(as_json(table, jobs, results), indent=2) + "\n")
    if any(result.is_done for result in results.values()):
        files.append(draw_table(table, jobs, results, out / PICTURE))
    return files


def as_csv(jobs: list[Job], results: Mapping[Key, Result]) -> str:
    """Return a row for every job that has ended."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    costs = [f"{part}_{clock}" for part in _COSTS for clock in ("wall_s", "cpu_s")]
    writer.writerow([*_COLUMNS, *costs])
    for result in (results[job.key] for job in jobs if job.key in results):
        spent = [getattr(result, part) for part in _COSTS]
        values = [getattr(result, column) for column in _COLUMNS]
        values += [value for cost in spent for value in (cost.wall_s, cost.cpu_s)]
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
    return stream.getvalue()


def markdown(table: Table, jobs: list[Job], results: Mapping[Key, Result]) -> str:
    """Return the table as a page."""
    rows = summarise(table, jobs, results)
    parts = [
        f"# {table.title}",
        _opening(table, jobs, results),
        markdown_table(*cells_of(table, rows, jobs)),
        *_footnotes(table, rows),
    ]
    if any(result.is_done for result in results.values()):
        parts.append(f"![{table.title}]({PICTURE})")
    lost = [result for result in results.values() if not result.is_done]
    if lost:
        told = "\n".join(f"- {result.key}: {result.reason}" for result in lost)
        parts.append(f"## Failed\n\n{told}")
    return "\n\n".join(parts) + "\n"


def _opening(table: Table, jobs: list[Job], results: Mapping[Key, Result]) -> str:
    done = [result for result in results.values() if result.is_done]
    seeds = len(table.seeds)
    if seeds > 1:
        text = f"Mean ± sample standard deviation over {seeds} seeds, %."
    else:
        text = "One seed, %: nothing is known about the spread."
    for data in table.data:
        scored = {(r.num_clips, r.rounds) for r in done if r.data == data}
        if len(scored) == 1:
            clips, rounds = scored.pop()
            text += f" {data}: {clips} clips x {rounds} offsets."
    if len(results) < len(jobs):
        text += (
            f" {len(results)} of {len(jobs)} jobs have ended: {MISSING} is not known yet, (1 of 3) "
            "is the mean of one seed of three."
        )
    return text


def cells_of(table: Table, rows: list[Row], jobs: list[Job]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table, chance last."""
    has_paper = any(variant.paper for variant in table.variants.values())
    header = ["variant"]
    for data in table.data:
        header += [f"{data}: exact", f"{data}: ±1 class"]
    header += ["steps", "minutes", "core-minutes", "parameters"]
    if has_paper:
        header += ["paper: exact", "paper: ±1 class"]
    notes = _note_numbers(table)
    lines = []
    for row in rows:
        mark = str(notes[row.variant]).translate(_SUPERSCRIPTS) if row.variant in notes else ""
        line = [row.variant + mark]
        for data in table.data:
            cell = row.cells.get(data)
            line += [score_cell(cell, score) for score in ("exact", "within_one")]
        line += [_steps(row.job), *_minutes(row), f"{row.job.parameters:,}"]
        if has_paper:
            paper = table.variants[row.variant].paper or PaperScores()
            line += [_percent(paper.exact), _percent(paper.within_one)]
        lines.append(line)
    guess = guesses(jobs)
    line = ["chance"]
    for score in ("exact", "within_one") * len(table.data):
        line.append(" / ".join(f"{100 * one[score]:.1f}" for one in guess))
    lines.append(line + [""] * (len(header) - len(line)))
    return header, lines


def score_cell(cell: Cell | None, score: str) -> str:
    """Return a score as mean ± spread in percent, or what is to be said instead."""
    if cell is None:
        return NONE
    mean, spread = cell.mean(score), cell.spread(score)
    if mean is None:
        return FAILED if cell.has_failed else MISSING
    text = f"{100 * mean:.1f}"
    if spread is not None:
        text += f" ± {100 * spread:.1f}"
    if len(cell.done) < len(cell.jobs):
        text += f" ({len(cell.done)} of {len(cell.jobs)}{f', {FAILED}' if cell.has_failed else ''})"
    return text


def _steps(job: Job) -> str:
    steps = planned_steps(job)
    text = " + ".join(str(steps[stage]) for stage in ("stage1", "stage2") if stage in steps)
    return f"{SHARED} + {text}" if job.source is not None else text


def _minutes(row: Row) -> list[str]:
    if row.training is None:
        return [MISSING, MISSING]
    mark = f" {SHARED}" if row.is_sharing else ""
    return [f"{s / 60:.1f}{mark}" for s in (row.training.wall_s, row.training.cpu_s)]


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}"


def _note_numbers(table: Table) -> dict[str, int]:
    noted = [name for name, variant in table.variants.items() if variant.note]
    return {name: number for number, name in enumerate(noted, 1)}


def _footnotes(table: Table, rows: list[Row]) -> list[str]:
    lines = [
        f"{str(number).translate(_SUPERSCRIPTS)} {table.variants[name].note}"
        for name, number in _note_numbers(table).items()
    ]
    starts: dict[str, list[str]] = {}
    for row in rows:
        towers = table.variants[row.variant].towers
        if towers is not None:
            where = "" if towers.data is None else f" on {towers.data}"
            starts.setdefault(f"{towers.variant}{where}", []).append(row.variant)
    for source, names in starts.items():
        verb = "starts" if len(names) == 1 else "start"
        lines.append(
            f"{SHARED} {'; '.join(names)}: {verb} from the towers of {source}, whose training is "
            "counted in."
        )
    lines.append(
        "Steps: stage I + stage II. Minutes (wall clock) and core-minutes (processor time) of one "
        "training, means over jobs."
    )
    return lines
