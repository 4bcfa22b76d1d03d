"""``zoo attribute``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from zoo.cli.options import AudioTrack, Overwrite, VideoTrack
from zoo.cli.output import file_name, print_json, progress_bar
from zoo.timeline import describe_offset

if TYPE_CHECKING:
    from zoo.attribution import Attribution, Evidence

MOST_MOMENTS = 5  # that are named, the strongest first

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Plot to draw: .png, .svg, .pdf.")]
Against = Annotated[
    Path | None,
    typer.Option(
        help="Clip, or folder to sample one from, that stands in for what is masked; "
        "default: the mean."
    ),
]
Replace = Annotated[
    Literal["tokens", "content"],
    typer.Option(help="Mask after the extractor, or the content before it (paper)."),
]
Keep = Annotated[
    float | None,
    typer.Option(help="Share of chunks a mask keeps; default: the most telling, by trial."),
]
Start = Annotated[
    float | None,
    typer.Option(help="Start of the crop, seconds; default: where the model is most sure."),
]
Offset = Annotated[
    float | None,
    typer.Option(help="Offset that counts as right, seconds; default: what the model says."),
]


def attribute(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    clip: Annotated[Path, typer.Argument(help="The clip.")],
    *,
    out: Out = None,
    against: Against = None,
    replace: Replace = "tokens",
    masks: Annotated[int, typer.Option(min=1, help="Random masks per modality.")] = 1000,
    keep: Keep = None,
    chunk: Annotated[float, typer.Option(help="Length of a chunk, seconds.")] = 0.1,
    start: Start = None,
    offset: Offset = None,
    audio_track: AudioTrack = None,
    video_track: VideoTrack = None,
    seed: Annotated[int, typer.Option(min=0, help="Of masks and stand-in.")] = 0,
    overwrite: Overwrite = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Show which moments of sound and picture the offset is read from (paper section 4.1).

    Example: zoo attribute tiny-synthetic clip.mp4 -o evidence.png
    """
    from zoo.attribution import Options
    from zoo.attribution import attribute as find_evidence
    from zoo.inference.load import load_offsets
    from zoo.inference.offset_plot import require_plot
    from zoo.media.apart import reading_apart

    if out is not None:
        require_plot(out, overwrite=overwrite)
    predictor = load_offsets(model, device, synchronizability=None)
    options = Options(replace=replace, masks=masks, keep=keep, chunk_s=chunk, seed=seed)
    bar = progress_bar("masks", hidden=as_json or not sys.stderr.isatty())
    with reading_apart(), bar as progress:
        found = find_evidence(
            predictor,
            clip,
            against=against,
            start_s=start,
            reference_s=offset,
            audio_track=audio_track,
            video_track=video_track,
            options=options,
            progress=progress,
        )
    if out is not None:
        from zoo.attribution.evidence_plot import draw

        draw(found, out)
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found, out)


def _show(found: Attribution, out: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{file_name(found.path)}[/], {found.start_s:.2f} s to {found.end_s:.2f} s")
    console.print(
        f"  offset {found.offset_s:+.2f} s (probability {found.probability:.2f}): "
        f"{describe_offset(found.offset_s)}"
    )
    if abs(found.reference_s - found.offset_s) > found.tolerance_s:
        console.print(f"  [yellow]note:[/] counted as right: {found.reference_s:+.2f} s")
    for name, evidence in (("picture", found.vision), ("sound", found.audio)):
        console.print(f"  evidence in the {name}: {_moments(found, evidence)}")
    if out is not None:
        console.print(f"  plot: {escape(str(out))}")


def _moments(found: Attribution, evidence: Evidence) -> str:
    if not evidence.right:
        return "none can be found: no mask leaves the offset right"
    moments_s = found.moments_s(evidence)[:MOST_MOMENTS]
    if not moments_s:
        return "spread over the crop, no moment stands out"
    return ", ".join(f"{start_s:.2f} to {end_s:.2f} s" for start_s, end_s in moments_s)
