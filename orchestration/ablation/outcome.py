"""What a job came to: read from what training and evaluation leave in its folder."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, ValidationError

from orchestration.ablation.plan import Job, Key
from zoo.contracts import ComponentConfig
from zoo.errors import TrainingError
from zoo.experiments.run_cost import Cost, costs_of
from zoo.files import write_whole
from zoo.training.runlog import read_metrics

RESULT, REPORT, LOG = "result.json", "report.json", "log.txt"


class Result(ComponentConfig):
    """How a job ended; scores are those of the evaluated clips."""

    data: str
    variant: str
    seed: int
    status: Literal["done", "failed"]
    reason: str | None = Field(None, description="why it failed")
    exact: float | None = Field(None, description="share of exact classes")
    within_one: float | None = Field(None, description="share within one class")
    mean_abs_error_s: float | None = None
    chance_exact: float | None = None
    chance_within_one: float | None = None
    num_clips: int | None = Field(None, description="clips evaluated")
    rounds: int | None = Field(None, description="offsets per clip")
    stage1: Cost = Cost()
    stage2: Cost = Cost()
    towers: Cost = Field(Cost(), description="training of the towers it started from")
    stage1_steps: int = 0
    stage2_steps: int = 0
    parameters: int = 0

    @property
    def key(self) -> Key:
        """Which job this is."""
        return Key(self.data, self.variant, self.seed)

    @property
    def is_done(self) -> bool:
        """Whether there are scores."""
        return self.status == "done"

    @property
    def training(self) -> Cost:
        """All training that this result took."""
        return self.stage1 + self.stage2 + self.towers


def read_result(job: Job) -> Result | None:
    """Return how a job ended, or None if it has not."""
    try:
        return Result.model_validate_json((job.folder / RESULT).read_text())
    except (OSError, ValidationError):
        return None


def write_result(job: Job, result: Result) -> None:
    """Write a result whole or not at all."""
    job.folder.mkdir(parents=True, exist_ok=True)
    write_whole(job.folder / RESULT, result.model_dump_json(indent=2) + "\n")


def failed(job: Job, reason: str) -> Result:
    """Return the result of a job that failed."""
    return Result(**job.key._asdict(), status="failed", reason=reason)


def collect(job: Job, source: Result | None) -> Result:
    """Read the result of a job that was trained and evaluated.

    Args:
        job: which.
        source: result of the job whose towers it started from.

    Raises:
        TrainingError: if its report is missing or damaged.
    """
    try:
        report = json.loads((job.folder / REPORT).read_text())
        pooled, guess = report["pooled"], report["chance"]
        scores = {
            "exact": pooled["accuracy"],
            "within_one": pooled["within_one"],
            "mean_abs_error_s": pooled["mean_abs_error_s"],
            "chance_exact": guess["accuracy"],
            "chance_within_one": guess["within_one"],
            "num_clips": report["num_clips"],
            "rounds": report["rounds"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"its report cannot be read: {error}") from None
    records, costs = read_metrics(job.run), costs_of(job.run)
    return Result(
        **job.key._asdict(),
        status="done",
        **scores,
        stage1=costs[1],
        stage2=costs[2],
        towers=Cost() if source is None else _cost_of_towers(source),
        stage1_steps=_steps(records, 1),
        stage2_steps=_steps(records, 2),
        parameters=job.parameters,
    )


def _cost_of_towers(source: Result) -> Cost:
    """Return what the towers of a job took: its stage I, or all where it has none of its own."""
    towers = source.stage1 + source.towers
    return towers if towers.wall_s else source.stage2


def _steps(records: list[dict[str, Any]], stage: int) -> int:
    return max((r["step"] for r in records if r["stage"] == stage), default=0)
