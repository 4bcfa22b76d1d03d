"""The table of a search: a row for every point, the best, the frontier; and its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.tune.point_work import PointResult
from orchestration.tune.points import TRIALS, Point, folder_of, name_of, resolve
from orchestration.tune.search import LENGTH, OVERLAP, Params, Search
from zoo.contracts import Score, TaskSpec
from zoo.errors import ZooError
from zoo.experiments.result_tables import (
    CHANCE,
    MISSING,
    NONE,
    KnownTable,
    chance_cell,
    column_title,
    csv_text,
    markdown_table,
    minutes,
    page,
    score_cell,
    score_words,
    seeds_sentence,
)
from zoo.experiments.results import RUN, SeedResults, chance_of, read_result, scores_of
from zoo.experiments.run_cost import Cost, mean_cost
from zoo.experiments.settings_plot import PlotPoint, SettingsPlot
from zoo.models.cost import ModelCost

BEST, FRONTIER = "**best**", "frontier"
PARTS = ("encoder", "head")
"""What a training takes is counted in two parts: stage I and features, and the rest."""


@dataclass(frozen=True)
class Row(SeedResults[PointResult]):
    """One point of a search.

    Attributes:
        params: where it lies.
        point: what it resolves to; None if it cannot be trained.
    """

    params: Params
    point: Point | None

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

    @property
    def flops(self) -> int:
        """Operations per clip, or 0 if they are not known."""
        return 0 if self.cost is None else self.cost.flops

    def training(self, part: str) -> Cost | None:
        """Return what a part took, the mean over trainings to the end."""
        return mean_cost(getattr(result, part) for result in self.results if result.is_done)

    def outcome(self) -> str:
        """Say how the point ended."""
        if self.status == "failed":
            reason = next((r.reason for r in self.results if r.status == "failed"), "")
            return f"failed: {reason}"
        tasks = [] if self.point is None else [self.point.recipe.task]
        told = score_words(self, scores_of(tasks, ranked=True))
        if not told:
            return self.status
        return f"{told}, stopped" if self.status == "stopped" else told


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
            result = read_result(file.parent, PointResult)
            if result is not None:
                began = file.stat().st_mtime
                found.setdefault(repr(result.params), (began, result.params))
        return [params for _, params in sorted(found.values(), key=lambda one: one[0])]

    def row_of(self, params: Params) -> Row:
        """Return the row of one point."""
        seeds = self.search.train_seeds
        found = (read_result(folder_of(self.out, params, seed), PointResult) for seed in seeds)
        results = tuple(result for result in found if result is not None)
        return Row(results, len(seeds), params, self._point(params))

    def _point(self, params: Params) -> Point | None:
        key = repr(params)
        if key not in self._points:
            try:
                self._points[key] = resolve(self.search, params, self.gpus_per_worker)
            except ZooError:
                self._points[key] = None
        return self._points[key]


def merit(row: Row, metric: Score) -> float:
    """Return what makes a row that has a score better than another: the higher, the better."""
    mean = row.mean(metric.name) or 0.0
    return mean if metric.is_higher_better else -mean


def best_of(rows: Sequence[Row], metric: Score) -> Row | None:
    """Return the best point that was trained to the end with every seed; ties go to the cheaper."""
    done = [row for row in rows if row.status == "done" and row.values(metric.name)]
    return max(done, key=lambda row: (merit(row, metric), -row.flops), default=None)


def frontier(rows: Sequence[Row], metric: Score) -> list[Row]:
    """Return the points that no other beats in score and cost at once, the cheapest first."""
    done = [row for row in rows if row.status == "done" and row.values(metric.name)]
    kept: list[Row] = []
    for row in sorted(done, key=lambda row: (row.flops, -merit(row, metric))):
        if not kept or merit(row, metric) > merit(kept[-1], metric):
            kept.append(row)
    return kept


def best_run(row: Row, metric: Score, out: Path) -> tuple[int, Path]:
    """Return the seed of the best training of a row, and its folder."""
    sign = 1 if metric.is_higher_better else -1
    scored = [result for result in row.scored if metric.name in result.scores]
    best = max(scored, key=lambda result: (sign * result.scores[metric.name], -result.seed))
    return best.seed, folder_of(out, row.params, best.seed) / RUN


def metric_of(search: Search, task: TaskSpec) -> Score:
    """Return the score that counts."""
    return task.score(search.metric or task.scores[0].name)


@dataclass(frozen=True)
class SearchTable(KnownTable):
    """A search with what is known of its points."""

    search: Search
    rows: Sequence[Row]

    @property
    def _points(self) -> list[Point]:
        return [row.point for row in self.rows if row.point is not None]

    @property
    def metric(self) -> Score | None:
        """The score that counts; None where no point can be trained."""
        points = self._points
        return metric_of(self.search, points[0].recipe.task) if points else None

    @property
    def scores(self) -> list[Score]:
        """All scores of the task."""
        return scores_of(point.recipe.task for point in self._points)

    @property
    def chance(self) -> dict[str, float] | None:
        """What guessing scores."""
        points = self._points
        return chance_of(points[0].recipe) if points else None

    @property
    def best(self) -> Row | None:
        """The best point that was trained to the end."""
        return None if self.metric is None else best_of(self.rows, self.metric)

    @property
    def frontier(self) -> list[Row]:
        """The points that no other beats in score and cost at once."""
        return [] if self.metric is None else frontier(self.rows, self.metric)

    # --- files ---

    @property
    def has_scores(self) -> bool:
        """Whether there is anything to draw."""
        return any(row.scored for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Return everything there is to know, ready for JSON."""
        return {
            "search": self.search.model_dump(mode="json"),
            "chance": self.chance,
            "rows": [self.row_as_json(row) for row in self.rows],
            "best": None if self.best is None else self.best.params,
            "frontier": [row.params for row in self.frontier],
        }

    def row_as_json(self, row: Row) -> dict[str, Any]:
        """Return all that is known of a row, ready for JSON."""
        layout = None if row.point is None else row.point.recipe.model.layout.model_dump()
        cost = row.cost
        shown = None if cost is None else {**cost.model_dump(), "flops": cost.flops}
        training = {part: row.training(part) for part in PARTS}
        return {
            "params": row.params,
            "status": row.status,
            "num_seeds": len(row.scored),
            **row.statistics(self.scores),
            "layout": layout,
            "cost": shown,
            "training": {k: None if v is None else v.model_dump() for k, v in training.items()},
            "results": [result.model_dump() for result in row.results],
        }

    def as_csv(self) -> str:
        """Return a line for every training that has ended."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.params))
        scores = [score.name for score in self.scores]
        model = ("segments", "tokens", "flops", "parameters")
        costs = [f"{part}_{clock}" for part in PARTS for clock in ("wall_s", "cpu_s")]
        lines = []
        for row in self.rows:
            size = [None if row.cost is None else getattr(row.cost, name) for name in model]
            for result in row.results:
                values = [row.params.get(name) for name in names] + [result.seed, result.status]
                values += [result.scores.get(name) for name in scores]
                for cost in (result.encoder, result.head):
                    values += [cost.wall_s, cost.cpu_s]
                lines.append([*values, *size, result.reason])
        return csv_text([*names, "seed", "status", *scores, *costs, *model, "reason"], lines)

    def plot(self, path: Path) -> Path:
        """Draw lines for every overlap, or the score against every setting; and the cost."""
        metric, search, best, front = self.metric, self.search, self.best, self.frontier
        assert metric is not None
        cheapest_first = sorted(self.rows, key=lambda row: row.flops)
        points = [
            PlotPoint(
                row.params,
                row,
                gflops=None if row.cost is None else row.flops / 1e9,
                label=f"{row.params[LENGTH]:g} s" if search.is_segment_length else "",
                is_done=row.status == "done",
                is_best=row is best,
                is_on_frontier=row in front,
            )
            for row in cheapest_first
        ]
        plot = SettingsPlot(search.title, points, metric, self.chance or {})
        if not search.is_segment_length:
            return plot.draw_settings(path, search.space)
        ranked = scores_of((point.recipe.task for point in self._points), ranked=True)
        lines = (OVERLAP, search.overlaps())
        return plot.draw_lines(path, ranked, LENGTH, "segment length, s", lines)

    # --- the page ---

    def markdown(self) -> str:
        """Return the table as a page."""
        ended = sum(row.status != "open" for row in self.rows)
        num = next((r.num for row in self.rows for r in row.scored if r.num), None)
        opening = seeds_sentence(self.search.seeds)
        if num is not None:
            opening += f" {num} validation samples each."
        opening += f" {ended} of {self.search.num_points} points have ended."
        note = (
            "GFLOP: operations of a prediction for one crop. Core-minutes: processor time of one "
            "training; points with the same encoder (stage I and features) share it."
        )
        lost = {
            f"{name_of(row.params)}, seed {result.seed}": result.reason
            for row in self.rows
            for result in row.results
            if result.reason
        }
        parts = [opening, markdown_table(*self.cells()), note]
        title, heading = self.search.title, "Failed or stopped"
        return page(title, parts, lost, has_plot=self.has_scores, failed=heading)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows of the table (table 3's shape), chance last."""
        names, scores, chance = list(self.search.space), self.scores, self.chance
        header = [f"{LENGTH}, s" if name == LENGTH else name for name in names]
        header += ["segments", "crop, s", *map(column_title, scores)]
        header += ["tokens", "GFLOP", "core-min: encoder", "head", ""]
        best, front, lines = self.best, self.frontier, []
        for row in self._sorted():
            model = model_cells(row)
            line = [
                f"{value:.4g}" if isinstance(value, float) else str(value)
                for value in (row.params[name] for name in names)
            ]
            line += [*model[:2], *(score_cell(row, score) for score in scores), *model[2:]]
            spent = [row.training(part) for part in PARTS]
            line += [MISSING if cost is None else minutes(cost.cpu_s) for cost in spent]
            mark = FRONTIER if self.search.goal == "accuracy-cost" and row in front else ""
            status = "" if row.status in {"done", "open"} else row.status
            lines.append([*line, BEST if row is best else mark or status])
        if chance is not None:
            last = [CHANCE] + [""] * (len(names) + 1)
            last += [chance_cell(score, [chance]) for score in scores]
            lines.append(last + [""] * (len(header) - len(last)))
        return header, lines

    def _sorted(self) -> list[Row]:
        """Order a table of segment lengths as the paper does; others by their score."""
        if self.search.is_segment_length:
            return sorted(self.rows, key=lambda row: (row.params[LENGTH], row.params[OVERLAP]))
        metric = self.metric
        if metric is None:
            return list(self.rows)
        worst_last = float("-inf")
        return sorted(
            self.rows,
            key=lambda row: -(merit(row, metric) if row.values(metric.name) else worst_last),
        )


def model_cells(row: Row) -> list[str]:
    """Return segments, crop, tokens and operations."""
    cost = row.cost
    if cost is None:
        return [NONE] * 4
    gflops = f"{cost.flops / 1e9:.3g}"
    return [str(cost.segments), f"{cost.covered_s:g}", str(cost.tokens), gflops]
