"""The folder of a run: made once, recognised when it is resumed."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo.catalog.entries import CONFIG
from zoo.errors import ConfigError, PluginError, TrainingError, option
from zoo.files import sha256_of, write_whole
from zoo.registry.plugin_files import missing_plugin
from zoo.training.job import MANIFEST_HASH, STAGE1_FOLDER, Job
from zoo.training.recipe import Recipe, read_recipe
from zoo.training.request import (
    TrainRequest,
    check_components,
    first_difference,
    recipe_of,
)
from zoo.training.start import START_FOLDER, prepare_start, start_folder

RECIPE, REQUEST, ENVIRONMENT = "recipe.json", "request.json", "environment.json"
RAY_FOLDER = "ray"
_PACKAGES = ("avsync-zoo", "torch", "torchvision", "torchaudio", "timm", "av", "numpy", "ray")


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin or to go on."""

    job: Job
    request: TrainRequest

    def write(self) -> None:
        """Write what decides the run into its folder."""
        recipe = self.job.run / RECIPE
        if not recipe.exists():
            write_whole(recipe, self.job.recipe.model_dump_json(indent=2) + "\n")
        kept = self.job.run / MANIFEST_HASH
        if self.job.manifest.exists() and not kept.exists():
            write_whole(kept, sha256_of(self.job.manifest) + "\n")
        self.request.write(self.job.run / REQUEST)
        start = self.job.run / START_FOLDER
        if self.job.init == start and not (start / CONFIG).exists():
            request = self.request
            prepare_start(request.init or (), request.positions, self.job.recipe, start)


def open_run(request: TrainRequest, out: Path, gpus_per_worker: float, *, resume: bool) -> Run:
    """Check a request against the folder of the run; nothing is written but a test file.

    Raises:
        ZooError: whatever is wrong with the request or the folder, in one sentence.
    """
    if not resume:
        refuse_filled(out)
    run = _reopen(request, out, gpus_per_worker) if resume else _new(request, out, gpus_per_worker)
    make_writable(out)
    return run


def _new(request: TrainRequest, out: Path, gpus_per_worker: float) -> Run:
    return Run(_job(request, recipe_of(request, gpus_per_worker), out), request)


def _reopen(request: TrainRequest, out: Path, gpus_per_worker: float) -> Run:
    if not (out / RECIPE).exists():
        raise TrainingError(f"there is no run to resume in {out}: it has no {RECIPE}")
    try:
        recipe, saved = read_recipe(out / RECIPE), TrainRequest.read(out / REQUEST)
        check_components(recipe)
    except PluginError as error:
        raise missing_plugin(error, out, {}) from error
    merged = request.over(saved)
    if not request.is_empty:
        _refuse_difference(out, recipe, recipe_of(merged, gpus_per_worker))
        for name in ("data", "init", "init_positions"):
            old, new = getattr(saved, name), getattr(merged, name)
            if old != new:
                old, new = (" ".join(v) if isinstance(v, tuple) else v for v in (old, new))
                raise ConfigError(
                    f"{out} cannot go on with other settings: {option(name)} is {old} there, "
                    f"{new} here"
                )
    return Run(_job(merged, recipe, out), merged)


def _refuse_difference(out: Path, old: Recipe, new: Recipe) -> None:
    difference = first_difference(old.model_dump(mode="json"), new.model_dump(mode="json"))
    if difference:
        raise ConfigError(
            f"{out} cannot go on with other settings: {difference}",
            f"take another {option('out')}",
        )


def _job(request: TrainRequest, recipe: Recipe, out: Path) -> Job:
    if request.data is None:
        raise ConfigError(
            f"say what to train on: {option('data')} MANIFEST (make one: zoo data prepare)"
        )
    init = start_folder(request.init or (), out)
    stages = request.stages(recipe)
    if stages == (2,) and init is None and recipe.stage2.is_frozen:
        if not (out / STAGE1_FOLDER / CONFIG).exists():
            raise ConfigError(
                f"{option('stage')} 2 needs the encoder of stage 1: {option('init')} MODEL_FOLDER"
            )
        stages = (1, 2)  # stage 1 is done and is passed over
    return Job(recipe, Path(request.data), out, stages, init)


def refuse_filled(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        TrainingError: if it does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(
            f"{out} exists and is not empty",
            f"take another {option('out')}, or go on with {option('resume')}",
        )


def make_writable(folder: Path) -> None:
    """Make a folder and see whether it can be written to.

    Raises:
        TrainingError: if it cannot.
    """
    probe = folder / f".write-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(f"cannot write to {folder}: {error.strerror or error}") from None


def write_environment(out: Path, facts: dict[str, Any]) -> None:
    """Add to the list of starts of a run: what ran it, where, and how it was called."""
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "git_commit": _git_commit(),
        **facts,
    }
    starts = [*read_starts(out), entry]
    write_whole(out / ENVIRONMENT, json.dumps({"starts": starts}, indent=2) + "\n")


def read_starts(out: Path) -> list[dict[str, Any]]:
    """Return how a run was started, first time first."""
    try:
        return list(json.loads((out / ENVIRONMENT).read_text())["starts"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, if it runs from one."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return answer.stdout.strip() or None
