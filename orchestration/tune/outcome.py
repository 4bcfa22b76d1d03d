"""What a training of a point came to, kept beside its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from orchestration.tune.points import Point
from zoo.catalog.entries import read_description
from zoo.contracts import ComponentConfig
from zoo.errors import TrainingError, ZooError
from zoo.experiments.run_cost import Cost, costs_of
from zoo.files import write_whole

SCORES = ("exact", "within_one", "mean_abs_error_s")
RESULT, RUN, LOG = "result.json", "run", "log.txt"


class Result(ComponentConfig):
    """How one training ended; scores are those of its best validation, shares of 1."""

    params: dict[str, Any]
    seed: int
    status: Literal["done", "stopped", "failed"]
    reason: str | None = Field(None, description="why it failed or was stopped")
    exact: float | None = None
    within_one: float | None = None
    mean_abs_error_s: float | None = None
    num: int | None = Field(None, description="validation draws")
    towers: Cost = Field(Cost(), description="stage I and its features, which others may share")
    head: Cost = Field(Cost(), description="the rest of the training")

    @property
    def is_done(self) -> bool:
        """Whether it was trained to the end."""
        return self.status == "done"

    def score(self, metric: str) -> float:
        """Return a score that it has."""
        found = getattr(self, metric)
        assert found is not None
        return float(found)


def read_result(folder: Path) -> Result | None:
    """Return how a training ended, or None if it has not."""
    try:
        return Result.model_validate_json((folder / RESULT).read_text())
    except (OSError, ValidationError):
        return None


def write_result(folder: Path, result: Result) -> Result:
    """Write a result whole or not at all, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RESULT, result.model_dump_json(indent=2) + "\n")
    return result


def collect(point: Point, seed: int, run: Path, towers: Path | None) -> Result:
    """Read the result of a training that has ended.

    Args:
        point: what was trained.
        seed: of the training.
        run: its folder.
        towers: run of the towers that it started from, if they have one of their own.

    Raises:
        TrainingError: if its model folder is missing or damaged.
    """
    try:
        scores = read_description(run)["scores"]["valid"]
        found = {
            "exact": scores["accuracy"],
            "within_one": scores["within_one"],
            "mean_abs_error_s": scores["mean_abs_error_s"],
            "num": scores["num"],
        }
    except (ZooError, KeyError, TypeError) as error:
        raise TrainingError(f"its model folder cannot be read: {error}") from None
    return Result(params=point.params, seed=seed, status="done", **found, **spent(run, towers))


def spent(run: Path, towers: Path | None) -> dict[str, Cost]:
    """Return what a training took, towers and the rest apart."""
    own = costs_of(run)
    if towers is None:
        return {"towers": own[1], "head": own[2]}
    shared = costs_of(towers)
    return {"towers": shared[1] + shared[2], "head": own[1] + own[2]}


def failed(params: dict[str, Any], seed: int, reason: str) -> Result:
    """Return the result of a training that failed."""
    return Result(params=params, seed=seed, status="failed", reason=reason)
