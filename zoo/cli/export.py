"""``zoo export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from zoo.cli.output import print_json


def export(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder, with a head.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; must not exist.")],
    format_name: Annotated[
        str,
        typer.Option(
            "--format", help="torch (a torch.export program, .pt2) or onnx (a file for ONNX)."
        ),
    ] = "torch",
    clip: Annotated[
        Path | None,
        typer.Option(help="Compare on this clip too, instead of a made-up flash and click."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, help="Largest difference of the logits; times the largest logit if above 1."
        ),
    ] = 1e-4,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write a model for use without this package, after comparing it with the model itself.

    It takes segments after the front ends and gives logits; the shapes, the front ends and the
    classes are in the file's metadata.  If the logits differ, nothing is written.

    Example: zoo export tiny-synthetic --format onnx -o model.onnx --clip clip.mp4
    """
    from zoo.export import METADATA, export

    console = Console(highlight=False, soft_wrap=True)
    with Console(stderr=True).status(f"exporting {model}"):
        done = export(model, out, format=format_name, clip=clip, tolerance=tolerance)
    if as_json:
        print_json(done.as_dict())
        return
    console.print(f"{done.path}: {done.format}, {done.num_bytes / 1e6:.1f} MB", markup=False)
    for name, shape in done.metadata["inputs"].items():
        console.print(f"  {name} ({', '.join(map(str, shape))})")
    classes = done.metadata.get("classes")
    num_outputs = done.metadata["num_outputs"] if classes is None else len(classes)
    console.print(f"  logits ({'batch' if done.batch else 1}, {num_outputs})")
    console.print(f"largest difference from the model (logits reach {done.largest_logit:.3g}):")
    for name, difference in done.differences.items():
        console.print(f"  {difference:.1e}  {name}", markup=False)
    where = (
        "metadata_props of the ONNX model" if done.format == "onnx" else f"extra file {METADATA}"
    )
    console.print(f"front ends and classes: {where}")
