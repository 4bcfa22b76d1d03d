"""From results to rows: mean and spread over seeds of every point, the best, the frontier."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.tune.outcome import RUN, SCORES, Result, read_result
from orchestration.tune.points import TRIALS, Point, folder_of, resolve
from orchestration.tune.search import Params, Search
from zoo.errors import ZooError
from zoo.experiments.run_cost import Cost
from zoo.models.cost import ModelCost


@dataclass(frozen=True)
class Row:
    """One point of a search.

    Attributes:
        params: where it lies.
        results: of its trainings so far.
        num_seeds: trainings that it is to have.
        point: what it resolves to; None if it cannot be trained.
    """

    params: Params
    results: tuple[Result, ...]
    num_seeds: int
    point: Point | None

    @property
    def scored(self) -> tuple[Result, ...]:
        """Results with scores: trained to the end, or stopped after a validation."""
        return tuple(result for result in self.results if result.exact is not None)

    @property
    def status(self) -> str:
        """Return done, stopped, failed, or what is left open."""
        kinds = {result.status for result in self.results}
        for kind in ("failed", "stopped"):
            if kind in kinds:
                return kind
        return "done" if len(self.results) == self.num_seeds else "open"

    @property
    def cost(self) -> ModelCost | None:
        """What the model costs per clip."""
        return None if self.point is None else self.point.cost

    def values(self, score: str) -> list[float]:
        """Return a score of every training that has one."""
        return [result.score(score) for result in self.scored]

    def mean(self, score: str) -> float | None:
        """Return the mean over seeds."""
        values = self.values(score)
        return statistics.fmean(values) if values else None

    def spread(self, score: str) -> float | None:
        """Return the sample standard deviation over seeds; None for a single one."""
        values = self.values(score)
        return statistics.stdev(values) if len(values) > 1 else None

    def training(self, part: str) -> Cost | None:
        """Return what ``towers`` or ``head`` took, the mean over trainings to the end."""
        costs = [getattr(result, part) for result in self.results if result.is_done]
        if not costs:
            return None
        return Cost(
            wall_s=statistics.fmean(cost.wall_s for cost in costs),
            cpu_s=statistics.fmean(cost.cpu_s for cost in costs),
        )


class Rows:
    """The rows of a search, read from its folder; points are resolved once."""

    def __init__(
        self, search: Search, out: Path, points: Iterable[Point] = (), gpus_per_worker: float = 0
    ) -> None:
        self.search, self.out, self.gpus_per_worker = search, out, gpus_per_worker
        self._points: dict[str, Point | None] = {repr(p.params): p for p in points}

    def read(self) -> list[Row]:
        """Return a row for every point of a grid, or for every point that was begun."""
        wanted = self.search.grid() if self.search.search == "grid" else self._begun()
        return [self.row_of(params) for params in wanted]

    def _begun(self) -> list[Params]:
        found: dict[str, tuple[float, Params]] = {}
        for file in (self.out / TRIALS).glob("*/seed-*/result.json"):
            result = read_result(file.parent)
            if result is not None:
                began = file.stat().st_mtime
                found.setdefault(repr(result.params), (began, result.params))
        return [params for _, params in sorted(found.values(), key=lambda one: one[0])]

    def row_of(self, params: Params) -> Row:
        """Return the row of one point."""
        seeds = self.search.train_seeds
        found = (read_result(folder_of(self.out, params, seed)) for seed in seeds)
        results = tuple(result for result in found if result is not None)
        return Row(params, results, len(seeds), self._point(params))

    def _point(self, params: Params) -> Point | None:
        key = repr(params)
        if key not in self._points:
            try:
                self._points[key] = resolve(self.search, params, self.gpus_per_worker)
            except ZooError:
                self._points[key] = None
        return self._points[key]


def best_of(rows: Sequence[Row], metric: str) -> Row | None:
    """Return the best point that was trained to the end with every seed; ties go to the cheaper."""
    done = [row for row in rows if row.status == "done"]
    return max(done, key=lambda row: (row.mean(metric) or 0.0, -_flops(row)), default=None)


def frontier(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return the points that no other beats in accuracy and cost at once, the cheapest first."""
    done = sorted(
        (row for row in rows if row.status == "done"),
        key=lambda row: (_flops(row), -(row.mean(metric) or 0.0)),
    )
    kept: list[Row] = []
    for row in done:
        if not kept or (row.mean(metric) or 0.0) > (kept[-1].mean(metric) or 0.0):
            kept.append(row)
    return kept


def _flops(row: Row) -> int:
    return 0 if row.cost is None else row.cost.flops


def best_run(row: Row, metric: str, out: Path) -> tuple[int, Path]:
    """Return the seed of the best training of a row, and its folder."""
    best = max(row.scored, key=lambda result: (result.score(metric), -result.seed))
    return best.seed, folder_of(out, row.params, best.seed) / RUN


def as_dict(row: Row) -> dict[str, Any]:
    """Return all that is known of a row, ready for JSON."""
    layout = None if row.point is None else row.point.recipe.model.layout.model_dump()
    cost = row.cost
    shown = None if cost is None else {**cost.model_dump(), "flops": cost.flops}
    training = {part: row.training(part) for part in ("towers", "head")}
    return {
        "params": row.params,
        "status": row.status,
        "num_seeds": len(row.scored),
        "mean": {score: row.mean(score) for score in SCORES},
        "std": {score: row.spread(score) for score in SCORES},
        "layout": layout,
        "cost": shown,
        "training": {k: None if v is None else v.model_dump() for k, v in training.items()},
        "results": [result.model_dump() for result in row.results],
    }
