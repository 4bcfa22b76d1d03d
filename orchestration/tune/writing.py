"""The files of a search: table as Markdown, CSV and JSON, and a picture; rewritten as it goes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from orchestration.tune.outcome import SCORES
from orchestration.tune.points import name_of
from orchestration.tune.search import LENGTH, OVERLAP, Search
from orchestration.tune.summary import Row, as_dict, best_of, frontier
from zoo.evaluation.offset_metrics import chance
from zoo.experiments.console_tables import markdown_table
from zoo.files import write_whole

MARKDOWN, CSV, JSON, PICTURE = "table.md", "table.csv", "table.json", "table.png"
OPEN, BEST, FRONT = "..", "**best**", "frontier"


def write_files(search: Search, rows: list[Row], out: Path) -> list[Path]:
    """Write all files of a search; what is not known yet is left open."""
    from orchestration.tune.picture import draw_search

    files = [out / name for name in (MARKDOWN, CSV, JSON)]
    write_whole(files[0], markdown(search, rows))
    write_whole(files[1], as_csv(rows))
    write_whole(files[2], json.dumps(as_json(search, rows), indent=2) + "\n")
    if any(row.scored for row in rows):
        files.append(draw_search(search, rows, out / PICTURE))
    return files


def as_json(search: Search, rows: list[Row]) -> dict[str, Any]:
    """Return everything there is to know, ready for JSON."""
    best = best_of(rows, search.metric)
    return {
        "search": search.model_dump(mode="json"),
        "chance": guess_of(rows),
        "rows": [as_dict(row) for row in rows],
        "best": None if best is None else best.params,
        "frontier": [row.params for row in frontier(rows, search.metric)],
    }


def guess_of(rows: list[Row]) -> dict[str, float] | None:
    """Return what guessing scores."""
    points = [row.point for row in rows if row.point is not None]
    if not points:
        return None
    scores = chance(points[0].recipe.model.grid)
    return {"exact": scores.accuracy, "within_one": scores.within_one}


def as_csv(rows: list[Row]) -> str:
    """Return a line for every training that has ended."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = list(dict.fromkeys(name for row in rows for name in row.params))
    costs = [f"{part}_{clock}" for part in ("towers", "head") for clock in ("wall_s", "cpu_s")]
    model = ("segments", "tokens", "flops", "parameters")
    writer.writerow([*names, "seed", "status", *SCORES, *costs, *model, "reason"])
    for row in rows:
        for result in row.results:
            spent = [result.towers, result.head]
            values = [row.params.get(name) for name in names]
            values += [result.seed, result.status, *(getattr(result, s) for s in SCORES)]
            values += [number for cost in spent for number in (cost.wall_s, cost.cpu_s)]
            values += [None if row.cost is None else getattr(row.cost, name) for name in model]
            writer.writerow([_short(value) for value in (*values, result.reason)])
    return stream.getvalue()


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def markdown(search: Search, rows: list[Row]) -> str:
    """Return the table as a page."""
    ended = sum(row.status != "open" for row in rows)
    num = next((r.num for row in rows for r in row.scored if r.num), None)
    draws = "" if num is None else f", {num} validation draws each"
    opening = (
        f"Mean ± sample standard deviation over {search.seeds} seed{'s' * (search.seeds > 1)}, "
        f"%{draws}. {ended} of {search.num_points} points have ended."
    )
    parts = [f"# {search.title}", opening, markdown_table(*cells_of(search, rows))]
    parts.append(
        "GFLOP: operations of a prediction for one crop. Core-minutes: processor time of one "
        "training; points with the same towers (stage I and features) share them."
    )
    if any(row.scored for row in rows):
        parts.append(f"![{search.title}]({PICTURE})")
    lost = [(row, r) for row in rows for r in row.results if r.reason]
    if lost:
        told = "\n".join(f"- {name_of(row.params)}, seed {r.seed}: {r.reason}" for row, r in lost)
        parts.append(f"## Failed or stopped\n\n{told}")
    return "\n\n".join(parts) + "\n"


def cells_of(search: Search, rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table (table 3's shape), chance last."""
    names = list(search.space)
    header = [f"{LENGTH}, s" if name == LENGTH else name for name in names]
    header += ["segments", "crop, s", "exact", "±1 class", "mean error, s"]
    header += ["tokens", "GFLOP", "core-min: towers", "head", ""]
    best, front = best_of(rows, search.metric), frontier(rows, search.metric)
    lines = []
    for row in _sorted(search, rows):
        line = [
            f"{value:.4g}" if isinstance(value, float) else str(value)
            for value in (row.params[name] for name in names)
        ]
        line += model_cells(row)[:2]
        line += [_score(row, "exact", 100), _score(row, "within_one", 100)]
        line += [_score(row, "mean_abs_error_s", 1), *model_cells(row)[2:]]
        line += [_minutes(row, "towers"), _minutes(row, "head")]
        mark = FRONT if search.goal == "accuracy-cost" and row in front else ""
        line.append(
            BEST if row is best else mark or {"done": "", "open": ""}.get(row.status, row.status)
        )
        lines.append(line)
    guess = guess_of(rows)
    if guess is not None:
        line = ["chance"] + [""] * (len(names) + 1)
        line += [f"{100 * guess['exact']:.1f}", f"{100 * guess['within_one']:.1f}"]
        lines.append(line + [""] * (len(header) - len(line)))
    return header, lines


def _sorted(search: Search, rows: list[Row]) -> list[Row]:
    """Order a table of segment lengths as the paper does; others by their score."""
    if search.is_segment_length:
        return sorted(rows, key=lambda row: (row.params[LENGTH], row.params[OVERLAP]))
    return sorted(rows, key=lambda row: -(row.mean(search.metric) or 0.0))


def model_cells(row: Row) -> list[str]:
    """Return segments, crop, tokens and operations."""
    if row.cost is None:
        return ["–"] * 4
    cost = row.cost
    return [
        str(cost.segments),
        f"{cost.covered_s:g}",
        str(cost.tokens),
        f"{cost.flops / 1e9:.3g}",
    ]


def _score(row: Row, score: str, scale: float) -> str:
    mean, spread = row.mean(score), row.spread(score)
    if mean is None:
        return "–" if row.status == "failed" else OPEN
    digits = 1 if scale > 1 else 2
    text = f"{scale * mean:.{digits}f}"
    if spread is not None:
        text += f" ± {scale * spread:.{digits}f}"
    if len(row.scored) < row.num_seeds:
        text += f" ({len(row.scored)} of {row.num_seeds})"
    return text


def _minutes(row: Row, part: str) -> str:
    cost = row.training(part)
    return OPEN if cost is None else f"{cost.cpu_s / 60:.1f}"
