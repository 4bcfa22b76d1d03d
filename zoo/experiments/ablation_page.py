"""The table of an ablation: its rows, and its files, rewritten after every job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.contracts import Score
from zoo.experiments.ablation_jobs import JobResult
from zoo.experiments.ablation_plan import Job, Key
from zoo.experiments.ablation_table import Table
from zoo.experiments.bar_plot import Panel, panel_scores, plot_bars
from zoo.experiments.curve_plot import Curve, CurvePanel, plot_curves
from zoo.experiments.result_tables import (
    CHANCE,
    MISSING,
    KnownTable,
    chance_cell,
    column_title,
    csv_text,
    markdown_table,
    minutes,
    page,
    score_cell,
    seeds_sentence,
    show_value,
)
from zoo.experiments.results import SeedResults, chance_of, scores_of
from zoo.experiments.run_cost import Cost, mean_cost
from zoo.registry.manager import registry
from zoo.training.runlog import read_metrics

SHARED = "†"
CURVES = "stage1.png"
_COSTS = ("training", "stage1", "stage2", "encoder")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Row:
    """One variant on all data sets; a data set on which it is not trained is missing."""

    variant: str
    cells: Mapping[str, SeedResults[JobResult]]
    job: Job

    @property
    def training(self) -> Cost | None:
        """What one training takes, the mean over jobs; encoders of others are counted in."""
        return mean_cost(r.training for cell in self.cells.values() for r in cell.scored)


@dataclass(frozen=True)
class ResultTable(KnownTable):
    """A table with what is known of its jobs.

    Attributes:
        table: what is compared.
        jobs: all of it.
        results: of those that have ended.
    """

    table: Table
    jobs: Sequence[Job]
    results: Mapping[Key, JobResult]

    @property
    def rows(self) -> list[Row]:
        """A row for every variant, in the order of the table."""
        rows = []
        for name in self.table.variants:
            cells = {}
            for data in self.table.data_of(name):
                keys = [j.key for j in self.jobs if (j.key.data, j.key.variant) == (data, name)]
                ended = tuple(self.results[key] for key in keys if key in self.results)
                cells[data] = SeedResults(ended, len(keys))
            rows.append(Row(name, cells, next(j for j in self.jobs if j.key.variant == name)))
        return rows

    def scores(self, *, ranked: bool = False) -> list[Score]:
        """Return the scores of all variants that reports hold, or those that say what is best."""
        scores = scores_of((row.job.scored for row in self.rows), ranked=ranked)
        known = {name for result in self.results.values() for name in result.scores}
        return [score for score in scores if not known or score.name in known]

    def chances(self, data: str | None = None) -> list[dict[str, float]]:
        """Return what guessing scores: one entry, unless variants answer different questions."""
        chosen = [job for job in self.jobs if data is None or job.key.data == data]
        recipes = {repr(job.recipe.model.task): job.recipe for job in chosen if job.is_of_task}
        found = [chance_of(recipe) for recipe in recipes.values()]
        others = [job.key for job in chosen if not job.is_of_task and job.key in self.results]
        reported = {repr(chance): chance for key in others if (chance := self.results[key].chance)}
        found += reported.values()  # which depends on the clips that were evaluated
        return sorted(found, key=lambda chance: list(chance.values()))

    # --- files ---

    @property
    def has_scores(self) -> bool:
        """Whether there is anything to draw."""
        return any(result.is_done for result in self.results.values())

    def as_csv(self) -> str:
        """Return a row for every job that has ended."""
        scores = [score.name for score in self.scores()]
        before = ("data", "variant", "seed", "status")
        after = ("stage1_steps", "stage2_steps", "parameters", "num_clips", "rounds", "reason")
        costs = [f"{part}_{clock}" for part in _COSTS for clock in ("wall_s", "cpu_s")]
        lines: list[list[Any]] = []
        for result in (self.results[job.key] for job in self.jobs if job.key in self.results):
            line = [getattr(result, name) for name in before]
            line += [result.scores.get(name) for name in scores]
            line += [getattr(result, name) for name in after]
            spent = [getattr(result, part) for part in _COSTS]
            lines.append([*line, *(v for cost in spent for v in (cost.wall_s, cost.cpu_s))])
        return csv_text([*before, *scores, *after, *costs], lines)

    def as_json(self) -> dict[str, Any]:
        """Return everything there is to know, ready for JSON."""
        ended = [self.results[job.key] for job in self.jobs if job.key in self.results]
        return {
            "title": self.table.title,
            "table": self.table.as_dict(),
            "chance": self.chances(),
            "variants": {row.variant: self._row_as_json(row) for row in self.rows},
            "results": [result.model_dump() for result in ended],
            "num_jobs": len(self.jobs),
        }

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        job, model = row.job, row.job.recipe.model
        kinds = {"encoders", "extractors"}
        source = job.source
        cells = {}
        for data, cell in row.cells.items():
            numbers = {
                "num_seeds": len(cell.scored),
                "num_failed": len(cell.results) - len(cell.scored),
                "num_jobs": cell.num_seeds,
            }
            cells[data] = numbers | cell.statistics(job.scored.scores)
        return {
            "extractors": [part.name for kind, part in model.components() if kind in kinds],
            "head": job.head,
            "task": job.recipe.task.name,
            "stages": list(job.stages),
            "steps": job.steps,
            "parameters": job.parameters,
            "training": None if row.training is None else row.training.model_dump(),
            "encoder": None if source is None else source._asdict() | {"seed": "the same"},
            "data": cells,
            "recipe": job.recipe.model_copy(update={"seed": 0}).model_dump(mode="json"),
        }

    def plot(self, path: Path) -> Path:
        """Draw a panel for every data set, and for every score that is no share."""
        rows, panels = self.rows, []
        for data in self.table.data:
            for scores in panel_scores(self.scores(ranked=True)):
                title = data if len(scores) > 1 else f"{data}: {scores[0].title}"
                cells = [row.cells.get(data) for row in rows]
                published = [self._published(row, beside=data) for row in rows]
                panels.append(Panel(title, scores, cells, published, self.chances(data)))
        return plot_bars(self.table.title, [row.variant for row in rows], panels, path)

    def write(self, out: Path) -> list[Path]:
        """Write all files of the table, and return them; with the curves of stage I."""
        files, panels = super().write(out), self.curves()
        if not panels:
            return files
        return [*files, plot_curves(f"{self.table.title}: stage I", panels, out / CURVES)]

    def curves(self) -> list[CurvePanel]:
        """Return how stage I went: a panel for every data set and group, a line for every variant.

        A score is that of the objective; variants whose stage I was validated once have no curve.
        """
        panels: dict[tuple[str, str, Score], CurvePanel] = {}
        for job in self.jobs:
            found = _stage1_curve(job) if job.key in self.results else None
            if found is None:
                continue
            score, curve, chance = found
            data, variant = job.key.data, job.key.variant
            group = self.table.variants[variant].group
            title = group if group and len(self.table.data) == 1 else f"{data} {group}".strip()
            new = CurvePanel(title, score, {}, chance)
            panel = panels.setdefault((data, group, score), new)
            panel.lines.setdefault(variant, []).append(curve)
        return list(panels.values())

    def _published(self, row: Row, beside: str | None = None) -> dict[str, float]:
        """Return what a paper reports of a variant, if it belongs beside a data set."""
        paper = self.table.variants[row.variant].paper
        if paper is None or (beside is not None and paper.data not in {None, beside}):
            return {}
        return paper.scores

    # --- the page ---

    def markdown(self) -> str:
        """Return the table as a page."""
        lost = {str(r.key): r.reason or "" for r in self.results.values() if not r.is_done}
        parts = [self._opening(), markdown_table(*self.cells()), *self._footnotes()]
        return page(self.table.title, parts, lost, has_plot=self.has_scores, failed="Failed")

    def _opening(self) -> str:
        done = [result for result in self.results.values() if result.is_done]
        text = seeds_sentence(len(self.table.seeds))
        for data in self.table.data:
            scored = {(r.num_clips, r.rounds) for r in done if r.data == data}
            if len(scored) == 1:
                clips, rounds = scored.pop()
                each = "" if rounds is None else f" x {rounds} samples"
                text += f" {data}: {clips} clips{each}."
        if len(self.results) < len(self.jobs):
            text += (
                f" {len(self.results)} of {len(self.jobs)} jobs have ended: {MISSING} is not known "
                "yet, (1 of 3) is the mean of one seed of three."
            )
        return text

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows of the table, chance last."""
        scores, rows = self.scores(ranked=True), self.rows
        columns = [(data, score) for data in self.table.data for score in scores]
        header = ["variant", *(f"{data}: {column_title(score)}" for data, score in columns)]
        header += ["steps", "minutes", "core-minutes", "parameters"]
        has_paper = any(self._published(row) for row in rows)
        if has_paper:
            header += [f"paper: {column_title(score)}" for score in scores]
        notes, lines = self._note_numbers(), []
        for row in rows:
            mark = str(notes[row.variant]).translate(_SUPERSCRIPTS) if row.variant in notes else ""
            line = [row.variant + mark]
            line += [_score(row, data, score) for data, score in columns]
            line += [_steps(row.job), *_minutes(row), f"{row.job.parameters:,}"]
            if has_paper:
                paper = self._published(row)
                line += [show_value(score, paper.get(score.name)) for score in scores]
            lines.append(line)
        last = [CHANCE, *(chance_cell(score, self.chances(data)) for data, score in columns)]
        lines.append(last + [""] * (len(header) - len(last)))
        return header, lines

    def _note_numbers(self) -> dict[str, int]:
        noted = [name for name, variant in self.table.variants.items() if variant.note]
        return {name: number for number, name in enumerate(noted, 1)}

    def _footnotes(self) -> list[str]:
        variants = self.table.variants
        lines = [
            f"{str(number).translate(_SUPERSCRIPTS)} {variants[name].note}"
            for name, number in self._note_numbers().items()
        ]
        starts: dict[str, list[str]] = {}
        for name, variant in variants.items():
            if variant.encoder is not None:
                where = "" if variant.encoder.data is None else f" on {variant.encoder.data}"
                starts.setdefault(f"{variant.encoder.variant}{where}", []).append(name)
        for source, names in starts.items():
            verb = "starts" if len(names) == 1 else "start"
            lines.append(
                f"{SHARED} {'; '.join(names)}: {verb} from the encoder of {source}, whose training "
                "is counted in."
            )
        lines.append(
            "Steps: stage I + stage II. Minutes (wall clock) and core-minutes (processor time) of "
            "one training, means over jobs."
        )
        return lines


def _stage1_curve(job: Job) -> tuple[Score, Curve, float | None] | None:
    """Return the first score of an objective over the validations of a job, and its chance."""
    stage1, objective = job.recipe.stage1, job.recipe.objective
    if 1 not in job.stages or objective is None or not job.run.exists():
        return None
    spec = registry().objective(objective.name)
    records = [r for r in read_metrics(job.run) if (r["stage"], r["kind"]) == (1, "valid")]
    for score in spec.curves:
        curve = {r["step"]: r[score.name] for r in records if score.name in r}
        if len(curve) > 1:
            chance = spec.chance(objective.parse(spec), stage1.clips, stage1.num_segments)
            return score, curve, chance.scores.get(score.name)
    return None


def _score(row: Row, data: str, score: Score) -> str:
    has_score = score.name in {own.name for own in row.job.scored.scores}
    return score_cell(row.cells.get(data) if has_score else None, score)


def _steps(job: Job) -> str:
    text = " + ".join(map(str, job.steps.values()))
    return f"{SHARED} + {text}" if job.source is not None else text


def _minutes(row: Row) -> list[str]:
    spent = row.training
    if spent is None:
        return [MISSING, MISSING]
    mark = f" {SHARED}" if row.job.source is not None else ""
    return [minutes(seconds) + mark for seconds in (spent.wall_s, spent.cpu_s)]
