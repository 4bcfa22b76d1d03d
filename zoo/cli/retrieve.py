"""``zoo retrieve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from zoo.cli.options import Overwrite
from zoo.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from zoo.retrieval.search import Retrieval

REASONS = 5  # files whose reasons are printed; all are in --json

Folder = Annotated[
    Path, typer.Option("--in", metavar="DIR", help="Clips to look among, searched recursively.")
]
Find = Annotated[
    Literal["video", "audio"],
    typer.Option(help="Videos that go with the query's audio, or audios that go with its video."),
]
IndexFolder = Annotated[
    Path | None,
    typer.Option("--index", help="Folder of the index; by default one below $ZOO_HOME (~/.zoo)."),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Plot of the hits: .png, .svg, .pdf.")
]


def retrieve(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder; needs no head.")],
    query: Annotated[Path, typer.Argument(help="An audio file or a clip.")],
    *,
    folder: Folder,
    find: Find = "video",
    top: Annotated[int, typer.Option(min=1, help="Hits.")] = 5,
    index: IndexFolder = None,
    out: Out = None,
    overwrite: Overwrite = False,
    workers: Annotated[int, typer.Option(min=1, help="Clips at a time.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the clips of a folder whose video goes with a sound, or whose sound goes with a video.

    The folder is read once for a model; later searches only read what is new or has changed. A file
    that cannot be used is reported and the others go on.

    Example: zoo retrieve runs/mine barking.wav --in clips -o hits.png

    Example: zoo retrieve runs/mine silent.mp4 --find audio --in clips
    """
    from zoo.inference.offset_plot import require_plot
    from zoo.retrieval.search import retrieve as search

    if out is not None:
        require_plot(out, overwrite=overwrite)
    try:
        with progress_bar("reading clips", hidden=as_json) as progress:
            found = search(
                model,
                query,
                folder,
                find=find,
                top=top,
                index=index,
                device=device,
                workers=workers,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo("what is read is kept in the index; the same command goes on", err=True)
        raise
    if out is not None:
        from zoo.retrieval.plot import draw

        draw(found, out)
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found, out)


def _show(found: Retrieval, out: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for rank, hit in enumerate(found.hits, start=1):
        console.print(f"{rank:3}  {hit.similarity:6.3f}  {hit.path}", markup=False)
    if found.own_rank is not None:
        console.print(
            f"the {found.find} of the query itself would be number {found.own_rank} of "
            f"{found.num_searched}"
        )
    console.print(_counts(found), markup=False)
    if found.note is not None:
        console.print(f"[yellow]note:[/] {found.note}")
    if found.failed:
        console.print(f"[yellow]{len(found.failed)} files cannot be used[/]:")
        for reason in list(found.failed.values())[:REASONS]:
            console.print(f"  {reason}", markup=False)
        if len(found.failed) > REASONS:
            console.print(f"  and {len(found.failed) - REASONS} more")
    if out is not None:
        console.print(f"Wrote {out}", markup=False)


def _counts(found: Retrieval) -> str:
    """Say how many files were compared, and how they were found."""
    parts = [f"{found.num_searched} files in {found.folder} compared"]
    if found.without_stream:
        parts.append(f"{len(found.without_stream)} without {found.find} left out")
    parts.append(f"{found.num_new} read now" if found.num_new else "none read anew")
    if found.num_gone:
        parts.append(f"{found.num_gone} gone since")
    return f"{', '.join(parts)}; index: {found.index}"
