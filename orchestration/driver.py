"""The driver: builds the trainer, watches it, and says how it ended."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from orchestration.cluster import connected, require_running
from zoo.errors import TrainingError
from zoo.experiments.lock import interruptible
from zoo.experiments.process import BROKE_OFF
from zoo.registry.plugin_files import PLUGIN_FILES_VARIABLE, copy_plugins
from zoo.training.job import Job, clips_of
from zoo.training.rehearsal import check_clips
from zoo.training.request import TrainRequest, check_shares
from zoo.training.resources import Resources, check_machine
from zoo.training.run_display import display, summary
from zoo.training.run_folder import RAY_FOLDER, open_run, read_starts, write_environment
from zoo.training.run_plots import plot_run
from zoo.training.start import describe_start

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

logger = logging.getLogger(__name__)
ERROR_LOG = "error.log"
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray's list of the checkpoints it knows
REFRESH_S = 0.25
COLLECTIVE_TIMEOUT_S = 7200  # one worker may still be encoding clips while the others wait
MAX_WORKER_FAILURES = 3


def launch(request: TrainRequest, out: Path, resources: Resources, *, resume: bool) -> int:
    """Run ``zoo train`` and return its exit code: 0, or 130 after Ctrl-C.

    Raises:
        ZooError: whatever is wrong with the input, in one sentence.
    """
    run = open_run(request, out, resources.gpus_per_worker, resume=resume)
    job = run.job
    for split, clips in zip(("train", "valid"), clips_of(job), strict=True):
        check_clips(job.recipe, job.stages, split, clips)
    check_shares(job.recipe, job.stages, resources.workers)
    check_machine(resources)
    console, started = Console(), time.monotonic()
    run.write()
    before = read_starts(out)
    difference = resources.differs_from(before[-1]) if before else ""
    if difference:
        said = f"{difference}: the weights will not be those of an uninterrupted run"
        console.print(said, highlight=False, soft_wrap=True)
    write_environment(out, resources.facts)
    for line in [] if job.init is None else describe_start(job.init):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    with display(job, resources.workers, resources.threads, console) as shown:
        shown.catch_up()
        if not shown.state.is_done_with(job.stages):
            try:
                with connected(resources), interruptible():
                    fit(job, resources, shown.refresh)
                remove_unknown_checkpoints(out / RAY_FOLDER)
            except KeyboardInterrupt:
                said = f"interrupted; go on with: zoo train --out {out} --resume"
                console.print(said, highlight=False, soft_wrap=True)
                return 130
    plots = plot_run(out)
    closing = summary(job, shown.state, plots, time.monotonic() - started)
    console.print(closing, highlight=False)
    return 0


def remove_unknown_checkpoints(folder: Path) -> None:
    """Remove checkpoints that were written when the driver was killed, of which Ray knows nothing.

    Args:
        folder: of Ray, in a run that has ended.
    """
    try:
        results = json.loads((folder / SNAPSHOT).read_text())["checkpoint_results"]
        known = {result["checkpoint_dir_name"] for result in results}
    except (OSError, ValueError, KeyError, TypeError):
        return
    for place in folder.glob("checkpoint_*"):
        if place.is_dir() and place.name not in known:
            shutil.rmtree(place, ignore_errors=True)


def build_trainer(job: Job, resources: Resources) -> TorchTrainer:
    """Build the Ray trainer of a job; a run of the same folder is resumed."""
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
    )
    from ray.train.torch import TorchConfig, TorchTrainer

    from orchestration.failures import StopOnInputError
    from orchestration.train_function import train_fn
    from orchestration.worker import to_config

    use_gpu = resources.gpus_per_worker > 0
    each: dict[str, float] = {"CPU": resources.cpus}
    if use_gpu:
        each["GPU"] = resources.gpus_per_worker
    return TorchTrainer(
        train_fn,
        train_loop_config=to_config(job, resources.threads, resources.ingest),
        torch_config=TorchConfig(
            backend="nccl" if use_gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S
        ),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=use_gpu, resources_per_worker=each
        ),
        run_config=RunConfig(
            storage_path=str(job.run),
            name=RAY_FOLDER,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(
                max_failures=MAX_WORKER_FAILURES, controller_failure_limit=1
            ),
            callbacks=[StopOnInputError()],
            worker_runtime_env={"env_vars": _worker_environment(job.run)},
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _worker_environment(run: Path) -> dict[str, str]:
    """Point the workers at copies of the plugins on storage that they share."""
    return {PLUGIN_FILES_VARIABLE: os.pathsep.join(map(str, copy_plugins(run)))}


def fit(job: Job, resources: Resources, refresh: Callable[[], None]) -> None:
    """Train, and turn what went wrong into an error of ours.

    Ray runs in a thread of its own, so that this one can show progress and take Ctrl-C.

    Args:
        job: what to run.
        resources: what to run it on.
        refresh: called a few times per second.
    """
    from orchestration.failures import explain_failure, input_error

    trainer = build_trainer(job, resources)
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # handed over to the main thread
            outcome.append(error)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(REFRESH_S)
        refresh()
        require_running()
    if outcome:
        mistake = input_error(outcome[0])
        if mistake is not None:
            raise mistake
        reason, details = explain_failure(outcome[0])
        log = job.run / ERROR_LOG
        with suppress(OSError):  # the disk may be why
            log.write_text(details + "\n", errors="backslashreplace")
        logger.debug("%s", details)
        raise TrainingError(f"{BROKE_OFF}: {reason}; details: {log}")
