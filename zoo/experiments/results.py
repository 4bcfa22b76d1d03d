"""How trainings ended, and what they come to over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from zoo.contracts import ComponentConfig, Score, Scored
from zoo.experiments.run_cost import Cost
from zoo.files import write_whole
from zoo.models.model import build_task
from zoo.training.recipe import Recipe

RESULT, RUN, LOG = "result.json", "run", "log.txt"
FORMER_NAMES = {"exact": "accuracy"}
"""What scores were called in files of earlier versions, and may still be called."""
_FORMER_SCORES = ("exact", "within_one", "mean_abs_error_s")


class Result(ComponentConfig):
    """How one training ended."""

    seed: int
    status: Literal["done", "stopped", "failed"]
    reason: str | None = Field(None, description="why it failed or was stopped")
    scores: dict[str, float] = Field(default_factory=dict, description="by the names of the task")
    encoder: Cost = Field(Cost(), description="training of the encoder, where others share it")

    @model_validator(mode="before")
    @classmethod
    def _from_earlier(cls, raw: Any) -> Any:
        """Read what was written when all models answered offsets."""
        if not isinstance(raw, dict) or "exact" not in raw:
            return raw
        new = dict(raw)
        for field, prefix in (("scores", ""), ("chance", "chance_")):
            found = {rename_score(name): new.pop(prefix + name, None) for name in _FORMER_SCORES}
            kept = {name: value for name, value in found.items() if value is not None}
            if kept or field == "scores":
                new[field] = kept
        if "towers" in new:
            new["encoder"] = new.pop("towers")
        return new

    @property
    def is_done(self) -> bool:
        """Whether it was trained to the end."""
        return self.status == "done"


R = TypeVar("R", bound=Result)


def rename_score(name: str) -> str:
    """Return what a score is called now."""
    return FORMER_NAMES.get(name, name)


def read_result(folder: Path, kind: type[R]) -> R | None:
    """Return how a training ended, or None if it has not."""
    try:
        return kind.model_validate_json((folder / RESULT).read_text())
    except (OSError, ValidationError):
        return None


def write_result(folder: Path, result: R) -> R:
    """Write a result whole or not at all, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RESULT, result.model_dump_json(indent=2) + "\n")
    return result


@dataclass(frozen=True)
class SeedResults(Generic[R]):
    """Results of the same training with several seeds.

    Attributes:
        results: of the trainings that have ended.
        num_seeds: trainings that there will be.
    """

    results: tuple[R, ...]
    num_seeds: int

    @property
    def scored(self) -> tuple[R, ...]:
        """Results with scores: trained to the end, or stopped after a validation."""
        return tuple(result for result in self.results if result.scores)

    @property
    def has_failed(self) -> bool:
        """Whether a training failed."""
        return any(result.status == "failed" for result in self.results)

    def values(self, score: str) -> list[float]:
        """Return a score of every training that has it."""
        return [r.scores[score] for r in self.results if score in r.scores]

    def mean(self, score: str) -> float | None:
        """Return the mean over seeds."""
        values = self.values(score)
        return statistics.fmean(values) if values else None

    def spread(self, score: str) -> float | None:
        """Return the sample standard deviation over seeds; None for a single one."""
        values = self.values(score)
        return statistics.stdev(values) if len(values) > 1 else None

    def statistics(self, scores: Iterable[Score]) -> dict[str, dict[str, float | None]]:
        """Return mean and spread of scores, ready for JSON."""
        names = [score.name for score in scores]
        return {
            "mean": {name: self.mean(name) for name in names},
            "std": {name: self.spread(name) for name in names},
        }


def scores_of(tasks: Iterable[Scored], *, ranked: bool = False) -> list[Score]:
    """Return the scores of one or several tasks, each name once; ``ranked`` only what counts."""
    found: dict[str, Score] = {}
    for task in tasks:
        for score in task.scores:
            if not ranked or score.name in task.rank:
                found.setdefault(score.name, score)
    return list(found.values())


def scores_in(record: Mapping[str, Any], task: Scored) -> dict[str, float]:
    """Return what a validation or a report says of the scores of a task, as far as it knows."""
    found = {score.name: record.get(score.name) for score in task.scores}
    return {k: v for k, v in found.items() if isinstance(v, int | float) and math.isfinite(v)}


def chance_of(recipe: Recipe) -> dict[str, float]:
    """Return what guessing scores."""
    assert recipe.model.task is not None
    return scores_in(build_task(recipe.model.task).chance, recipe.task)
