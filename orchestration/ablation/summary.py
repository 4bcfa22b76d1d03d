"""From results to a table: mean and spread over seeds for every variant and data set."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.ablation.outcome import Result
from orchestration.ablation.plan import Job, Key
from orchestration.ablation.table import Table
from zoo.evaluation.offset_metrics import chance
from zoo.experiments.run_cost import Cost

SCORES = ("exact", "within_one", "mean_abs_error_s")


@dataclass(frozen=True)
class Cell:
    """One variant on one data set.

    Attributes:
        jobs: keys of its jobs, one for each seed.
        results: of those that have ended.
    """

    jobs: tuple[Key, ...]
    results: tuple[Result, ...]

    @property
    def done(self) -> tuple[Result, ...]:
        """Results with scores."""
        return tuple(result for result in self.results if result.is_done)

    @property
    def has_failed(self) -> bool:
        """Whether a job failed."""
        return len(self.done) < len(self.results)

    def values(self, score: str) -> list[float]:
        """Return a score of every seed that has one."""
        return [getattr(result, score) for result in self.done]

    def mean(self, score: str) -> float | None:
        """Return the mean over seeds."""
        values = self.values(score)
        return statistics.fmean(values) if values else None

    def spread(self, score: str) -> float | None:
        """Return the sample standard deviation over seeds; None for a single one."""
        values = self.values(score)
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Row:
    """One variant on all data sets; a data set on which it is not trained is missing."""

    variant: str
    cells: Mapping[str, Cell]
    job: Job

    @property
    def training(self) -> Cost | None:
        """What one training takes, the mean over jobs; towers of others are counted in."""
        costs = [result.training for cell in self.cells.values() for result in cell.done]
        if not costs:
            return None
        return Cost(
            wall_s=statistics.fmean(cost.wall_s for cost in costs),
            cpu_s=statistics.fmean(cost.cpu_s for cost in costs),
        )

    @property
    def is_sharing(self) -> bool:
        """Whether it starts from towers of another variant."""
        return self.job.source is not None


def summarise(table: Table, jobs: Iterable[Job], results: Mapping[Key, Result]) -> list[Row]:
    """Return a row for every variant, in the order of the table."""
    jobs = list(jobs)
    rows = []
    for name in table.variants:
        cells = {}
        for data in table.data_of(name):
            keys = tuple(j.key for j in jobs if (j.key.data, j.key.variant) == (data, name))
            cells[data] = Cell(keys, tuple(results[key] for key in keys if key in results))
        rows.append(Row(name, cells, next(job for job in jobs if job.key.variant == name)))
    return rows


def guesses(jobs: Iterable[Job]) -> list[dict[str, float]]:
    """Return what guessing scores: one entry, unless variants have other offset classes."""
    grids = {job.recipe.model.grid for job in jobs}
    scores = [chance(grid) for grid in grids]
    return [
        {
            "exact": s.accuracy,
            "within_one": s.within_one,
            "mean_abs_error_s": s.mean_abs_error_s,
        }
        for s in sorted(scores, key=lambda s: s.accuracy)
    ]


def as_json(table: Table, jobs: list[Job], results: Mapping[Key, Result]) -> dict[str, Any]:
    """Return everything there is to know, ready for JSON."""
    return {
        "title": table.title,
        "table": table.as_dict(),
        "chance": guesses(jobs),
        "variants": {row.variant: _row(row) for row in summarise(table, jobs, results)},
        "results": [results[job.key].model_dump() for job in jobs if job.key in results],
        "num_jobs": len(jobs),
    }


def _row(row: Row) -> dict[str, Any]:
    job = row.job
    return {
        "extractors": [
            job.recipe.model.audio.extractor.name,
            job.recipe.model.vision.extractor.name,
        ],
        "head": job.recipe.model.head.name if job.recipe.model.head else None,
        "stages": list(job.stages),
        "steps": planned_steps(job),
        "parameters": job.parameters,
        "training": None if row.training is None else row.training.model_dump(),
        "towers": None if job.source is None else job.source._asdict() | {"seed": "the same"},
        "data": {name: _cell(cell) for name, cell in row.cells.items()},
        "recipe": job.recipe.model_copy(update={"seed": 0}).model_dump(mode="json"),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "num_seeds": len(cell.done),
        "num_failed": len(cell.results) - len(cell.done),
        "num_jobs": len(cell.jobs),
        "mean": {score: cell.mean(score) for score in SCORES},
        "std": {score: cell.spread(score) for score in SCORES},
    }


def planned_steps(job: Job) -> dict[str, int]:
    """Return the steps of the stages that are trained."""
    steps = {1: job.recipe.stage1.steps, 2: job.recipe.stage2.steps}
    return {f"stage{stage}": steps[stage] for stage in job.stages}
