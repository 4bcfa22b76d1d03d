"""The folders that trainings leave: whether they have ended, and what they need no more."""

from __future__ import annotations

import shutil
from pathlib import Path

from zoo.training.job import CACHE_FOLDER
from zoo.training.run_folder import RAY_FOLDER
from zoo.training.runlog import read_metrics


def is_trained(run: Path, stage: int) -> bool:
    """Whether a run has ended with a stage."""
    return any(r["kind"] == "done" and r["stage"] >= stage for r in read_metrics(run))


def tidy(run: Path) -> None:
    """Remove what only a run that goes on needs."""
    for name in (CACHE_FOLDER, RAY_FOLDER):
        shutil.rmtree(run / name, ignore_errors=True)
