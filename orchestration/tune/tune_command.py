"""``zoo tune``: the best segment length and overlap, or the best of any other settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestration.tune import INPUT_S, LENGTHS, OVERLAPS
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

What = Annotated[
    str | None,
    typer.Argument(help="segment-length, or a file of settings (YAML); --resume finds it."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for trials and results.")]
Data = Annotated[Path | None, typer.Option(help="Manifest of the clips (Parquet).")]
Objective = Annotated[
    str | None, typer.Option(help="zoo list objectives.", show_default="that of the encoder")
]
Task = Annotated[str | None, typer.Option(help="zoo list tasks.", show_default="that of the head")]
Lengths = Annotated[str | None, typer.Option(help="Segment lengths, s.", show_default=LENGTHS)]
Overlaps = Annotated[str | None, typer.Option(help="Shares of a segment.", show_default=OVERLAPS)]
InputSeconds = Annotated[
    float | None, typer.Option(help="Length of the input, s.", show_default=str(INPUT_S))
]
Method = Annotated[
    Literal["grid", "optuna"] | None,
    typer.Option(help="Try all, or let Optuna propose.", show_default="grid"),
]
Trials = Annotated[int | None, typer.Option(min=1, help="Points to try, for optuna.")]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Trainings of each point.", show_default="1")
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="Validation score that counts.", show_default="the first that ranks the task"
    ),
]
Goal = Annotated[
    Literal["accuracy", "accuracy-cost"] | None,
    typer.Option(help="What to optimise.", show_default="accuracy"),
]
Scheduler = Annotated[
    Literal["asha", "none"] | None,
    typer.Option(help="asha stops points that fall behind.", show_default="none"),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="First seed of the trainings.", show_default="1")
]
WorkersPerTrial = Annotated[int, typer.Option(min=1, help="Processes of a training.")]
MaxConcurrent = Annotated[
    int, typer.Option(min=0, help="Points at a time; 0 is as many as there is room for.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the search and list its points.")]


def tune(
    what: What = None,
    *,
    out: Out,
    data: Data = None,
    extractor: Extractor = None,
    head: Head = None,
    aggregator: Aggregator = None,
    objective: Objective = None,
    task: Task = None,
    preset: Preset = None,
    init: Init = None,
    settings: Settings = None,
    features: Features = None,
    lengths: Lengths = None,
    overlaps: Overlaps = None,
    input_seconds: InputSeconds = None,
    search: Method = None,
    trials: Trials = None,
    seeds: Seeds = None,
    metric: Metric = None,
    goal: Goal = None,
    scheduler: Scheduler = None,
    seed: Seed = None,
    workers_per_trial: WorkersPerTrial = 1,
    gpus_per_worker: GpusPerWorker = 0,
    cpus_per_worker: CpusPerWorker = 0,
    max_concurrent: MaxConcurrent = 0,
    address: Address = "local",
    dry_run: DryRun = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Search for the best segment length and overlap, or for any other settings.

    Ends with exit code 1 if a point failed; the others go on.

    Example: zoo tune segment-length --extractor ast_motionformer --data clips/manifest.parquet
    --lengths 0.32,0.64,1.28 --seeds 2 --out runs/lengths

    An interrupted search goes on with: zoo tune --out runs/lengths --resume
    """
    train = _given(extractor=extractor, head=head, aggregator=aggregator, objective=objective)
    train |= _given(task=task, preset=preset, init=tuple(init or ()) or None, features=features)
    space = _given(lengths=lengths, overlaps=overlaps, input_s=input_seconds)
    rest = _given(search=search, trials=trials, seeds=seeds, metric=metric)
    rest |= _given(goal=goal, scheduler=scheduler, seed=seed)
    given = {"data": data, "train": train, "settings": settings or (), "space": space, "rest": rest}
    shares = (workers_per_trial, cpus_per_worker, gpus_per_worker, address)
    session = _open(what, out, given, shares, max_concurrent, resume=resume, may_resume=dry_run)
    if dry_run:
        _show_plan(session, as_json=as_json)
    else:
        raise typer.Exit(_run(session, as_json=as_json))


def _open(
    what: str | None,
    out: Path,
    given: dict[str, Any],
    shares: tuple[int, int, float, str],
    max_concurrent: int,
    *,
    resume: bool,
    may_resume: bool,
) -> Session:
    from orchestration.tune.search import SEARCH
    from orchestration.tune.search_options import given_options
    from orchestration.tune.session import Options, open_session
    from zoo.training.resources import Resources

    resume = resume or (may_resume and (out / SEARCH).exists())
    resources = Resources(*shares)
    gpus = resources.gpus_per_worker
    options = given_options(what, is_resumed=resume, gpus_per_worker=gpus, **given)
    return open_session(options, out, Options(max_concurrent, resources), resume=resume)


def _run(session: Session, *, as_json: bool) -> int:
    from zoo.experiments.overview import run_shown

    return run_shown(session, as_json=as_json)


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
