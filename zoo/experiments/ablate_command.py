"""``zoo ablate``: variants of a recipe, trained and evaluated alike, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.training_options import Address, AsJson, CpusPerWorker, GpusPerWorker, Resume

if TYPE_CHECKING:
    from zoo.experiments.ablation import Ablation
    from zoo.experiments.ablation_plan import Job


def ablate(
    table: Annotated[
        Path | None, typer.Argument(help="The table (YAML); --resume finds it in OUT.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for runs and results.")],
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    seeds: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT", help="Only this one, and what it starts from; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the table and list its jobs.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes of a training.")] = 1,
    gpus_per_worker: GpusPerWorker = 0,
    cpus_per_worker: CpusPerWorker = 0,
    address: Address = "local",
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate the variants of a table with several seeds, and write the table.

    Ends with exit code 1 if a job failed; the others go on.

    Example: zoo ablate ablations/heads.yaml --out runs/heads

    An interrupted ablation goes on with: zoo ablate --out runs/heads --resume
    """
    from zoo.experiments.ablation import TABLE, Options, open_ablation
    from zoo.experiments.overview import run_shown
    from zoo.training.resources import Resources

    resources = Resources(workers, cpus_per_worker, gpus_per_worker, address)
    options = Options(jobs, seeds, tuple(only or ()), resources)
    resume = resume or (dry_run and (out / TABLE).exists())
    ablation = open_ablation(table, out, options, resume=resume)
    if dry_run:
        _show_plan(ablation, as_json=as_json)
    else:
        raise typer.Exit(run_shown(ablation, as_json=as_json))


def _show_plan(ablation: Ablation, *, as_json: bool) -> None:
    from zoo.cli.output import print_json
    from zoo.experiments.result_tables import console_table, wide_console

    rows = _plan_rows(ablation)
    if as_json:
        print_json(rows)
        return
    console = wide_console()
    columns = ("data", "variant", "encoder, head", "steps", "starts from", "seeds", "to do")
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault((row["data"], row["variant"]), []).append(row)
    lines = []
    for (data, variant), jobs in alike.items():
        steps = " + ".join(str(value) for value in jobs[0]["steps"].values())
        seeds = ", ".join(str(row["seed"]) for row in jobs)
        left = sum(row["state"] != "done" for row in jobs)
        model = ", ".join(filter(None, (jobs[0]["extractor"], jobs[0]["head"])))
        start = jobs[0]["starts_from"] or "scratch"
        lines.append((data, variant, model, steps, start, seeds, str(left)))
    console.print(console_table(ablation.table.title, columns, lines, left=columns))
    left = sum(row["state"] != "done" for row in rows)
    console.print(f"{len(rows)} jobs, {left} to do", highlight=False)


def _plan_rows(ablation: Ablation) -> list[dict[str, Any]]:
    """Return what every job is about."""
    rows = []
    for job in ablation.jobs:
        model = job.recipe.model
        result = ablation.results.get(job.key)
        rows.append(
            {
                **job.key._asdict(),
                "extractor": model.encoder_title,
                "head": job.head,
                "task": job.recipe.task.name,
                "steps": job.steps,
                "parameters": job.parameters,
                "starts_from": _start(job),
                "state": "to do" if result is None else result.status,
                "folder": str(job.folder),
            }
        )
    return rows


def _start(job: Job) -> str | None:
    if job.source is not None:
        where = "" if job.source.data == job.key.data else f" on {job.source.data}"
        return f"encoder of {job.source.variant}{where}"
    return None if job.request.init is None else ", ".join(job.request.init)
