"""What a training took: wall clock and processor time, read from the records of its run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from zoo.contracts import ComponentConfig
from zoo.training.run_folder import ENVIRONMENT
from zoo.training.runlog import read_metrics

Record = dict[str, Any]


class Cost(ComponentConfig):
    """Time that was spent."""

    wall_s: float = Field(0.0, description="wall clock, seconds")
    cpu_s: float = Field(0.0, description="processor time of all workers, seconds")

    def __add__(self, other: Cost) -> Cost:
        return Cost(wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s)


def mean_cost(costs: Iterable[Cost]) -> Cost | None:
    """Return the mean of what trainings took; None if there are none."""
    costs = list(costs)
    if not costs:
        return None
    return Cost(
        wall_s=statistics.fmean(cost.wall_s for cost in costs),
        cpu_s=statistics.fmean(cost.cpu_s for cost in costs),
    )


class Start(NamedTuple):
    """A start of a run, the first or a resumption: when, in seconds since 1970, on how many."""

    time_s: float
    workers: int


def costs_of(run: Path) -> dict[int, Cost]:
    """Return what either stage of a run took."""
    return count_costs(read_metrics(run), read_starts(run))


def read_starts(run: Path) -> list[Start]:
    """Return the starts of a run in order; none if they were not written down."""
    try:
        starts = json.loads((run / ENVIRONMENT).read_text())["starts"]
        return [
            Start(datetime.fromisoformat(start["time"]).timestamp(), start["workers"])
            for start in starts
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def count_costs(records: list[Record], starts: list[Start]) -> dict[int, Cost]:
    """Return what either stage took, without the time between a break and its resumption.

    The time up to a record counts for the stage of the record, Ray's start for the first of a
    start.  Work that was lost at a break, which the records no longer know, counts once.

    Args:
        records: of the run, in order; ``cpu_s`` counts the time of the process of rank 0.
        starts: of the run.
    """
    costs = {1: Cost(), 2: Cost()}
    left, workers, cpu_s = list(starts), 1, 0.0
    before_s = records[0]["time"] if records else 0.0
    for record in records:
        if record["kind"] == "done":
            continue
        while left and left[0].time_s <= record["time"]:
            before_s, workers = left.pop(0)
            cpu_s = 0.0
        now_s = record.get("cpu_s", 0.0)
        spent_s = now_s - cpu_s if now_s >= cpu_s else now_s  # a worker that was started again
        costs[record["stage"]] += Cost(wall_s=record["time"] - before_s, cpu_s=spent_s * workers)
        before_s, cpu_s = record["time"], now_s
    return costs
