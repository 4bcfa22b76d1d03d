"""``zoo fix``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from zoo.catalog.entries import BY_CATALOG
from zoo.cli.options import Precision, Synchronizability, VideoTrack
from zoo.cli.output import file_name, print_json, progress_bar

if TYPE_CHECKING:
    from zoo.inference.repair import Repair

DEFAULT_CONFIDENCE = 0.8  # zoo.inference.repair.MIN_CONFIDENCE, which is slow to import


def fix(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    clip: Annotated[Path, typer.Argument(help="The clip, which stays as it is.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Repaired copy; its suffix chooses the container.")
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
    if the model is not sure.

    Example: zoo fix tiny-synthetic late.mp4 -o fixed.mp4
    """
    from zoo.inference.load import load_offsets
    from zoo.inference.repair import repair
    from zoo.media.apart import reading_apart
    from zoo.media.remux import require_writable

    require_writable(clip, out, overwrite=overwrite)
    predictor = load_offsets(model, device, synchronizability, precision)
    bar = progress_bar("crops", hidden=as_json or not sys.stderr.isatty())
    with reading_apart(), bar as progress:
        done = repair(
            predictor,
            clip,
            out,
            min_confidence=confidence,
            max_offset_s=max_offset,
            audio_track=audio_track,
            video_track=video_track,
            force=force,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json(done.as_dict())
    else:
        _show(done)


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
