"""Writing a report: JSON, Markdown, plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.evaluation.ranking import describe_published
from zoo.evaluation.tables import ReportTable
from zoo.evaluation.views import Evaluation
from zoo.files import part_beside, write_whole
from zoo.plots import save_all

JSON, MARKDOWN = "report.json", "report.md"
MOST_LISTED = 20  # clips left out that the page lists


def check_writable(path: Path) -> None:
    """Find out before a long evaluation whether its report can be written.

    Args:
        path: a ``.json`` file, or else a folder.

    Raises:
        ConfigError: if it cannot.
    """
    file = path if path.suffix == ".json" else path / JSON
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part_beside(file):
            pass
        if file.exists():
            file.open("a").close()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def write_report(evaluation: Evaluation, path: Path) -> list[Path]:
    """Write a report as JSON, or into a folder as JSON, Markdown and plots.

    Returns:
        The files.
    """
    text = json.dumps(evaluation.report, indent=2) + "\n"
    if path.suffix == ".json":
        write_whole(path, text)
        return [path]
    write_whole(path / JSON, text)
    plots = save_all(evaluation.view.plots(evaluation.report), path)
    write_whole(path / MARKDOWN, markdown(evaluation, [file.name for file in plots]))
    return [path / JSON, path / MARKDOWN, *plots]


def report_tables(evaluation: Evaluation) -> list[ReportTable]:
    """Return the tables of a report: that of the scores first."""
    return evaluation.view.tables(evaluation.report)


def markdown(evaluation: Evaluation, plots: list[str]) -> str:
    """Return a report as a page."""
    report = evaluation.report
    scores, *others = report_tables(evaluation)
    parts = [f"# {scores.title}", _table(scores.header, scores.rows)]
    if "published_metrics" in report:
        parts.append(describe_published(report["published_metrics"], report["confusion"]))
    for table in others:
        parts += [f"## {table.title}", table.text, _table(table.header, table.rows)]
    parts += [f"Note: {note}." for note in report["notes"]]
    parts += [f"![{Path(name).stem}]({name})" for name in plots]
    parts += ["## How it was made", _table(["", ""], _facts(report)), _left_out(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(report: dict[str, Any]) -> list[list[str]]:
    names = {
        "model": "model",
        "model_sha256": "model sha256",
        "manifest_sha256": "manifest sha256",
        "split": "split",
        "protocol": "protocol",
        "subset": "subset",
        "subset_sha256": "subset sha256",
        "reading": "reading",
        "audio_shift_s": "audio shift, s",
        "offsets": "fixed offsets",
        "offsets_sha256": "fixed offsets sha256",
        "rounds": "rounds",
        "seed": "seed",
        "features": "features",
        "trust": "synchronizability model",
    }
    facts = {name: report.get(key) for key, name in names.items()}
    return [[name, str(value)] for name, value in facts.items() if value is not None]


def _left_out(report: dict[str, Any]) -> str:
    left_out = report["left_out"]
    heading = f"## Clips left out: {len(left_out)} of {report['num_clips_of_split']}"
    if not left_out:
        return heading
    lines = [f"- `{path}`: {why}" for path, why in list(left_out.items())[:MOST_LISTED]]
    if len(left_out) > MOST_LISTED:
        lines.append(f"- and {len(left_out) - MOST_LISTED} more, listed in {JSON}")
    return "\n".join([heading, "", *lines])


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
