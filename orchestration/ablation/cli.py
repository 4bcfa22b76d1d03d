"""``zoo ablate``: variants of a recipe, trained and evaluated alike, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.training_options import Address, AsJson, CpusPerWorker, GpusPerWorker, Resume

if TYPE_CHECKING:
    from orchestration.ablation.run import Ablation, Options

NOT_ALL = 1


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
    from orchestration.ablation.run import Options, open_ablation
    from zoo.training.resources import Resources

    resources = Resources(workers, cpus_per_worker, gpus_per_worker, address)
    options = Options(jobs, seeds, tuple(only or ()), resources)
    ablation = open_ablation(table, out, options, resume=resume or (dry_run and _is_begun(out)))
    if dry_run:
        _show_plan(ablation, as_json=as_json)
    else:
        raise typer.Exit(_run(ablation, options, as_json=as_json))


def _is_begun(out: Path) -> bool:
    from orchestration.ablation.run import TABLE

    return (out / TABLE).exists()


def _run(ablation: Ablation, options: Options, *, as_json: bool) -> int:
    from orchestration.ablation.overview import closing, overview, resume_command
    from orchestration.ablation.run import run_ablation
    from zoo.cli.output import print_json
    from zoo.experiments.console_tables import wide_console

    console = wide_console(stderr=as_json)
    try:
        with overview(ablation, console) as watcher:
            run_ablation(ablation, watcher)
    except KeyboardInterrupt:
        said = f"interrupted; go on with: {resume_command(ablation.out, options)}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
        return 130
    if as_json:
        print_json(ablation.as_json())
    else:
        console.print(closing(ablation), highlight=False)
    for result in ablation.failures:
        told = f"failed: {result.key}: {result.reason}"
        console.print(told, style="red", highlight=False, markup=False, soft_wrap=True)
    return NOT_ALL if ablation.failures else 0


def _show_plan(ablation: Ablation, *, as_json: bool) -> None:
    from orchestration.ablation.overview import plan_rows, plan_table
    from zoo.cli.output import print_json
    from zoo.experiments.console_tables import wide_console

    rows: list[dict[str, Any]] = plan_rows(ablation)
    if as_json:
        print_json(rows)
        return
    console = wide_console()
    console.print(plan_table(rows, ablation.table.title))
    left = sum(row["state"] != "done" for row in rows)
    console.print(f"{len(rows)} jobs, {left} to do", highlight=False)
