"""Optuna's study of a search: proposes points, and keeps what they came to in SQLite."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from orchestration.tune.search import Params, Search
from zoo.contracts import Score
from zoo.errors import TrainingError
from zoo.search_space import Choice, Range

STUDY, NAME, INTERRUPTED = "study.db", "zoo-tune", "interrupted"
COST = "gflops"


class StudySearch(OptunaSearch):  # type: ignore[misc]
    """`OptunaSearch` that also knows trials that failed: they have no score."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass on an intermediate score."""
        if not result.get("failed"):
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass on how a trial ended."""
        if result is not None and result.get("failed"):
            result, error = None, True
        super().on_trial_complete(trial_id, result, error)


def open_study(search: Search, metric: Score, out: Path, points: list[Params]) -> StudySearch:
    """Open the study of a search, or begin it.

    Args:
        search: what is searched for.
        metric: the score that counts.
        out: its folder.
        points: to try first, in this order; for a grid these are all that are left.

    Raises:
        TrainingError: if the study is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
    is_cost = search.goal == "accuracy-cost"
    mode = "max" if metric.is_higher_better else "min"
    with _sentences(out):
        storage = optuna.storages.RDBStorage(f"sqlite:///{out / STUDY}")
        begun = _close_interrupted(storage)
        return StudySearch(
            space={name: distribution(found) for name, found in search.space.items()},
            metric=[metric.name, COST] if is_cost else metric.name,
            mode=[mode, "min"] if is_cost else mode,
            points_to_evaluate=points or None,
            sampler=optuna.samplers.TPESampler(seed=search.seed + begun, constant_liar=True),
            study_name=NAME,
            storage=storage,
        )


@contextmanager
def _sentences(out: Path) -> Iterator[None]:
    """Say in one sentence that a study is damaged."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("optuna", "sqlalchemy", "sqlite3")):
            raise
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"{out / STUDY} cannot be used ({reason}); remove it: what has been trained stays"
        ) from None


def distribution(dimension: Choice | Range) -> BaseDistribution:
    """Return what Optuna calls a dimension."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.is_whole:
        low, high = int(dimension.low), int(dimension.high)
        return IntDistribution(low, high, log=dimension.log, step=int(dimension.step or 1))
    low_f, high_f = float(dimension.low), float(dimension.high)
    return FloatDistribution(low_f, high_f, log=dimension.log, step=dimension.step)


def _close_interrupted(storage: optuna.storages.BaseStorage) -> int:
    """Mark the trials that an interrupted search left open, and count all trials so far."""
    count = 0
    for summary in optuna.get_all_study_summaries(storage):
        study = optuna.load_study(study_name=summary.study_name, storage=storage)
        for trial in study.get_trials(deepcopy=False):
            count += 1
            if trial.state == TrialState.WAITING:
                storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            if not trial.state.is_finished():
                storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
                study.tell(trial.number, state=TrialState.FAIL)
    return count


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        ended: trials that ended with a score.
        failed: trials that ended without one, of points that never had one.
        again: points that were interrupted or failed, to be tried again.
    """

    ended: int = 0
    failed: int = 0
    again: tuple[Params, ...] = ()


def read_progress(out: Path) -> Progress:
    """Read how far the study in a folder is.

    Raises:
        TrainingError: if the study is damaged.
    """
    if not (out / STUDY).exists():
        return Progress()
    with _sentences(out):
        storage = optuna.storages.RDBStorage(f"sqlite:///{out / STUDY}")
        if NAME not in {s.study_name for s in optuna.get_all_study_summaries(storage)}:
            return Progress()
        trials = optuna.load_study(study_name=NAME, storage=storage).get_trials(deepcopy=False)
    ended = [trial.params for trial in trials if trial.state == TrialState.COMPLETE]
    again: list[Params] = []
    failed = 0
    for trial in trials:
        params = dict(trial.params or trial.system_attrs.get("fixed_params", {}))
        if not params or params in ended:
            continue
        if params not in again:
            again.append(params)
        failed += trial.state == TrialState.FAIL and INTERRUPTED not in trial.user_attrs
    return Progress(len(ended), failed, tuple(again))
