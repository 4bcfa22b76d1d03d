"""Writing a report: JSON, Markdown, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError

JSON, MARKDOWN = "report.json", "report.md"
MOST_LISTED = 20  # clips left out that the page lists
PICTURES = {
    "confusion.png": "true and predicted offsets",
    "offsets.png": "accuracy by offset, and errors",
    "roc.png": "ROC curve of synchronizability",
    "tiers.png": "offset accuracy on trusted draws",
}


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
        file.open("a").close()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def write_report(report: dict[str, Any], path: Path) -> list[Path]:
    """Write a report as JSON, or into a folder as JSON, Markdown and pictures.

    Returns:
        The files.
    """
    text = json.dumps(report, indent=2) + "\n"
    if path.suffix == ".json":
        path.write_text(text)
        return [path]
    from zoo.evaluation.report_plots import draw_report

    (path / JSON).write_text(text)
    pictures = draw_report(report, path)
    (path / MARKDOWN).write_text(markdown(report, [file.name for file in pictures]))
    return [path / JSON, path / MARKDOWN, *pictures]


def summary(report: dict[str, Any]) -> str:
    """Say in one line what was evaluated on what."""
    each = "one fixed offset" if report["is_fixed"] else f"{report['rounds']} random offsets"
    return f"{report['model']} on {report['num_clips']} {report['split']} clips x {each}"


def score_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table of scores."""
    if "within_one" in report["pooled"]:
        header, cells = ["", "exact", "±1 class", "mean error"], _offset_cells
        names = ["accuracy", "within_one", "mean_abs_error_s"]
    else:
        header, cells = ["", "accuracy", "ROC AUC"], _binary_cells
        names = ["accuracy", "roc_auc"]
    title = "draws that can be synchronized" if "tiers" in report else "all draws"
    rows = [[title, *cells(report["pooled"], _spread(report))]]
    if report["interval"] is not None:
        ends = report["interval"]
        rows.append(["95 % over clips", *(_interval(ends, name) for name in names)])
    if "with_common_event" in report:
        share = report["common_event_share"]
        name = f"crops that share an event ({share:.1%})"
        rows.append([name, *cells(report["with_common_event"])])
    for name, scores in report["controls"].items():
        rows.append([f"control: {name}", *cells(scores)])
    rows.append(["chance", *cells(report["chance"])])
    if report.get("sliding", {}).get("num"):
        rows.append(["sliding check of the features", *cells(report["sliding"])])
    return header, rows


def _spread(report: dict[str, Any]) -> dict[str, float] | None:
    return report["spread"] if report["rounds"] > 1 else None


def _offset_cells(scores: dict[str, float], spread: dict[str, float] | None = None) -> list[str]:
    cells = [f"{scores['accuracy']:.1%}", f"{scores['within_one']:.1%}"]
    error = f"{scores['mean_abs_error_s']:.3f} s"
    if spread is None:
        return [*cells, error]
    return [
        f"{cells[0]} ± {100 * spread['accuracy']:.1f}",
        f"{cells[1]} ± {100 * spread['within_one']:.1f}",
        f"{error} ± {spread['mean_abs_error_s']:.3f}",
    ]


def _binary_cells(scores: dict[str, float], spread: dict[str, float] | None = None) -> list[str]:
    cells = [f"{scores['accuracy']:.1%}", f"{scores['roc_auc']:.3f}"]
    if spread is None:
        return cells
    return [
        f"{cells[0]} ± {100 * spread['accuracy']:.1f}",
        f"{cells[1]} ± {spread['roc_auc']:.3f}",
    ]


def _interval(ends: dict[str, tuple[float, float]], name: str) -> str:
    low, high = ends[name]
    if name == "mean_abs_error_s":
        return f"{low:.3f} … {high:.3f} s"
    if name == "roc_auc":
        return f"{low:.3f} … {high:.3f}"
    return f"{100 * low:.1f} … {100 * high:.1f} %"


def trust_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table of trusted offsets."""
    rows = []
    for tier in report["tiers"]:
        shown = ["–", "–", "–"]
        if tier["accuracy"] is not None:
            ends = tier["interval"]
            interval = "–" if ends is None else _interval(ends, "accuracy")
            shown = [f"{tier['accuracy']:.1%}", interval, f"{tier['within_one']:.1%}"]
        kept = f"{tier['share']:.1%}"
        rows.append(
            [f"above {tier['threshold']:g}", kept, str(tier["num_unsynchronizable"]), *shown]
        )
    return ["trust", "draws kept", "of them apart", "exact", "95 % interval", "±1 class"], rows


def markdown(report: dict[str, Any], pictures: list[str]) -> str:
    """Return a report as a page."""
    parts = [f"# {summary(report)}", _table(*score_rows(report)), _ranking(report)]
    if "tiers" in report:
        judged = report["synchronizability"]["pooled"]
        parts += [
            f"## Offsets trusted by {report['trust']}",
            f"It tells whether a draw can be synchronized with {judged['accuracy']:.1%} accuracy, "
            f"ROC AUC {judged['roc_auc']:.3f}. Trusted draws that share no content (apart) count "
            "as wrong.",
            _table(*trust_rows(report)),
        ]
    parts += [f"Note: {note}." for note in report["notes"]]
    parts += [f"![{PICTURES[name]}]({name})" for name in pictures]
    parts += ["## How it was made", _table(["", ""], _facts(report)), _left_out(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _ranking(report: dict[str, Any]) -> str:
    def shown(value: float | None) -> str:
        return "infinite" if value is None else f"{value:.4f}"

    metrics = report["published_metrics"]
    text = "Published metrics over all draws: " + ", ".join(
        f"{name} {shown(value)}" for name, value in metrics.items()
    )
    if any(sum(row) == 0 for row in report["confusion"]):
        text += ". The last three need draws of every class, which these are not."
    return text


def _facts(report: dict[str, Any]) -> list[list[str]]:
    names = {
        "model": "model",
        "model_sha256": "model sha256",
        "manifest_sha256": "manifest sha256",
        "split": "split",
        "protocol": "protocol",
        "reading": "reading",
        "audio_shift_s": "audio shift, s",
        "offsets": "fixed offsets",
        "offsets_sha256": "fixed offsets sha256",
        "rounds": "rounds",
        "seed": "seed",
        "features": "features",
        "trust": "trust",
    }
    return [[name, str(report[key])] for key, name in names.items() if report[key] is not None]


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
