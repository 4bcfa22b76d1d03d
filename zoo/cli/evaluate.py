"""``zoo evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from zoo.evaluation.tables import ReportTable
    from zoo.evaluation.views import Evaluation

MOST_SHOWN = 5  # clips left out

Protocol = Annotated[
    str,
    typer.Option(
        help="random, fixed, vggsound-sparse, vggsound-sparse-clean, lrs3-fs, av-syncbench or "
        "retrieval."
    ),
]
Offsets = Annotated[
    Path | None, typer.Option(help="Fixed offsets, CSV; by default the manifest's own.")
]
Rounds = Annotated[
    int | None, typer.Option(min=1, help="Random samples per clip; else the protocol's.")
]
Split = Annotated[
    Literal["train", "valid", "test"] | None,
    typer.Option(help="Which clips of the manifest; else the protocol's, test."),
]
AsPublished = Annotated[
    bool, typer.Option("--as-published", help="Read and cut clips as the published code does.")
]
AudioShift = Annotated[
    float, typer.Option(help="Delay the audio in the published reader, seconds.")
]
Synchronizability = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Score offsets where this model says that a clip can be synchronized.",
    ),
]
Features = Annotated[
    Literal["auto", "store", "online"],
    typer.Option(help="Encode every clip once, or every sample."),
]
Frames = Annotated[
    int,
    typer.Option(min=1, help="Average over so many frames of a sample (models that read one)."),
]
Views = Annotated[
    int,
    typer.Option(min=1, help="Average over so many stretches, from a clip's start to its end."),
]
Subset = Annotated[
    Path | None,
    typer.Option(help="Ids of the clips to take, JSON or text; for retrieval."),
]
Controls = Annotated[
    bool, typer.Option(help="Also score with a wrong or blank stream, and a rule without learning.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for the report, or a .json file."),
]


def evaluate(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    data: Annotated[Path, typer.Option(help="Manifest of the clips.")],
    protocol: Protocol = "random",
    offsets: Offsets = None,
    rounds: Rounds = None,
    split: Split = None,
    subset: Subset = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random samples.")] = 0,
    as_published: AsPublished = False,
    audio_shift: AudioShift = 0.0,
    synchronizability: Synchronizability = None,
    features: Features = "auto",
    frames: Frames = 1,
    views: Views = 1,
    controls: Controls = True,
    out: Out = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model on clips that are in sync, each cut at random or at given offsets.

    With the protocol retrieval: how often the right video is found for an audio, and back.

    Example: zoo evaluate runs/mine --data clips/manifest.parquet --rounds 25 -o reports/mine

    Example: zoo evaluate runs/mine --data clips/manifest.parquet --protocol retrieval
    """
    from zoo.evaluation.evaluation_request import Request
    from zoo.evaluation.report import evaluate as evaluate_request
    from zoo.evaluation.report_files import check_writable, write_report

    if out is not None:
        check_writable(out)
    request = Request(
        model=model,
        data=data,
        protocol=protocol,
        split=split,
        subset=subset,
        rounds=rounds,
        seed=seed,
        offsets=offsets,
        as_published=as_published,
        audio_shift_s=audio_shift,
        synchronizability=synchronizability,
        features=features,
        frames=frames,
        views=views,
        with_controls=controls,
        device=device,
    )
    with progress_bar(f"evaluating {model}", hidden=as_json) as progress:
        evaluation = evaluate_request(request, progress)
    files = [] if out is None else write_report(evaluation, out)
    if as_json:
        print_json(evaluation.report)
    else:
        _show(evaluation)
        for file in files:
            Console().print(f"Wrote {file}", highlight=False, soft_wrap=True)


def _show(evaluation: Evaluation) -> None:
    from zoo.evaluation.report_files import report_tables

    console, report = Console(), evaluation.report
    scores, *others = report_tables(evaluation)
    console.print(_table(scores, is_dim_below_first=True))
    for table in others:
        console.print(_table(table))
        console.print(escape(table.text), highlight=False, soft_wrap=True)
    console.print(_how(report), highlight=False, soft_wrap=True)
    for note in report["notes"]:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    if report["left_out"]:
        what = f"{len(report['left_out'])} of {report['num_clips_of_split']} clips left out"
        console.print(f"[yellow]{what}:[/]", highlight=False)
        for line in _left_out(report["left_out"]):
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _table(report: ReportTable, *, is_dim_below_first: bool = False) -> Table:
    table = Table(title=escape(report.title), title_justify="left")
    for column in report.header:
        table.add_column(column, justify="right" if column else "left")
    for number, (name, *cells) in enumerate(report.rows):
        table.add_row(f"[dim]{name}[/]" if is_dim_below_first and number else name, *cells)
    return table


def _how(report: dict[str, Any]) -> str:
    facts = [f"protocol {report['protocol']}"]
    if "reading" not in report:  # nothing is sampled
        return ", ".join([*facts, f"seed {report['seed']}"])
    facts.append(f"{report['reading']} reading")
    if report["audio_shift_s"]:
        facts.append(f"audio shifted by {report['audio_shift_s']:+g} s")
    if report["is_fixed"]:
        facts.append(f"offsets of {report['offsets']}")
    how = "from the feature store" if report["features"] == "store" else "computed for every sample"
    frames = [f"mean of {report['frames']} frames"] if report["frames"] > 1 else []
    views = [f"mean of {report['views']} views"] if report.get("views", 1) > 1 else []
    return ", ".join([*facts, f"features {how}", *frames, *views, f"seed {report['seed']}"])


def _left_out(left_out: dict[str, str]) -> list[str]:
    """Say why the first clips were left out, and how many more there are."""
    shown = [f"{Path(path).name}: {why}" for path, why in list(left_out.items())[:MOST_SHOWN]]
    more = len(left_out) - len(shown)
    return [*shown, f"and {more} more, listed in the report"] if more else shown
