"""``zoo evaluate``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.cli.output import print_json, progress_bar


def evaluate(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    data: Annotated[Path, typer.Option(help="Manifest of the clips.")],
    protocol: Annotated[
        str,
        typer.Option(help="random, fixed, vggsound-sparse, vggsound-sparse-clean or lrs3-fs."),
    ] = "random",
    offsets: Annotated[
        Path | None, typer.Option(help="Fixed offsets, CSV; by default the manifest's own.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Random offsets per clip; else the protocol's.")
    ] = None,
    split: Annotated[
        Literal["train", "valid", "test"] | None,
        typer.Option(help="Which clips of the manifest; else the protocol's, test."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random offsets.")] = 0,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Read and cut clips as the published code does.")
    ] = False,
    audio_shift: Annotated[
        float, typer.Option(help="Delay the audio in the published reader, seconds.")
    ] = 0.0,
    trust: Annotated[
        str | None,
        typer.Option(help="Synchronizability model: score offsets on the draws it trusts."),
    ] = None,
    features: Annotated[
        Literal["auto", "store", "online"],
        typer.Option(help="Encode every clip once, or every draw."),
    ] = "auto",
    controls: Annotated[bool, typer.Option(help="Also score with a wrong or blank stream.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the report, or a .json file."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model on clips that are in sync, each cut at random or given offsets.

    Example: zoo evaluate runs/mine --data clips/manifest.parquet --rounds 25 -o reports/mine
    """
    from zoo.evaluation.evaluation_request import Request
    from zoo.evaluation.report import evaluate_manifest
    from zoo.evaluation.report_files import check_writable, write_report

    if out is not None:
        check_writable(out)
    request = Request(
        model=model,
        data=data,
        protocol=protocol,
        split=split,
        rounds=rounds,
        seed=seed,
        offsets=offsets,
        as_published=as_published,
        audio_shift_s=audio_shift,
        trust=trust,
        features=features,
        with_controls=controls,
        device=device,
    )
    with progress_bar(f"evaluating {model}", hidden=as_json) as progress:
        report = evaluate_manifest(request, progress)
    files = [] if out is None else write_report(report, out)
    if as_json:
        print_json(report)
    else:
        _show(report)
        for file in files:
            Console().print(f"Wrote {file}", highlight=False, soft_wrap=True)


def _show(report: dict[str, Any]) -> None:
    from zoo.evaluation.report_files import score_rows, summary, trust_rows

    console = Console()
    header, rows = score_rows(report)
    console.print(_table(summary(report), header, rows))
    if "tiers" in report:
        judged = report["synchronizability"]["pooled"]
        title = (
            f"Offsets trusted by {report['trust']} (itself: accuracy {judged['accuracy']:.1%}, "
            f"ROC AUC {judged['roc_auc']:.3f})"
        )
        console.print(_table(title, *trust_rows(report)))
    console.print(_how(report), highlight=False, soft_wrap=True)
    for note in report["notes"]:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    for reason, count in _reasons(report):
        what = f"{count} of {report['num_clips_of_split']} clips left out"
        console.print(f"[yellow]{what}:[/] {escape(reason)}", highlight=False, soft_wrap=True)


def _table(title: str, header: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in header:
        table.add_column(column, justify="right" if column else "left")
    for name, *cells in rows:
        is_aside = name.startswith(("control", "chance", "sliding", "95 %"))
        table.add_row(f"[dim]{name}[/]" if is_aside else name, *cells)
    return table


def _how(report: dict[str, Any]) -> str:
    facts = [f"protocol {report['protocol']}", f"{report['reading']} reading"]
    if report["audio_shift_s"]:
        facts.append(f"audio shifted by {report['audio_shift_s']:+g} s")
    if report["is_fixed"]:
        facts.append(f"offsets of {report['offsets']}")
    how = "from the feature store" if report["features"] == "store" else "computed for every draw"
    return ", ".join([*facts, f"features {how}", f"seed {report['seed']}"])


def _reasons(report: dict[str, Any]) -> list[tuple[str, int]]:
    """Return the reasons for which clips were left out, most frequent first."""
    kinds = {path: why.split(":")[0] for path, why in report["left_out"].items()}
    first = {kinds[path]: why for path, why in reversed(report["left_out"].items())}
    return [(first[kind], count) for kind, count in Counter(kinds.values()).most_common(5)]
