"""A search under Ray Tune: a trial is an actor of no processors; its trainings ask for theirs."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestration.cluster import noticing_loss
from orchestration.tune.point_work import PointWork, Report, patient
from orchestration.tune.points import name_of
from orchestration.tune.search import Params, Search
from orchestration.tune.session import (
    RAY_FOLDER,
    Session,
    check_concurrency,
    count_room,
    mark_ended,
    run_at_work,
)
from orchestration.tune.study import open_study
from zoo.experiments.overview import Watcher
from zoo.registry.plugin_files import PLUGIN_FILES_VARIABLE, copy_plugins
from zoo.training.resources import Resources

RETRIES = 8  # of a trial whose machine dies; a training that fails is not tried again
GRACE = 34.0  # percent of its first training before a point may be stopped


@dataclass(frozen=True)
class TrialSettings:
    """What all trials have in common.

    Attributes:
        search: what is searched for.
        out: folder of the search, on storage that all machines share.
        resources: of every training.
        plugins: copies of the plugin files, there too.
        leases: actor of `Leases`.
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

    def setup(self, config: dict[str, Any], settings: TrialSettings) -> None:
        """Prepare the work; nothing is started yet."""
        os.environ[PLUGIN_FILES_VARIABLE] = os.pathsep.join(settings.plugins)
        os.environ.pop("OMP_NUM_THREADS", None)
        if settings.omp_threads is not None:
            os.environ["OMP_NUM_THREADS"] = settings.omp_threads
        address = ray.get_runtime_context().gcs_address
        lease = partial(RayLease, settings.leases, uuid.uuid4().hex)
        resources = patient(settings.resources, address)
        self.work = PointWork(
            settings.search, config, settings.out, resources, lease, settings.session
        )
        self.reports: Generator[Report] = self.work.run()

    def step(self) -> Report:
        """Work until there is something to report."""
        return next(self.reports)

    def cleanup(self) -> None:
        """End what is at work, and give back what is held."""
        self.work.stop()
        self.reports.close()


@dataclass(frozen=True)
class RayLease:
    """`orchestration.tune.point_work.Lease`."""

    actor: Any
    holder: str
    name: str

    def take(self) -> bool:
        """Take or renew it."""
        return bool(ray.get(self.actor.take.remote(self.name, self.holder)))

    def drop(self) -> None:
        """Give it back."""
        ray.get(self.actor.drop.remote(self.name, self.holder))


# --- who trains the stage I that several trials share ---

LEASE_S = 60.0


class Leases:
    """Names that are taken, by whom and until when; lives in an actor beside the driver.

    A lease runs out unless it is renewed, so that a trial whose machine dies holds nothing up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.held: dict[str, tuple[str, float]] = {}

    def take(self, name: str, holder: str) -> bool:
        """Take a name or renew it; False if another holds it."""
        now = self.clock()
        owner, until = self.held.get(name, (holder, now))
        if owner != holder and until > now:
            return False
        self.held[name] = (holder, now + LEASE_S)
        return True

    def drop(self, name: str, holder: str) -> None:
        """Give a name back."""
        if self.held.get(name, ("", 0.0))[0] == holder:
            del self.held[name]


# --- all trials ---


def run_trials(session: Session, watcher: Watcher, tries: int, points: list[Params]) -> None:
    """Let Ray Tune run the points that are left.

    Args:
        session: the search.
        watcher: is told how it goes.
        tries: how many points.
        points: which ones first; a grid knows all of them.
    """
    metric = session.metric
    search, out, resources = session.search, session.out, session.options.resources
    at_once = session.options.max_concurrent
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if at_once and not resources.is_local:
        check_concurrency(at_once, resources, nodes, "the cluster has")
    at_once = at_once or max(1, min(tries, count_room(resources, nodes)))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    settings = TrialSettings(
        search,
        out,
        resources,
        plugins=tuple(map(str, copy_plugins(out))),
        leases=ray.remote(num_cpus=0, scheduling_strategy=here)(Leases).remote(),
        session=f"{os.getpid()}-{time.time():.0f}",
        omp_threads=os.environ.get("OMP_NUM_THREADS"),
    )
    asha = ASHAScheduler(
        time_attr="progress",
        metric=metric.name,
        mode="max" if metric.is_higher_better else "min",
        grace_period=GRACE,
        reduction_factor=2,
        max_t=100 * search.seeds + 1,
    )
    trainable = tune.with_resources(
        tune.with_parameters(Trial, settings=settings),
        tune.PlacementGroupFactory([{"memory": 1}]),  # the trainings ask for their processors
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=open_study(search, metric, out, points),
            num_samples=tries,
            max_concurrent_trials=at_once,
            scheduler=asha if search.scheduler == "asha" else FIFOScheduler(),
        ),
        run_config=tune.RunConfig(
            storage_path=str(out / RAY_FOLDER),
            name=f"session-{os.getpid()}",
            verbose=0,
            callbacks=[Follower(session, watcher)],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with _terminable(), noticing_loss():
        tuner.fit()


@contextmanager
def _terminable() -> Iterator[None]:
    """Hand a request to terminate to Ray Tune as Ctrl-C, which it answers by ending its trials."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Follower(tune.Callback):  # type: ignore[misc]
    """Writes the files of a search whenever a point has ended."""

    def __init__(self, session: Session, watcher: Watcher) -> None:
        self.session, self.watcher = session, watcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that a point begins."""
        params = dict(trial.config)
        self.watcher.begins(name_of(params), "", partial(run_at_work, self.session, params))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take in the outcome of a point, which the scheduler may have stopped."""
        last = trial.last_result or {}
        if not last.get("is_last"):
            mark_ended(
                self.session,
                dict(trial.config),
                "stopped",
                f"stopped by ASHA at {last.get('progress', 0):.0f} % of a training",
                last,
            )
        self._take_in(dict(trial.config))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take in that a trial was lost, more often than it is tried again."""
        reason = f"its trial was lost {RETRIES + 1} times; the last time: {_last_line(trial)}"
        mark_ended(self.session, dict(trial.config), "failed", reason, {})
        self._take_in(dict(trial.config))

    def _take_in(self, params: Params) -> None:
        self.session.write()
        row = self.session.rows.row_of(params)
        is_done = row.status != "failed"
        self.watcher.ended(name_of(params), "", row.outcome(), is_done=is_done)

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing behind in Ray Tune's own record."""
        return {}


def _last_line(trial: Any) -> str:
    """Return the last line of what Ray Tune wrote down of a trial's error."""
    try:
        lines = Path(trial.error_file).read_text().strip().splitlines()
    except (OSError, TypeError):
        return "no reason is known"
    return lines[-1] if lines else "no reason is known"
