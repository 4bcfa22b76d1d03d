"""The work of one trial: the trainings of a point as processes, one seed after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol

from pydantic import Field

from orchestration.tune.points import Point, folder_of, resolve, slug_of
from orchestration.tune.search import Params, Search
from zoo.catalog.entries import read_description
from zoo.errors import TrainingError, ZooError
from zoo.experiments.lock import share_lock
from zoo.experiments.process import Process, spawn, stop
from zoo.experiments.results import (
    LOG,
    RESULT,
    RUN,
    Result,
    SeedResults,
    read_result,
    scores_in,
    write_result,
)
from zoo.experiments.run_cost import Cost, costs_of
from zoo.experiments.training_runs import is_trained, tidy, training_words
from zoo.training.request import TrainRequest
from zoo.training.resources import Resources
from zoo.training.watch import MetricsTail

LOOK_S, RENEW_S, PATIENCE_S = 0.25, 5.0, 30.0
FAILURE = "failure.txt"
Report = dict[str, Any]
"""What Ray Tune is told: ``progress`` in percent of a training, scores, ``gflops``; ``is_last``
says that the point has ended, which ``done`` does not: Ray Tune sets it when it stops a trial."""


class PointResult(Result):
    """How one training of a point ended; scores are those of its best validation."""

    params: dict[str, Any]
    num: int | None = Field(None, description="validation samples")
    head: Cost = Field(Cost(), description="the training without stage I and its features")


def failed(params: Params, seed: int, reason: str) -> PointResult:
    """Return the result of a training that failed."""
    return PointResult(params=dict(params), seed=seed, status="failed", reason=reason)


def collect(point: Point, seed: int, run: Path, encoder: Path | None) -> PointResult:
    """Read the result of a training that has ended.

    Args:
        point: what was trained.
        seed: of the training.
        run: its folder.
        encoder: run of the stage I that it started from, if that has one of its own.

    Raises:
        TrainingError: if its model folder is missing or damaged.
    """
    task = point.recipe.task
    try:
        valid = read_description(run)["scores"]["valid"]
        scores, num = scores_in(valid, task), int(valid["num"])
    except (ZooError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise TrainingError(f"its model folder cannot be read: {error}") from None
    if not scores:
        raise TrainingError(f"its model folder holds no score of the task '{task.name}'")
    own = costs_of(run)
    spent = {"encoder": own[1], "head": own[2]}
    if encoder is not None:
        shared = costs_of(encoder)
        spent = {"encoder": shared[1] + shared[2], "head": own[1] + own[2]}
    result = PointResult(params=point.params, seed=seed, status="done", scores=scores, num=num)
    return result.model_copy(update=spent)


class LostLeaseError(Exception):
    """Another trial has taken over, since this one did not renew its lease in time."""


class Lease(Protocol):
    """One name of `orchestration.tune.ray_trials.Leases`, for one holder."""

    def take(self) -> bool:
        """Take or renew it; False if another holds it."""

    def drop(self) -> None:
        """Give it back."""


@dataclass
class PointWork:
    """Trains a point with every seed, and reports how it goes.

    Attributes:
        search: what is searched for.
        params: the point.
        out: folder of the search.
        resources: of every training; its address is that of the cluster.
        lease: returns the lease of a stage I that points share, not taken yet.
        session: name of this start of the search; a stage I that failed in it is not tried again.
    """

    search: Search
    params: Params
    out: Path
    resources: Resources
    lease: Callable[[str], Lease]
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
        lease = self.lease(name)
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
        done: list[PointResult] = []
        for seed in self.search.train_seeds:
            folder = point.folder(self.out, seed)
            result = read_result(folder, PointResult)
            if result is None or result.status == "failed":
                result = yield from self._train(point, seed, done)
            if result.status == "failed":
                yield _failure(result)
                return
            if result.scores:
                done.append(result)
            is_last = result.status == "stopped" or seed == self.search.train_seeds[-1]
            yield self._report(point, done, 100 * len(done), is_last=is_last)
            if is_last:
                return

    def _report(
        self, point: Point, done: list[PointResult], progress: float, *, is_last: bool = False
    ) -> Report:
        """Return the mean over the trainings so far."""
        seeds = SeedResults(tuple(done), len(self.search.train_seeds))
        means = {score.name: seeds.mean(score.name) for score in point.recipe.task.scores}
        known = {name: mean for name, mean in means.items() if mean is not None}
        gflops = 0.0 if point.cost is None else point.cost.flops / 1e9
        ends = {"done": is_last, "is_last": is_last}
        return {**known, "gflops": gflops, "progress": progress, "failed": False, **ends}

    def _train(
        self, point: Point, seed: int, done: list[PointResult]
    ) -> Generator[Report, None, PointResult]:
        """Train with one seed, stage I unless another point has; the result is returned."""
        folder = point.folder(self.out, seed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)  # of a training that failed
        encoder: Path | None = None
        request = point.for_seed(seed)
        try:
            if point.has_stage1:
                encoder = point.encoder_folder(self.out, seed)
                self._train_encoder(point, seed, encoder, folder)
                request = point.head_request(seed, encoder)
            for record in self._follow(point, request, folder / RUN, folder / LOG):
                if not done:
                    step, steps = record["step"], point.recipe.stage2.steps
                    so_far = failed(point.params, seed, "").model_copy(
                        update={"scores": scores_in(record, point.recipe.task)}
                    )
                    yield self._report(point, [so_far], 99 * step / steps)
            result = write_result(folder, collect(point, seed, folder / RUN, encoder))
            tidy(folder / RUN)
            return result
        except TrainingError as error:
            return write_result(folder, failed(point.params, seed, str(error)))

    def _train_encoder(self, point: Point, seed: int, run: Path, folder: Path) -> None:
        """Train stage I, or wait until another trial has."""
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
                for _ in self._follow(point, point.encoder_request(seed), run, folder / LOG):
                    pass
            except TrainingError as error:
                told.write_text(f"{self.session}\n{error}")
                raise
            tidy(run)

    def _follow(
        self, point: Point, request: TrainRequest, run: Path, log: Path
    ) -> Iterator[dict[str, Any]]:
        """Train a request, and yield the best validation of stage 2 so far at every validation.

        Raises:
            TrainingError: if it fails; a training that broke off is resumed once.
        """
        best: dict[str, Any] = {}
        rank = point.recipe.task.rank_of
        for attempt in (1, 2):
            words = training_words(request, run, self.resources)
            self.process = spawn(words, log, self._lock())
            tail = MetricsTail(run)
            tail.read()  # what an earlier start has done
            for record in self._watch(tail):
                if not best or rank(record) > rank(best):
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


def _failure(result: PointResult) -> Report:
    return {"failed": True, "reason": result.reason, "done": True, "is_last": True}


def _validations(tail: MetricsTail) -> list[dict[str, Any]]:
    return [r for r in tail.read() if (r["stage"], r["kind"]) == (2, "valid")]


def patient(resources: Resources, address: str) -> Resources:
    """Return what a training is given that waits for processors as long as others have them."""
    return replace(resources, address=address, wait_s=86_400)
