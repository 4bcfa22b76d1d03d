"""Running a search: its folder, the cluster, Ray Tune, its files."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from orchestration.cluster import connected
from orchestration.tune.outcome import SCORES, Result, failed, read_result, write_result
from orchestration.tune.points import Point, check_space, folder_of
from orchestration.tune.search import (
    SEARCH,
    Params,
    Search,
    build_search,
    read_search,
    refuse_difference,
)
from orchestration.tune.summary import Row, Rows, best_of, best_run
from orchestration.tune.writing import as_json, write_files
from zoo.catalog.model_folder import CONFIG, WEIGHTS
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError
from zoo.experiments.lock import interruptible, locked, wait_for_trainings
from zoo.experiments.process import program_words
from zoo.experiments.train_options import request_words
from zoo.registry.plugin_files import copy_plugins
from zoo.training.rehearsal import check_clips
from zoo.training.resources import Resources, check_machine, count_cpus, count_gpus, fitting
from zoo.training.run_folder import RECIPE, make_writable

BEST, COMMAND, RAY_FOLDER = "best", "command.txt", "ray"
RETRIES = 8  # of a trial whose machine dies; a training that fails is not tried again
GRACE = 34.0  # percent of its first training before a point may be stopped
_TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints even when it is told not to
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
}


@dataclass(frozen=True)
class Options:
    """How a search is run.

    Attributes:
        max_concurrent: points at a time; 0 is as many as there is room for.
        resources: of every training.
    """

    max_concurrent: int = 0
    resources: Resources = field(default_factory=Resources)


class Watcher:
    """Is told how a search goes; this one keeps silent."""

    def begins(self, params: Params) -> None:
        """Look at a point that has begun."""

    def ended(self, row: Row, number: int) -> None:
        """Look at a point that has ended, the so-manieth."""


@dataclass
class Session:
    """A search with its points, ready to be run.

    Attributes:
        search: what is searched for.
        out: folder of everything.
        points: of the grid, or corners of what Optuna may propose.
        options: how to run it.
        rows: what is known so far.
    """

    search: Search
    out: Path
    points: list[Point]
    options: Options
    rows: Rows

    def write(self) -> list[Path]:
        """Write the files of the search as far as it is known."""
        return write_files(self.search, self.rows.read(), self.out)

    def as_json(self) -> dict[str, Any]:
        """Return everything there is to know, ready for JSON."""
        return as_json(self.search, self.rows.read())

    @property
    def failures(self) -> list[Result]:
        """Results of the trainings that failed."""
        return [r for row in self.rows.read() for r in row.results if r.status == "failed"]


def open_session(given: Mapping[str, Any], out: Path, options: Options, *, resume: bool) -> Session:
    """Check a search against its folder and resolve its points; nothing is written.

    Args:
        given: fields of `Search` that were asked for.
        out: folder of the search.
        options: how to run it.
        resume: go on with the search in ``out``, whose own fields are kept where none are given.

    Raises:
        ZooError: whatever is wrong with the search or the folder, in one sentence.
    """
    out = out.absolute()
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(
            f"{out} exists and is not empty; take another --out, or go on with --resume"
        )
    if resume:
        kept = read_search(out)
        if "input_s" in given and not kept.is_segment_length:
            raise ConfigError(f"{out} holds a search of other settings, not of segment lengths")
        search = build_search(_merged(kept, given))
        refuse_difference(kept, search, out)
    else:
        search = build_search(given)
    options = replace(options, resources=_shared(search, options))
    gpus = options.resources.gpus_per_worker
    points = check_space(search, gpus, options.resources.workers)
    _check_clips(search, points)
    return Session(search, out, points, options, Rows(search, out, points, gpus))


def _merged(kept: Search, given: Mapping[str, Any]) -> dict[str, Any]:
    """Put what is asked for now over what was asked for when the search began."""
    merged = {**kept.model_dump(exclude_unset=True), **given}
    merged["space"] = {**kept.space, **given.get("space", {})}
    base = kept.base.model_dump(exclude_unset=True)
    asked = dict(given.get("base", {}))
    merged["base"] = {**base, **asked, "set": {**base.get("set", {}), **asked.get("set", {})}}
    return merged


def _check_clips(search: Search, points: list[Point]) -> None:
    """Check that there are clips to train and validate on, long enough for every point."""
    manifest = Manifest.read(Path(search.data))
    for split in ("train", "valid"):
        clips = list(manifest.select(split).clips)
        for point in points:
            try:
                check_clips(point.recipe, point.stages, split, clips)
            except TrainingError as error:
                raise TrainingError(f"{point.name}: {error}") from error


def _shared(search: Search, options: Options) -> Resources:
    """Give every training its share of this machine; a cluster is looked at when it is joined.

    Raises:
        TrainingError: if the machine is too small.
    """
    given = options.resources
    if not given.is_local:
        return replace(given, cpus_per_worker=given.cpus_per_worker or 1)
    held = count_cpus()
    gpus = count_gpus() if given.gpus_per_worker else 0
    one = replace(given, cpus_per_worker=max(1, given.cpus_per_worker))
    at_once = options.max_concurrent or max(
        1, min(search.num_points, _room(one, [{"CPU": held, "GPU": gpus}]))
    )
    cpus = given.cpus_per_worker or max(1, held // (at_once * given.workers))
    shared = replace(given, cpus_per_worker=cpus)
    check_machine(shared)
    if options.max_concurrent:
        _check_concurrency(at_once, shared, [{"CPU": held, "GPU": gpus}], "this machine has")
    return shared


def _check_concurrency(
    at_once: int, resources: Resources, nodes: list[dict[str, float]], who: str
) -> None:
    """Refuse more points at a time than there is room for."""
    room = _room(resources, nodes)
    if at_once > room:
        held = {kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
        gpus = f" and {held['GPU']:g} GPUs" if resources.gpus_per_worker else ""
        each = f" and {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
        raise TrainingError(
            f"--max-concurrent {at_once} x {resources.workers} x {resources.cpus} CPU{each} is "
            f"more than {who}: {held['CPU']:g} CPUs{gpus}, room for {room}"
        )


def _room(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """Return how many points can be trained at a time."""
    return sum(fitting(node, resources) for node in nodes) // resources.workers


def run_session(session: Session, watcher: Watcher) -> bool:
    """Run a search to its end, and write its files after every point.

    Returns:
        Whether all points have ended; False if it was interrupted.

    Raises:
        ZooError: if it cannot be run.
    """
    out = session.out
    make_writable(out)
    with locked(out), interruptible():
        wait_for_trainings(out)
        session.search.write(out)
        session.write()
        tries, points = _to_do(session)
        if tries:
            with connected(session.options.resources):
                _tune(session, watcher, tries, points)
        session.write()
        shutil.rmtree(out / RAY_FOLDER, ignore_errors=True)
        is_over = not _to_do(session, failed_again=False)[0]
        if is_over:
            keep_best(session)
        return is_over


def _to_do(session: Session, *, failed_again: bool = True) -> tuple[int, list[Params]]:
    """Return how many points are to be tried, and which first; a grid knows all of them."""
    from orchestration.tune.study import read_progress

    ended = {"done", "stopped"} | (set() if failed_again else {"failed"})
    if session.search.search == "grid":
        left = [row.params for row in session.rows.read() if row.status not in ended]
        return len(left), left
    progress = read_progress(session.out)
    assert session.search.trials is not None
    lost = 0 if failed_again else progress.failed
    tries = max(0, session.search.trials - progress.ended - lost)
    return tries, list(progress.again)[:tries]


def _tune(session: Session, watcher: Watcher, tries: int, points: list[Params]) -> None:
    """Let Ray Tune run the points that are left."""
    for name, value in _TUNE_SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from orchestration.tune.follow import Follower
    from orchestration.tune.leases import Leases
    from orchestration.tune.study import open_study
    from orchestration.tune.trial import Bench, Trial

    search, out, resources = session.search, session.out, session.options.resources
    at_once = session.options.max_concurrent
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if at_once and not resources.is_local:
        _check_concurrency(at_once, resources, nodes, "the cluster has")
    at_once = at_once or max(1, min(tries, _room(resources, nodes)))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    bench = Bench(
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
        metric=search.metric,
        mode="max",
        grace_period=GRACE,
        reduction_factor=2,
        max_t=100 * search.seeds + 1,
    )
    trainable = tune.with_resources(
        tune.with_parameters(Trial, bench=bench),
        tune.PlacementGroupFactory([{"memory": 1}]),  # the trainings ask for their processors
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=open_study(search, out, points),
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
    with _terminable():
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


def mark_ended(
    session: Session, params: Params, status: str, reason: str, last: Mapping[str, Any]
) -> None:
    """Write down why a point ended before its trainings did.

    Args:
        session: the search.
        params: the point.
        status: stopped or failed.
        reason: why.
        last: what its trial reported last; scores of a first training are kept.
    """
    for seed in session.search.train_seeds:
        folder = folder_of(session.out, params, seed)
        if read_result(folder) is None:
            is_first = seed == session.search.train_seeds[0]
            scores = {name: last.get(name) for name in SCORES} if is_first else {}
            result = failed(params, seed, reason)
            write_result(folder, result.model_copy(update={"status": status, **scores}))
            return


def keep_best(session: Session) -> Path | None:
    """Copy the best model, and say how to train it alone; None if no point came to its end."""
    best = best_of(session.rows.read(), session.search.metric)
    if best is None or best.point is None:
        return None
    seed, run = best_run(best, session.search.metric, session.out)
    target, part = session.out / BEST, session.out / f".{BEST}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in (CONFIG, WEIGHTS, RECIPE):
        shutil.copy2(run / name, part / name)
    command = shlex.join(train_command(best.point, seed, session.options.resources))
    (part / COMMAND).write_text(command + "\n")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def train_command(point: Point, seed: int, resources: Resources) -> list[str]:
    """Return the command that trains a point alone."""
    words = [*program_words(), "train", *request_words(point.for_seed(seed))]
    words += ["--workers", str(resources.workers), "--cpus-per-worker", str(resources.cpus)]
    if resources.gpus_per_worker:
        words += ["--gpus-per-worker", f"{resources.gpus_per_worker:g}"]
    return [*words, "--out", "RUN"]


def is_begun(out: Path) -> bool:
    """Whether a folder holds a search."""
    return (out / SEARCH).exists()
