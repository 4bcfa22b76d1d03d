"""``zoo fix``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from zoo.catalog.entries import BY_CATALOG
from zoo.cli.options import Precision, Synchronizability, VideoTrack
from zoo.cli.output import file_name, print_json, progress_bar
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.inference.offset_predictor import OffsetPredictor
    from zoo.inference.repair import Repair

DEFAULT_CONFIDENCE = 0.8  # zoo.inference.repair.MIN_CONFIDENCE, which is slow to import


def fix(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    clip: Annotated[
        Path, typer.Argument(help="The clip, or a folder of clips; they stay as they are.")
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Repaired copy, whose suffix chooses the container; or the folder of the copies.",
        ),
    ],
    confidence: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Refuse if the model is less sure than this."),
    ] = DEFAULT_CONFIDENCE,
    max_offset: Annotated[
        float | None,
        typer.Option(help="Search so far either way, seconds; default: the model's own grid."),
    ] = None,
    audio_track: Annotated[
        int | None,
        typer.Option(min=1, help="Track to listen to, from 1; all tracks are shifted alike."),
    ] = None,
    video_track: VideoTrack = None,
    synchronizability: Synchronizability = BY_CATALOG,
    force: Annotated[
        bool, typer.Option("--force", help="Repair although something speaks against it.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output if it exists.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    precision: Precision = "fp32",
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Repair a clip: shift its audio by the predicted offset, re-encode nothing, measure again.

    All streams, subtitles, chapters and tags are kept. Ends with exit code 2, and writes nothing,
    if the model is not sure. Of a folder, every clip that can be repaired is, at the same place
    below the output; what was done or refused is in repairs.csv there, and the same command goes
    on after an interruption. The exit code is 2 only if there is no copy at all.

    Example: zoo fix tiny-synthetic late.mp4 -o fixed.mp4
    """
    from zoo.inference.load import load_offsets
    from zoo.inference.repair import repair
    from zoo.media.apart import reading_apart
    from zoo.media.remux import require_writable

    options: dict[str, Any] = {
        "min_confidence": confidence,
        "max_offset_s": max_offset,
        "audio_track": audio_track,
        "video_track": video_track,
        "force": force,
        "overwrite": overwrite,
    }
    is_folder, is_quiet = clip.is_dir(), as_json or not sys.stderr.isatty()
    if not is_folder:
        require_writable(clip, out, overwrite=overwrite)
    predictor = load_offsets(model, device, synchronizability, precision)
    if is_folder:
        _fix_folder(predictor, clip, out, options, is_quiet, as_json)
        return
    with reading_apart(), progress_bar("crops", hidden=is_quiet) as progress:
        done = repair(predictor, clip, out, **options, progress=progress)
    if as_json:
        print_json(done.as_dict())
    else:
        _show(done)


def _fix_folder(
    predictor: OffsetPredictor,
    folder: Path,
    out: Path,
    options: dict[str, Any],
    is_quiet: bool,
    prints_json: bool,
) -> None:
    from zoo.inference.repair_folder import TABLE, as_json, repair_folder
    from zoo.media.apart import reading_apart

    with reading_apart(), progress_bar("clips", hidden=is_quiet) as progress:
        rows = repair_folder(predictor, folder, out, **options, progress=progress)
    if prints_json:
        print_json([as_json(row) for row in rows])
    else:
        Console(highlight=False, soft_wrap=True).print(_in_words(rows, out / TABLE))
    if all(row["error"] for row in rows):
        raise ConfigError(f"not one of {len(rows)} clips is repaired: see {out / TABLE}")


def _in_words(rows: list[dict[str, str]], table: Path) -> str:
    refused = [row for row in rows if row["error"]]
    lines = [f"[yellow]{file_name(row['path'])}:[/] {escape(row['error'])}" for row in refused]
    told = "; the column 'error' says why the others are not" if refused else ""
    lines.append(
        f"{escape(str(table))}: {len(rows) - len(refused)} of {len(rows)} clips repaired{told}"
    )
    return "\n".join(lines)


def _show(done: Repair) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{file_name(done.path)}[/]")
    console.print(f"  offset {done.offset_s:+.3f} s (confidence {done.confidence:.2f})")
    console.print(f"[bold]{file_name(done.out)}[/]")
    moved = "later" if done.delay_s >= 0 else "earlier"
    console.print(f"  the audio plays {abs(done.delay_s):.3f} s {moved}; nothing is re-encoded")
    if done.residue_s is not None:
        console.print(
            f"  measured again: offset {done.residue_s:+.3f} s "
            f"(confidence {done.residue_confidence:.2f})"
        )
    for warning in done.warnings:
        console.print(f"  [yellow]warning:[/] {escape(warning)}")
