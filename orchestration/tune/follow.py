"""Ray Tune's trials, as the folder and the people who wait see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from orchestration.tune.run import RETRIES, Session, Watcher, mark_ended
from orchestration.tune.search import Params


class Follower(tune.Callback):  # type: ignore[misc]
    """Writes the files of a search whenever a point has ended."""

    def __init__(self, session: Session, watcher: Watcher) -> None:
        self.session, self.watcher = session, watcher
        self.ended = sum(row.status != "open" for row in session.rows.read())

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that a point begins."""
        self.watcher.begins(dict(trial.config))

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
        self.ended += 1
        self.session.write()
        self.watcher.ended(self.session.rows.row_of(params), self.ended)

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
