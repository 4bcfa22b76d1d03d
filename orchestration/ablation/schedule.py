"""Which job is at work when: so many at a time, each after the one whose towers it starts from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from orchestration.ablation.outcome import Result, failed
from orchestration.ablation.plan import Job, Key
from zoo.experiments.process import Stoppable


class AtWork(Stoppable, Protocol):
    """A job at work; see `orchestration.ablation.work.Working`."""

    def poll(self) -> Result | None:
        """Return the result once there is one."""


@dataclass
class Schedule:
    """The jobs of an ablation and how far they are.

    Attributes:
        jobs: all, in order, each after the one it starts from.
        start: starts a job, given the result of the one whose towers it starts from.
        limit: jobs at work at a time.
        gap_s: seconds between the starts of two jobs that are at work at the same time.
        results: of the jobs that have ended.
        at_work: the jobs that have begun.
    """

    jobs: list[Job]
    start: Callable[[Job, Result | None], AtWork]
    limit: int = 1
    gap_s: float = 0.0
    results: dict[Key, Result] = field(default_factory=dict)
    at_work: dict[Key, AtWork] = field(default_factory=dict)
    last_start: float = -math.inf

    @property
    def waiting(self) -> list[Job]:
        """Jobs that have not begun."""
        return [j for j in self.jobs if j.key not in self.results and j.key not in self.at_work]

    @property
    def is_over(self) -> bool:
        """Whether every job has ended."""
        return not self.at_work and not self.waiting

    def step(self) -> list[Result]:
        """Take in what has ended, start what can be; return the new results."""
        ended = []
        for key, working in list(self.at_work.items()):
            result = working.poll()
            if result is not None:
                del self.at_work[key]
                ended.append(result)
        self.results |= {result.key: result for result in ended}
        ended += self._without_towers()
        for job in self.waiting:
            is_soon = bool(self.at_work) and time.monotonic() < self.last_start + self.gap_s
            if len(self.at_work) >= self.limit or is_soon:
                break
            source = None if job.source is None else self.results.get(job.source)
            if job.source is None or source is not None:
                self.at_work[job.key] = self.start(job, source)
                self.last_start = time.monotonic()
        return ended

    def _without_towers(self) -> list[Result]:
        """Give up the jobs whose towers could not be trained."""
        lost = []
        for job in self.waiting:
            source = None if job.source is None else self.results.get(job.source)
            if source is not None and not source.is_done:
                result = failed(job, f"the job whose towers it starts from failed: {source.key}")
                self.results[job.key] = result
                lost.append(result)
        return lost

    def is_needed(self, key: Key) -> bool:
        """Whether a job that has not ended starts from this one."""
        return any(job.source == key and job.key not in self.results for job in self.jobs)
