"""``zoo convert``: published checkpoints to model folders and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from zoo.cli.options import Classes


def convert(
    source: Annotated[str, typer.Argument(metavar="PATH", help="Checkpoint; with --to, a model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder; with --to, a file.")],
    format_name: Annotated[
        str | None, typer.Option("--format", help="Layout of the checkpoint: zoo list formats.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Write a model in this layout; 'published' finds the one that fits."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting that the checkpoint does not tell: encoder.mode=apart."
        ),
    ] = None,
    classes: Classes = None,
) -> None:
    """Convert a published checkpoint to a model folder, or a model folder back.

    Example: zoo convert 24-01-04T16-39-21.pt -o synchformer

    Example: zoo convert synchformer --to published -o theirs.pt
    """
    from zoo.errors import ModelError

    if out.exists() and (out.is_file() or to is not None or any(out.iterdir())):
        raise ModelError(f"{out} exists already; take another -o")
    console = Console()
    if to is None:
        done = _convert(Path(source), out, format_name, settings or [], classes)
    elif format_name is not None:
        raise ModelError("--format says what a checkpoint is; to write one, --to alone is enough")
    elif settings or classes is not None:
        raise ModelError(
            "--set and --classes add to what a checkpoint tells; leave them out with --to"
        )
    else:
        done = _export(source, out, to)
    console.print(done, soft_wrap=True, highlight=False, markup=False)


def _convert(
    path: Path, folder: Path, format_name: str | None, settings: list[str], classes: Path | None
) -> str:
    from zoo.catalog.convert import convert_checkpoint
    from zoo.catalog.entries import read_description
    from zoo.data.class_names import read_class_names
    from zoo.errors import ModelError
    from zoo.models.settings import read_assignments

    if path.is_dir():
        raise ModelError(
            f"{path} is a folder; to write its model in a published layout: "
            f"zoo convert {path} --to published -o FILE.pt"
        )
    layout = convert_checkpoint(
        path,
        folder,
        format=format_name,
        settings=read_assignments(settings),
        classes=read_class_names(classes) if classes is not None else (),
    )
    described = read_description(folder)
    caution = described["converted_from"].get("caution")
    return (
        f"{path} ({layout}, {described['parameters'] / 1e6:.2f} M parameters) is the model folder "
        f"{folder} now; try: zoo info {folder}" + (f"\ncaution: {caution}" if caution else "")
    )


def _export(source: str, file: Path, to: str) -> str:
    from zoo.catalog.convert import export_checkpoint
    from zoo.catalog.entries import resolve

    layout = export_checkpoint(resolve(source), file, to)
    return f"{file} holds {source} in the layout {layout}"
