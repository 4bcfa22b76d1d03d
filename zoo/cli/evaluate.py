"""``zoo evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from zoo.cli.output import print_json, progress_bar


def evaluate(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    data: Annotated[Path, typer.Option(help="Manifest of the clips.")],
    rounds: Annotated[int, typer.Option(min=1, help="Random offsets per clip.")] = 25,
    split: Annotated[
        Literal["train", "valid", "test"], typer.Option(help="Which clips of the manifest.")
    ] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the random offsets.")] = 0,
    features: Annotated[
        Literal["store", "online"], typer.Option(help="Encode every clip once, or every draw.")
    ] = "store",
    controls: Annotated[bool, typer.Option(help="Also score with a wrong or blank stream.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write the report here, as JSON.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model on clips that are in sync, each cut at random offsets.

    Example: zoo evaluate runs/mine --data clips/manifest.parquet --rounds 25
    """
    from zoo.evaluation.report import check_writable, evaluate_manifest, write_report

    if out is not None:
        check_writable(out)
    with progress_bar(f"evaluating {model}", hidden=as_json) as progress:
        report = evaluate_manifest(
            model,
            data,
            split=split,
            rounds=rounds,
            seed=seed,
            features=features,
            with_controls=controls,
            device=device,
            progress=progress,
        )
    if out is not None:
        write_report(report, out)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    table = Table(
        title=f"{report['model']} on {report['num_clips']} {report['split']} clips x "
        f"{report['rounds']} random offsets",
        title_justify="left",
    )
    for column in ("", "exact", "+-1 class", "mean error"):
        table.add_column(column, justify="left" if not column else "right")
    spread = report["spread"]
    table.add_row("all draws", *_cells(report["pooled"], spread))
    if "with_common_event" in report:
        share = report["common_event_share"]
        table.add_row(
            f"crops that share an event ({share:.1%})", *_cells(report["with_common_event"])
        )
    for name, scores in report["controls"].items():
        table.add_row(f"[dim]control: {name}[/]", *_cells(scores))
    table.add_row("[dim]chance[/]", *_cells(report["chance"]))
    if "sliding" in report:
        table.add_row("[dim]sliding check of the features[/]", *_cells(report["sliding"]))
    console = Console()
    console.print(table)
    if report["left_out"]:
        console.print(
            f"[yellow]{len(report['left_out'])} clips left out[/]; the first: "
            f"{next(iter(report['left_out'].values()))}"
        )


def _cells(scores: dict[str, float], spread: dict[str, float] | None = None) -> list[str]:
    cells = [f"{scores['accuracy']:.1%}", f"{scores['within_one']:.1%}"]
    error = f"{scores['mean_abs_error_s']:.3f} s"
    if spread is not None:
        cells = [
            f"{cells[0]} ± {100 * spread['accuracy']:.1f}",
            f"{cells[1]} ± {100 * spread['within_one']:.1f}",
        ]
        error = f"{error} ± {spread['mean_abs_error_s']:.3f}"
    return [*cells, error]
