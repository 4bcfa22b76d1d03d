"""The work of one trial: the trainings of a point as processes, one seed after the other."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol

from orchestration.tune.outcome import (
    LOG,
    RESULT,
    RUN,
    SCORES,
    Result,
    collect,
    failed,
    read_result,
    write_result,
)
from orchestration.tune.points import Point, folder_of, resolve, slug_of
from orchestration.tune.search import Params, Search
from zoo.errors import TrainingError, ZooError
from zoo.experiments.finished_runs import is_trained, tidy
from zoo.experiments.lock import share_lock
from zoo.experiments.process import Process, spawn, stop
from zoo.experiments.train_options import training_words
from zoo.training.request import Request
from zoo.training.resources import Resources
from zoo.training.watch import MetricsTail

LOOK_S, RENEW_S, PATIENCE_S = 0.25, 5.0, 30.0
FAILURE = "failure.txt"
Report = dict[str, Any]
"""What Ray Tune is told: ``progress`` in percent of a training, scores, ``gflops``; ``is_last``
says that the point has ended, which ``done`` does not: Ray Tune sets it when it stops a trial."""


class LostLeaseError(Exception):
    """Another trial has taken over, since this one did not renew its lease in time."""


class Lease(Protocol):
    """One name of `orchestration.tune.leases.Leases`, for one holder."""

    def take(self) -> bool:
        """Take or renew it; False if another holds it."""

    def drop(self) -> None:
        """Give it back."""


class Desk(Protocol):
    """Where leases are to be had."""

    def lease(self, name: str) -> Lease:
        """Return a lease that is not taken yet."""


@dataclass
class PointWork:
    """Trains a point with every seed, and reports how it goes.

    Attributes:
        search: what is searched for.
        params: the point.
        out: folder of the search.
        resources: of every training; its address is that of the cluster.
        desk: leases of the towers that points share.
        session: name of this start of the search; a stage I that failed in it is not tried again.
    """

    search: Search
    params: Params
    out: Path
    resources: Resources
    desk: Desk
    session: str = ""
    process: Process | None = field(default=None, init=False)
    leases: list[Lease] = field(default_factory=list, init=False)
    lock: IO[str] | None = field(default=None, init=False)

    def run(self) -> Generator[Report]:
        """Train, and yield a report at every validation of the first seed and every end."""
        try:
            with self._holding(slug_of(self.params)):  # Optuna may propose a point twice at a time
                yield from self._run()
        except ZooError as error:  # parts that do not fit together, proposed by Optuna
            seed = self.search.seed
            result = failed(self.params, seed, str(error))
            yield _failure(write_result(folder_of(self.out, self.params, seed), result))
        finally:
            self.stop()

    @contextmanager
    def _holding(self, name: str) -> Iterator[None]:
        """Wait for a lease, and renew it at every look until it is given back."""
        lease = self.desk.lease(name)
        while not lease.take():
            time.sleep(LOOK_S)
            self._renew()
        self.leases.append(lease)
        try:
            yield
        finally:
            self.leases.remove(lease)
            lease.drop()

    def _renew(self) -> None:
        if not all(lease.take() for lease in self.leases):
            self.stop()
            raise LostLeaseError

    def _run(self) -> Iterator[Report]:
        point = resolve(
            self.search, self.params, self.resources.gpus_per_worker, self.resources.workers
        )
        done: list[Result] = []
        for seed in self.search.train_seeds:
            folder = point.folder(self.out, seed)
            result = read_result(folder)
            if result is None or result.status == "failed":
                result = yield from self._train(point, seed, done)
            if result.status == "failed":
                yield _failure(result)
                return
            if result.exact is not None:
                done.append(result)
            is_last = result.status == "stopped" or seed == self.search.train_seeds[-1]
            yield self._report(point, done, 100 * len(done), is_last=is_last)
            if is_last:
                return

    def _report(
        self, point: Point, done: list[Result], progress: float, *, is_last: bool = False
    ) -> Report:
        """Return the mean over the trainings so far."""
        means = {score: sum(result.score(score) for result in done) / len(done) for score in SCORES}
        gflops = 0.0 if point.cost is None else point.cost.flops / 1e9
        ends = {"done": is_last, "is_last": is_last}
        return {**means, "gflops": gflops, "progress": progress, "failed": False, **ends}

    def _train(
        self, point: Point, seed: int, done: list[Result]
    ) -> Generator[Report, None, Result]:
        """Train with one seed, stage I unless another point has; the result is returned."""
        folder = point.folder(self.out, seed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)  # of a training that failed
        towers: Path | None = None
        request = point.for_seed(seed)
        try:
            if point.has_towers:
                towers = point.towers_folder(self.out, seed)
                self._train_towers(point, seed, towers, folder)
                request = point.head_request(seed, towers)
            for record in self._follow(request, folder / RUN, folder / LOG):
                if not done:
                    step, steps = record["step"], point.recipe.stage2.steps
                    so_far = _as_result(point, seed, record)
                    yield self._report(point, [so_far], 99 * step / steps)
            result = write_result(folder, collect(point, seed, folder / RUN, towers))
            tidy(folder / RUN)
            return result
        except TrainingError as error:
            return write_result(folder, failed(point.params, seed, str(error)))

    def _train_towers(self, point: Point, seed: int, run: Path, folder: Path) -> None:
        """Train the towers, or wait until another trial has."""
        if is_trained(run, 1):
            return
        with self._holding(f"{point.key}/{seed}"):
            if is_trained(run, 1):
                return
            told = run.parent / f"{run.name}-{FAILURE}"
            if told.exists() and told.read_text().startswith(f"{self.session}\n"):
                raise TrainingError(told.read_text().partition("\n")[2])
            run.parent.mkdir(parents=True, exist_ok=True)
            try:
                for _ in self._follow(point.towers_request(seed), run, folder / LOG):
                    pass
            except TrainingError as error:
                told.write_text(f"{self.session}\n{error}")
                raise
            tidy(run)

    def _follow(self, request: Request, run: Path, log: Path) -> Iterator[dict[str, Any]]:
        """Train a request, and yield the best validation of stage 2 so far at every validation.

        Raises:
            TrainingError: if it fails; a training that broke off is resumed once.
        """
        best: dict[str, Any] = {}
        for attempt in (1, 2):
            words = training_words(request, run, self.resources)
            self.process = spawn(words, log, self._lock())
            tail = MetricsTail(run)
            tail.read()  # what an earlier start has done
            for record in self._watch(tail):
                if not best or _rank(record) > _rank(best):
                    best = record
                yield {**best, "step": record["step"]}
            if not self.process.code:
                self.process = None
                return
            if attempt == 2 or not self.process.broke_off:
                raise TrainingError(self.process.reason())

    def _watch(self, tail: MetricsTail) -> Iterator[dict[str, Any]]:
        """Yield the validations of stage 2 until the process ends."""
        assert self.process is not None
        renewed = time.monotonic()
        while self.process.is_alive:
            time.sleep(LOOK_S)
            if time.monotonic() > renewed + RENEW_S:
                self._renew()
                renewed = time.monotonic()
            yield from _validations(tail)
        yield from _validations(tail)

    def _lock(self) -> int:
        """Return a descriptor that the trainings keep open, so that a resumed search can wait."""
        if self.lock is None:
            self.lock = share_lock(self.out)
        return self.lock.fileno()

    def stop(self) -> None:
        """End the process, if there is one: it keeps what it has done so far."""
        process, self.process = self.process, None
        if process is not None and process.is_alive:
            stop([process], PATIENCE_S)


def _failure(result: Result) -> Report:
    return {"failed": True, "reason": result.reason, "done": True, "is_last": True}


def _validations(tail: MetricsTail) -> list[dict[str, Any]]:
    return [r for r in tail.read() if (r["stage"], r["kind"]) == (2, "valid")]


def _rank(record: dict[str, Any]) -> tuple[float, float]:
    return record["within_one"], record["accuracy"]


def _as_result(point: Point, seed: int, record: dict[str, Any]) -> Result:
    return Result(
        params=point.params,
        seed=seed,
        status="stopped",
        exact=record["accuracy"],
        within_one=record["within_one"],
        mean_abs_error_s=record["mean_abs_error_s"],
        num=int(record["num"]),
    )


def patient(resources: Resources, address: str) -> Resources:
    """Return what a training is given that waits for processors as long as others have them."""
    return replace(resources, address=address, wait_s=86_400)
