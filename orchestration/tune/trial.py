"""A trial as Ray Tune runs it: an actor without processors, whose trainings ask for theirs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from orchestration.tune.search import Search
from orchestration.tune.work import PointWork, Report, patient
from zoo.registry.plugin_files import PLUGIN_FILES_VARIABLE
from zoo.training.resources import Resources


@dataclass(frozen=True)
class Bench:
    """What all trials have in common.

    Attributes:
        search: what is searched for.
        out: folder of the search, on storage that all machines share.
        resources: of every training.
        plugins: copies of the plugin files, there too.
        leases: actor of `orchestration.tune.leases.Leases`.
        session: name of this start of the search.
        omp_threads: OMP_NUM_THREADS of the driver; Ray sets it to 1 in an actor of no processors.
    """

    search: Search
    out: Path
    resources: Resources
    plugins: tuple[str, ...]
    leases: Any
    session: str
    omp_threads: str | None


class Trial(tune.Trainable):  # type: ignore[misc]
    """One point of a search.

    What it has done lies on disk, so that a trial that is started again goes on where it was.
    """

    def setup(self, config: dict[str, Any], bench: Bench) -> None:
        """Prepare the work; nothing is started yet."""
        os.environ[PLUGIN_FILES_VARIABLE] = os.pathsep.join(bench.plugins)
        os.environ.pop("OMP_NUM_THREADS", None)
        if bench.omp_threads is not None:
            os.environ["OMP_NUM_THREADS"] = bench.omp_threads
        address = ray.get_runtime_context().gcs_address
        desk = RayDesk(bench.leases, uuid.uuid4().hex)
        resources = patient(bench.resources, address)
        self.work = PointWork(bench.search, config, bench.out, resources, desk, bench.session)
        self.reports: Generator[Report] = self.work.run()

    def step(self) -> Report:
        """Work until there is something to report."""
        return next(self.reports)

    def cleanup(self) -> None:
        """End what is at work, and give back what is held."""
        self.work.stop()
        self.reports.close()


@dataclass(frozen=True)
class RayDesk:
    """`orchestration.tune.work.Desk`, for one trial."""

    actor: Any
    holder: str

    def lease(self, name: str) -> RayLease:
        """Return a lease that is not taken yet."""
        return RayLease(self.actor, name, self.holder)


@dataclass(frozen=True)
class RayLease:
    """`orchestration.tune.work.Lease`."""

    actor: Any
    name: str
    holder: str

    def take(self) -> bool:
        """Take or renew it."""
        return bool(ray.get(self.actor.take.remote(self.name, self.holder)))

    def drop(self) -> None:
        """Give it back."""
        ray.get(self.actor.drop.remote(self.name, self.holder))
