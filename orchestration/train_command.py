"""``zoo train``: both stages of a model, under Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.cli.training_options import (
    Address,
    Aggregator,
    Extractor,
    Features,
    Head,
    Init,
    Named,
    Preset,
    Resume,
    Settings,
)
from zoo.training import resources

Objective = Annotated[
    str | None, typer.Option(help="zoo list objectives.", show_default="that of the encoder")
]
Task = Annotated[str | None, typer.Option(help="zoo list tasks.", show_default="that of the head")]
Stage = Annotated[
    Literal["1", "2", "all"] | None, typer.Option(help="What to train.", show_default="all")
]
InitPositions = Annotated[
    Literal["interpolate", "prefix"] | None,
    typer.Option(
        help="How longer position tables of extractors are shortened.",
        show_default="interpolate",
    ),
]
Overfit = Annotated[
    int | None, typer.Option(min=1, help="Train on so many clips with fixed offsets.")
]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for processors that others use.")]
Ingest = Annotated[
    resources.Ingest | None,
    typer.Option(
        help="Who decodes: loader processes of each worker, or Ray Data, on processors "
        "beside those of the workers.",
        show_default="loader",
    ),
]


def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    *,
    extractor: Extractor = None,
    data: Annotated[Path | None, typer.Option(help="Manifest of the clips (Parquet).")] = None,
    head: Head = None,
    aggregator: Aggregator = None,
    objective: Objective = None,
    task: Task = None,
    stage: Stage = None,
    init: Init = None,
    init_positions: InitPositions = None,
    preset: Preset = None,
    recipe: Named = None,
    settings: Settings = None,
    features: Features = None,
    overfit: Overfit = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that train together.", show_default="1")
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="0 trains on CPUs.", show_default="0")
    ] = None,
    cpus_per_worker: Annotated[
        int | None,
        typer.Option(
            min=0, help="0 shares out this machine, or is 1 on a cluster.", show_default="0"
        ),
    ] = None,
    address: Address = "local",
    wait: Wait = resources.RELEASE_S,
    ingest: Ingest = None,
    resume: Resume = False,
) -> None:
    """Train both stages of a model on the clips of a manifest.

    Example: zoo train --extractor ast_motionformer --data clips/manifest.parquet --out run

    An interrupted run goes on with: zoo train --out run --resume
    """
    from orchestration.driver import launch
    from zoo.training.request import TrainRequest, read_settings
    from zoo.training.run_folder import read_starts

    request = TrainRequest(
        extractor=extractor,
        data=None if data is None else str(data.absolute()),
        head=head,
        aggregator=aggregator,
        objective=objective,
        stage=stage,
        init=tuple(map(_named, init)) if init else None,
        init_positions=init_positions,
        preset=preset,
        recipe=recipe,
        set=read_settings(settings or ()),
        features=features,
        overfit=overfit,
        seed=seed,
        task=task,
    )
    asked = {
        "workers": workers,
        "cpus_per_worker": cpus_per_worker,
        "gpus_per_worker": gpus_per_worker,
        "ingest": ingest,
    }
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    for start in read_starts(out)[-1:] if resume else ():
        given = {name: start[name] for name in resources.REMEMBERED if name in start} | given
    processors = resources.Resources(address=address, wait_s=wait, **given)
    raise typer.Exit(launch(request, out.absolute(), processors, resume=resume))


def _named(start: str) -> str:
    """Return the name of a model as it is, and a path as an absolute one."""
    from zoo.catalog.entries import lookup

    return start if lookup(start) is not None else str(Path(start).absolute())
