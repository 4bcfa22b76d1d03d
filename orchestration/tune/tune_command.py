"""``zoo tune``: the best segment length and overlap, or the best of any other settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zoo.cli.training_options import (
    Address,
    Aggregator,
    AsJson,
    CpusPerWorker,
    Extractor,
    Features,
    GpusPerWorker,
    Head,
    Init,
    Preset,
    Resume,
    Settings,
)

if TYPE_CHECKING:
    from orchestration.tune.session import Session

LENGTHS, OVERLAPS, INPUT_S = "0.16,0.32,0.64,1.28", "0,0.5", 5.12


def tune(
    what: Annotated[
        str | None,
        typer.Argument(help="segment-length, or a file of settings (YAML); --resume finds it."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for trials and results.")],
    data: Annotated[Path | None, typer.Option(help="Manifest of the clips (Parquet).")] = None,
    extractor: Extractor = None,
    head: Head = None,
    aggregator: Aggregator = None,
    objective: Annotated[
        str | None, typer.Option(help="zoo list objectives.", show_default="that of the encoder")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="zoo list tasks.", show_default="that of the head")
    ] = None,
    preset: Preset = None,
    init: Init = None,
    settings: Settings = None,
    features: Features = None,
    lengths: Annotated[
        str | None, typer.Option(help="Segment lengths, s.", show_default=LENGTHS)
    ] = None,
    overlaps: Annotated[
        str | None, typer.Option(help="Shares of a segment.", show_default=OVERLAPS)
    ] = None,
    input_seconds: Annotated[
        float | None, typer.Option(help="Length of the input, s.", show_default=str(INPUT_S))
    ] = None,
    search: Annotated[
        Literal["grid", "optuna"] | None,
        typer.Option(help="Try all, or let Optuna propose.", show_default="grid"),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Points to try, for optuna.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of each point.", show_default="1")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Validation score that counts.", show_default="the first that ranks the task"
        ),
    ] = None,
    goal: Annotated[
        Literal["accuracy", "accuracy-cost"] | None,
        typer.Option(help="What to optimise.", show_default="accuracy"),
    ] = None,
    scheduler: Annotated[
        Literal["asha", "none"] | None,
        typer.Option(help="asha stops points that fall behind.", show_default="none"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="First seed of the trainings.", show_default="1")
    ] = None,
    workers_per_trial: Annotated[int, typer.Option(min=1, help="Processes of a training.")] = 1,
    gpus_per_worker: GpusPerWorker = 0,
    cpus_per_worker: CpusPerWorker = 0,
    max_concurrent: Annotated[
        int, typer.Option(min=0, help="Points at a time; 0 is as many as there is room for.")
    ] = 0,
    address: Address = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the search and list its points.")
    ] = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Search for the best segment length and overlap, or for any other settings.

    Ends with exit code 1 if a point failed; the others go on.

    Example: zoo tune segment-length --extractor ast_motionformer --data clips/manifest.parquet
    --lengths 0.32,0.64,1.28 --seeds 2 --out runs/lengths

    An interrupted search goes on with: zoo tune --out runs/lengths --resume
    """
    from orchestration.tune.search import SEARCH
    from orchestration.tune.search_options import SEGMENT_LENGTH, given_options
    from orchestration.tune.session import Options, open_session
    from zoo.experiments.overview import run_shown
    from zoo.training.resources import Resources

    resume = resume or (dry_run and (out / SEARCH).exists())
    is_new = what == SEGMENT_LENGTH and not resume
    given = given_options(
        what,
        is_resumed=resume,
        data=data,
        train=_given(
            extractor=extractor,
            head=head,
            aggregator=aggregator,
            objective=objective,
            task=task,
            preset=preset,
            init=tuple(init) if init else None,
            features=features,
        ),
        settings=settings or [],
        lengths=LENGTHS if lengths is None and is_new else lengths,
        overlaps=OVERLAPS if overlaps is None and is_new else overlaps,
        input_s=INPUT_S if input_seconds is None and is_new else input_seconds,
        rest=_given(
            search=search,
            trials=trials,
            seeds=seeds,
            metric=metric,
            goal=goal,
            scheduler=scheduler,
            seed=seed,
        ),
        gpus_per_worker=gpus_per_worker,
    )
    resources = Resources(workers_per_trial, cpus_per_worker, gpus_per_worker, address)
    session = open_session(given, out, Options(max_concurrent, resources), resume=resume)
    if dry_run:
        _show_plan(session, as_json=as_json)
    else:
        raise typer.Exit(run_shown(session, as_json=as_json))


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _show_plan(session: Session, *, as_json: bool) -> None:
    from orchestration.tune.search_rows import model_cells
    from zoo.cli.output import print_json
    from zoo.experiments.result_tables import console_table, wide_console
    from zoo.training.watch import count

    search, rows = session.search, [session.rows.row_of(p.params) for p in session.points]
    if as_json:
        print_json([session.known.row_as_json(row) for row in rows])
        return
    columns = ("point", "segments", "crop, s", "tokens", "GFLOP", "steps", "encoder", "state")
    lines = []
    for point, row in zip(session.points, rows, strict=True):
        steps = {1: point.recipe.stage1.steps, 2: point.recipe.stage2.steps}
        told = " + ".join(str(steps[stage]) for stage in point.stages)
        shared = point.key if point.has_stage1 else "own"
        state = "to do" if row.status == "open" else row.status
        lines.append((point.name, *model_cells(row), told, shared, state))
    console = wide_console()
    console.print(console_table(search.title, columns, lines, left=("point", "state")))
    if search.search == "optuna":
        told = f"Optuna will propose {search.trials} points; these are corners of the space"
    else:
        num_shared = len({point.key for point in session.points if point.has_stage1})
        told = (
            f"{count(len(session.points), 'point')} x {count(search.seeds, 'seed')} = "
            f"{count(len(session.points) * search.seeds, 'training')}, "
            f"stage I {num_shared * search.seeds} times"
        )
    console.print(told, highlight=False)
