"""``zoo desync``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from zoo.cli.output import print_json, progress_bar

SCORES = {
    "published": "mean |offset|",
    "corrected": "mean |offset|",
    "avgen-bench": "mean |mean of the distribution|",
}
REASONS = 5  # kinds of reasons that are printed; all are in the summary


def desync(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    *,
    videos: Annotated[Path, typer.Option(help="Folder of the videos, searched recursively.")],
    audios: Annotated[
        Path | None,
        typer.Option(help="Folder of the audios, paired by name; default: the videos' own audio."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for the results; an interrupted run goes on there."
        ),
    ] = None,
    mode: Annotated[
        Literal["published", "corrected", "avgen-bench"],
        typer.Option(help="As the public scorer, without its mistakes, or as AVGen-Bench."),
    ] = "corrected",
    duration: Annotated[
        float | None,
        typer.Option(
            help="Seconds of every clip to look at; 8, and 5 with avgen-bench.", show_default=False
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Segments computed at once.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Threads; 0 is one per processor.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score how far the audio of generated clips is off (DeSync), in seconds; lower is better.

    Clips that cannot be scored are listed with the reason; ends with exit code 2 only if none can.

    Example: zoo desync tiny-synthetic --videos videos --audios generated -o scores
    """
    from zoo.desync import score

    try:
        with progress_bar(f"DeSync ({mode})", hidden=as_json) as progress:
            result = score(
                model,
                videos,
                audios,
                mode=mode,
                duration_s=duration,
                out=out,
                device=device,
                batch=batch,
                workers=workers or None,
                progress=progress,
            )
    except KeyboardInterrupt:
        if out is not None:
            typer.echo(f"what is done is kept in {out}; the same command goes on", err=True)
        raise
    if as_json:
        print_json(result.summary)
    else:
        _show(result.summary, out)


def _show(summary: dict[str, Any], out: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    title = (
        f"DeSync ({summary['mode']}) of {summary['scored']} of {summary['clips']} clips, "
        f"first {summary['duration_s']:g} s, by {summary['model']}"
    )
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    low_high = summary["interval_s"]
    interval = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
    name = f"DeSync, {SCORES[summary['mode']]}"
    table.add_row(f"[bold]{name}[/]", f"[bold]{summary['desync_s']:.3f} s[/]{interval}")
    table.add_row("median over clips", f"{summary['median_s']:.3f} s")
    table.add_row("mean |offset| the model expects", f"{summary['expected_s']:.3f} s")
    if summary["mode"] == "avgen-bench":
        most_probable = f"{summary['most_probable_s']:.3f} s"
        table.add_row("mean |offset| of the most probable offsets", most_probable)
    table.add_row("mean offset (positive: audio early)", f"{summary['signed_mean_s']:+.3f} s")
    if summary["av_align"] is not None:
        table.add_row("AV-Align, without the model", f"{summary['av_align']:.3f}")
    table.add_row("[dim]chance[/]", f"{summary['uniform_guessing_s']:.3f} s")
    table.add_row("[dim]maximum[/]", f"{summary['maximum_s']:.3f} s")
    console.print(table)
    _show_skipped(console, summary)
    if out is not None:
        console.print(f"per clip: {out / 'clips.csv'}")


def _show_skipped(console: Console, summary: dict[str, Any]) -> None:
    """Say which clips have no score, and why; alike reasons are counted."""
    if summary["notes"]:
        first = summary["notes"][0]
        console.print(
            f"[yellow]{len(summary['notes'])} clips of low confidence[/]: {first['note']}"
        )
    skipped = summary["skipped"]
    if not skipped:
        return
    console.print(f"[yellow]{len(skipped)} of {summary['clips']} clips have no score[/]:")
    for clip in skipped[:REASONS]:
        console.print(f"  {clip['name']}: {clip['reason']}", markup=False)
    if len(skipped) > REASONS:
        console.print(f"  and {len(skipped) - REASONS} more: use --json, or see clips.csv of -o")
