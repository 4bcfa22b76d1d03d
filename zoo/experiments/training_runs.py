"""The runs that trainings leave: the command that begins them or goes on, whether they ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from zoo.training.job import CACHE_FOLDER
from zoo.training.request import TrainRequest
from zoo.training.resources import RELEASE_S, Resources
from zoo.training.run_folder import RAY_FOLDER, RECIPE, REQUEST
from zoo.training.runlog import read_metrics


def training_words(request: TrainRequest, run: Path, resources: Resources) -> list[str]:
    """Return the command that trains into a folder, or goes on with what is there."""
    words = ["train", "--out", str(run)]
    if _can_resume(run):
        words += ["--resume"]
    else:
        if run.exists():
            shutil.rmtree(run)  # broken off before anything was learnt
        words += request.words()
    words += ["--workers", str(resources.workers), "--address", resources.address]
    if resources.cpus_per_worker:
        words += ["--cpus-per-worker", str(resources.cpus_per_worker)]
    if resources.gpus_per_worker:
        words += ["--gpus-per-worker", f"{resources.gpus_per_worker:g}"]
    if resources.wait_s != RELEASE_S:
        words += ["--wait", f"{resources.wait_s:g}"]
    return words


def _can_resume(run: Path) -> bool:
    try:
        json.loads((run / RECIPE).read_text())
        json.loads((run / REQUEST).read_text())
    except (OSError, ValueError):
        return False
    return True


def is_trained(run: Path, stage: int) -> bool:
    """Whether a run has ended with a stage."""
    return any(r["kind"] == "done" and r["stage"] >= stage for r in read_metrics(run))


def tidy(run: Path) -> None:
    """Remove what only a run that goes on needs."""
    for name in (CACHE_FOLDER, RAY_FOLDER):
        shutil.rmtree(run / name, ignore_errors=True)
