"""``zoo data``: manifests of clips, and what is wrong with them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.prepare import prepare
from zoo.cli.subset import subset
from zoo.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zoo.data.check import ClipReport

DEFAULT_MIN_SECONDS = 6.8  # zoo.data.check.MIN_SECONDS, which is slow to import


def check(
    clips: Annotated[list[Path], typer.Argument(help="Manifests, folders or clips.")],
    *,
    min_seconds: Annotated[
        float,
        typer.Option(help="Shortest usable clip: crop of 4.8 s + largest offset of 2 s."),
    ] = DEFAULT_MIN_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Threads; 0 is one per processor.")] = 0,
) -> None:
    """Decode every clip and say which cannot be read or learnt from, and why.

    Ends with exit code 2 only if no clip is usable.

    Example: zoo data check clips/manifest.parquet
    """
    from zoo.data.check import check_clips
    from zoo.data.clip_progress import clip_progress
    from zoo.data.find import find_clips

    paths = find_clips(clips)
    with clip_progress("checking") as progress:
        reports = check_clips(
            paths, min_seconds=min_seconds, workers=workers or None, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(_as_json(reports), indent=2))
    else:
        _print_reports(reports)
    if not any(report.is_usable for report in reports):
        first = reports[0]
        raise ManifestError(
            f"none of the {len(reports)} clips is usable; {first.path.name}: {first.problems[0]}"
        )


def merge(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests to join.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Manifest to write.")],
) -> None:
    """Join manifests to one; the clips stay where they are.

    Example: zoo data merge sparse/manifest.parquet dense/manifest.parquet -o both.parquet
    """
    from zoo.data.manifest import Manifest, common_classes

    read = [Manifest.read(path) for path in manifests]
    clips = [clip for manifest in read for clip in manifest.clips]
    doubled = len(clips) - len({clip.path for clip in clips})
    if doubled:
        raise ManifestError(f"{doubled} clips are in more than one of the manifests")
    Manifest(tuple(clips), out.absolute().parent, common_classes(read)).write(out)
    typer.echo(f"{len(clips)} clips: {out}")


def shift(
    clip: Annotated[Path, typer.Argument(help="The clip, which stays as it is.")],
    *,
    delay: Annotated[
        float, typer.Option(help="Present the audio so many seconds later (negative: earlier).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Clip to write.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output if it exists.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Put a clip out of sync by a known amount, without re-encoding.

    Example: zoo data shift clip.mp4 --delay 0.4 -o late.mp4
    """
    from zoo.media.apart import reading_apart
    from zoo.media.remux import require_writable, shift_audio
    from zoo.timeline import describe_offset

    require_writable(clip, out, overwrite=overwrite)
    with reading_apart():
        shift_audio(clip, out, delay)
    change_s = -delay  # audio that is presented later is less early
    meaning = describe_offset(change_s)
    if as_json:
        answer = {"path": str(out), "offset_change_s": change_s, "if_in_sync_before": meaning}
        typer.echo(json.dumps(answer, indent=2))
        return
    typer.echo(f"{out}: if {clip.name} was in sync, then here {meaning} (offset {change_s:+g} s)")


def _as_json(reports: Sequence[ClipReport]) -> dict[str, Any]:
    return {
        "num_clips": len(reports),
        "num_usable": sum(report.is_usable for report in reports),
        "clips": [
            {
                "path": str(report.path),
                "usable": report.is_usable,
                "duration_s": report.duration_s,
                "problems": list(report.problems),
                "notes": list(report.notes),
            }
            for report in reports
        ],
    }


def _print_reports(reports: Sequence[ClipReport]) -> None:
    """Print a table of the clips that need a look, and a summary of all."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from zoo.cli.output import file_name

    console = Console()
    shown = [report for report in reports if report.problems or report.notes]
    if shown:
        folder = Path(os.path.commonpath([report.path.absolute().parent for report in reports]))
        table = Table("clip", "usable", "why", title=f"in {folder}")
        for report in shown:
            why = "\n".join([*report.problems, *(f"note: {note}" for note in report.notes)])
            name = str(report.path.absolute().relative_to(folder))
            table.add_row(file_name(name), "yes" if report.is_usable else "[red]no[/]", escape(why))
        console.print(table)
    num_usable = sum(report.is_usable for report in reports)
    seconds = sum(report.duration_s or 0 for report in reports if report.is_usable)
    console.print(f"{num_usable} of {len(reports)} clips are usable ({seconds:.0f} s)")


COMMANDS: dict[str, Callable[..., None]] = {
    "check": check,
    "prepare": prepare,
    "merge": merge,
    "shift": shift,
    "subset": subset,
}
