"""``zoo calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli.output import print_json, progress_bar


def calibrate(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder, which is changed.")],
    *,
    data: Annotated[Path, typer.Option(help="Manifest of clips that are in sync.")],
    split: Annotated[
        Literal["train", "valid", "test"],
        typer.Option(help="Which of its clips; none that the model was trained on."),
    ] = "valid",
    seed: Annotated[int, typer.Option(min=0, help="Of offsets and windows.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Find out what a model's confidence is worth, and keep that in its folder.

    Training does this by itself. It is for models that were trained before or elsewhere, and for
    footage of another kind.

    Example: zoo calibrate runs/mine --data clips/manifest.parquet
    """
    from zoo.catalog.entries import resolve
    from zoo.evaluation.calibrate_folder import calibrate_model

    with progress_bar("clips", hidden=as_json) as progress:
        rows = calibrate_model(resolve(model), model, data, split, seed, device, progress)
    if as_json:
        print_json(rows)
        return
    typer.echo("windows  temperature  confidence  right    calibration error")
    for row in rows:
        typer.echo(
            f"{row['windows']:7}  {row['temperature']:11.2f}  {row['confidence']:10.1%}  "
            f"{row['right']:6.1%}  {row['ece']:6.1%}"
        )
    typer.echo("(on the clips that the temperatures were fitted on: zoo evaluate takes others)")
    typer.echo(f"kept in {resolve(model)}, and used by predict, fix and the demo")
