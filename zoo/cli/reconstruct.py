"""``zoo reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from zoo import contracts
from zoo.cli.options import AudioTrack, Overwrite, VideoTrack
from zoo.cli.output import file_name, print_json

if TYPE_CHECKING:
    from zoo.inference.reconstruction import Reconstruction

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Plot to draw: .png, .svg, .pdf.")]
HideAudio = Annotated[
    float | None,
    typer.Option(help="Share of the audio patches to hide, 0 to 1; default: as in training."),
]
HideVision = Annotated[
    float | None,
    typer.Option(help="Share of the video patches to hide, 0 to 1; default: as in training."),
]
From = Annotated[
    Literal["audio", "vision"] | None,
    typer.Option("--from", help="Hide nothing of this modality, and all of the other one."),
]
Mask = Annotated[
    contracts.MaskMode | None,
    typer.Option(
        help="Audio patches to hide: any, whole times, whole bands, or both; "
        "default: as in training."
    ),
]
Start = Annotated[
    float | None,
    typer.Option(help="Start of the stretch, seconds; default: where both streams have begun."),
]


def reconstruct(
    model: Annotated[str, typer.Argument(help="Catalog name or folder of a model with a decoder.")],
    clip: Annotated[Path, typer.Argument(help="The clip.")],
    *,
    out: Out = None,
    hide_audio: HideAudio = None,
    hide_vision: HideVision = None,
    source: From = None,
    mask: Mask = None,
    seed: Annotated[int, typer.Option(min=0, help="Of which patches are hidden.")] = 0,
    start: Start = None,
    audio_track: AudioTrack = None,
    video_track: VideoTrack = None,
    overwrite: Overwrite = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Hide parts of a clip, and show what a pre-trained model puts there.

    Example: zoo reconstruct runs/cavmae clip.mp4 --from vision -o rebuilt.png
    """
    from zoo.inference.offset_plot import require_plot
    from zoo.inference.reconstruction import Rebuilder, choose_hiding
    from zoo.media.apart import reading_apart

    if out is not None:
        require_plot(out, overwrite=overwrite)
    rebuilder = Rebuilder(model, device)
    hiding = choose_hiding(
        rebuilder.trained,
        audio=hide_audio,
        vision=hide_vision,
        mask=mask,
        seed=seed,
        source=source,
    )
    with reading_apart():
        found = rebuilder.reconstruct(
            clip, hiding, start_s=start, audio_track=audio_track, video_track=video_track
        )
    if out is not None:
        from zoo.inference.reconstruction_plot import draw

        draw(found, out)
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found, out)


def _show(found: Reconstruction, out: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    segments = "1 segment" if found.num_segments == 1 else f"{found.num_segments} segments"
    console.print(
        f"[bold]{file_name(found.path)}[/], {found.start_s:.2f} s to {found.end_s:.2f} s, "
        f"{segments} of {found.segment_s:g} s"
    )
    for line in found.lines():
        console.print(f"  {line}")
    for note in found.notes():
        console.print(f"  [yellow]note:[/] {note}")
    if out is not None:
        console.print(f"  plot: {escape(str(out))}")
