"""Running a search: its folder, the cluster, Ray Tune, its files."""

from __future__ import annotations

import os
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from orchestration.cluster import connected
from orchestration.tune.point_work import PointResult, failed
from orchestration.tune.points import Point, check_space, folder_of, name_of
from orchestration.tune.search import (
    Params,
    Search,
    build_search,
    read_search,
    refuse_difference,
)
from orchestration.tune.search_rows import Rows, SearchTable, best_of, best_run, metric_of
from zoo.catalog.model_folder import files_of, read_description
from zoo.contracts import Score
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError, option, suggest
from zoo.experiments.lock import interruptible, locked, wait_for_trainings
from zoo.experiments.overview import Experiment, RunAtWork, Watcher
from zoo.experiments.process import program_words, resume_command
from zoo.experiments.results import RUN, read_result, scores_in, write_result
from zoo.experiments.training_runs import is_trained
from zoo.training.rehearsal import check_clips
from zoo.training.resources import Resources, check_machine, count_cpus, count_gpus, fitting
from zoo.training.run_folder import RECIPE, make_writable, refuse_filled

BEST, COMMAND, RAY_FOLDER = "best", "command.txt", "ray"
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

    @property
    def as_typed(self) -> dict[str, object]:
        """The options by their names."""
        own = {"max_concurrent": self.max_concurrent, "workers_per_trial": self.resources.workers}
        names = ("gpus_per_worker", "address")
        return own | {name: getattr(self.resources, name) for name in names}


@dataclass
class Session(Experiment):
    """A search with its points, ready to be run.

    Attributes:
        search: what is searched for.
        out: folder of everything.
        points: of the grid, or corners of what Optuna may propose.
        options: how to run it.
        rows: what is known so far.
    """

    unit = "point"
    search: Search
    out: Path
    points: list[Point]
    options: Options
    rows: Rows

    def __post_init__(self) -> None:
        self.title = self.search.title

    @property
    def metric(self) -> Score:
        """The score that counts."""
        return metric_of(self.search, self.points[0].recipe.task)

    @property
    def total(self) -> int:
        """Points that will be tried."""
        return self.search.num_points

    @property
    def waiting(self) -> Counter[str]:
        """How many points have not ended, or will be tried again."""
        tried = sum(row.status in {"done", "stopped"} for row in self.rows.read())
        return Counter({"": max(0, self.total - tried)})

    @property
    def known(self) -> SearchTable:
        """The table as far as it is known."""
        return SearchTable(self.search, self.rows.read())

    @property
    def failures(self) -> dict[str, str]:
        """Trainings that failed, and why."""
        found = [r for row in self.rows.read() for r in row.results if r.status == "failed"]
        return {f"{name_of(r.params)}, seed {r.seed}": r.reason or "" for r in found}

    @property
    def resume_command(self) -> str:
        """The command that goes on in the same way."""
        return resume_command("tune", self.out, self.options.as_typed, Options().as_typed)

    @property
    def closing(self) -> list[str]:
        """Where the best model is, and how to train it alone."""
        command = self.out / BEST / COMMAND
        if not command.exists():
            return []
        return [f"best model: {self.out / BEST}", f"alone: {command.read_text().strip()}"]

    def run(self, watcher: Watcher) -> bool:
        """Run the search to its end, and write its files after every point."""
        out = self.out
        make_writable(out)
        with locked(out), interruptible():
            wait_for_trainings(out)
            self.search.write(out)
            self.write()
            tries, points = _to_do(self)
            if tries:
                with connected(self.options.resources):
                    _tune(self, watcher, tries, points)
            self.write()
            shutil.rmtree(out / RAY_FOLDER, ignore_errors=True)
            is_over = not _to_do(self, failed_again=False)[0]
            if is_over:
                keep_best(self)
            return is_over


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
    if not resume:
        refuse_filled(out)
        search = build_search(given)
    else:
        kept = read_search(out)
        if "input_s" in given and not kept.is_segment_length:
            raise ConfigError(f"{out} holds a search of other settings, not of segment lengths")
        search = build_search(_merged(kept, given))
        refuse_difference(kept, search, out)
    options = replace(options, resources=_shared(search, options))
    gpus = options.resources.gpus_per_worker
    points = check_space(search, gpus, options.resources.workers)
    search = _with_metric(search, points)
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


def _with_metric(search: Search, points: list[Point]) -> Search:
    """Write down which score counts.

    Raises:
        ConfigError: if the task has no such score.
    """
    task = points[0].recipe.task
    known = [score.name for score in task.scores]
    if search.metric is not None and search.metric not in known:
        raise ConfigError(
            f"{option('metric')} {search.metric}: the task '{task.name}' has no such score"
            f"{suggest(search.metric, known)}; there are {', '.join(known)}"
        )
    return search.model_copy(update={"metric": search.metric or task.scores[0].name})


def _check_clips(search: Search, points: list[Point]) -> None:
    """Check that there are clips to train and validate on, long enough for every point."""
    manifest = Manifest.read(Path(search.data))
    for split in ("train", "valid"):
        clips = list(manifest.select(split).clips)
        for point in points:
            try:
                check_clips(point.recipe, point.stages, split, clips)
            except TrainingError as error:
                raise error.within(point.name) from error


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
        1, min(search.num_points, count_room(one, [{"CPU": held, "GPU": gpus}]))
    )
    cpus = given.cpus_per_worker or max(1, held // (at_once * given.workers))
    shared = replace(given, cpus_per_worker=cpus)
    check_machine(shared)
    if options.max_concurrent:
        check_concurrency(at_once, shared, [{"CPU": held, "GPU": gpus}], "this machine has")
    return shared


def check_concurrency(
    at_once: int, resources: Resources, nodes: list[dict[str, float]], who: str
) -> None:
    """Refuse more points at a time than there is room for."""
    room = count_room(resources, nodes)
    if at_once > room:
        held = {kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
        gpus = f" and {held['GPU']:g} GPUs" if resources.gpus_per_worker else ""
        each = f" and {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
        raise TrainingError(
            f"{option('max_concurrent')} {at_once} x {resources.workers} x {resources.cpus} "
            f"CPU{each} is more than {who}: {held['CPU']:g} CPUs{gpus}, room for {room}"
        )


def count_room(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """Return how many points can be trained at a time."""
    return sum(fitting(node, resources) for node in nodes) // resources.workers


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
    from orchestration.tune.ray_trials import run_trials

    run_trials(session, watcher, tries, points)


def run_at_work(session: Session, params: Params) -> RunAtWork:
    """Say which training of a point is at work."""
    out, point = session.out, session.rows.row_of(params).point
    for seed in session.search.train_seeds:
        folder = folder_of(out, params, seed)
        if read_result(folder, PointResult) is None:
            break
    if point is None:  # it will fail
        return RunAtWork(folder / RUN, session.points[0].recipe, (2,))
    encoder = point.encoder_folder(out, seed)
    if point.has_stage1 and not is_trained(encoder, 1):
        return RunAtWork(encoder, point.recipe, (1,), f", shared, seed {seed}")
    stages = (2,) if point.has_stage1 else point.stages
    return RunAtWork(folder / RUN, point.recipe, stages, f", seed {seed}")


def mark_ended(
    session: Session,
    params: Params,
    status: Literal["stopped", "failed"],
    reason: str,
    last: Mapping[str, Any],
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
        if read_result(folder, PointResult) is None:
            is_first = seed == session.search.train_seeds[0]
            task = session.points[0].recipe.task
            scores = scores_in(last, task) if is_first else {}
            result = failed(params, seed, reason)
            write_result(folder, result.model_copy(update={"status": status, "scores": scores}))
            return


def keep_best(session: Session) -> Path | None:
    """Copy the best model, and say how to train it alone; None if no point came to its end."""
    best = best_of(session.rows.read(), session.metric)
    if best is None or best.point is None:
        return None
    seed, run = best_run(best, session.metric, session.out)
    target, part = session.out / BEST, session.out / f".{BEST}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in (*files_of(read_description(run)), RECIPE):
        shutil.copy2(run / name, part / name)
    command = shlex.join(train_command(best.point, seed, session.options.resources))
    (part / COMMAND).write_text(command + "\n")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def train_command(point: Point, seed: int, resources: Resources) -> list[str]:
    """Return the command that trains a point alone."""
    words = [*program_words(), "train", *point.for_seed(seed).words()]
    words += ["--workers", str(resources.workers), "--cpus-per-worker", str(resources.cpus)]
    if resources.gpus_per_worker:
        words += ["--gpus-per-worker", f"{resources.gpus_per_worker:g}"]
    return [*words, "--out", "RUN"]
