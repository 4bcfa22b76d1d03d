"""The driver: builds the trainer, watches it, and says how it ended."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.cluster import Resources, connected
from orchestration.request import Request, check_shares
from orchestration.run_folder import open_run, write_environment
from zoo.errors import TrainingError, ZooError
from zoo.hooks import PLUGIN_FILES_VARIABLE
from zoo.training.run import Job

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

RAY_FOLDER, ERROR_LOG = "ray", "error.log"
COLLECTIVE_TIMEOUT_S = 7200  # one worker may still be encoding clips while the others wait
MAX_WORKER_FAILURES = 3


def launch(request: Request, out: Path, resources: Resources, *, resume: bool) -> int:
    """Run ``zoo train`` and return its exit code.

    Raises:
        ZooError: whatever is wrong with the input, in one sentence.
    """
    job = open_run(request, out, resources.gpus_per_worker, resume=resume)
    check_shares(job.recipe, job.stages, resources.workers)
    write_environment(out, {"workers": resources.workers, "threads": resources.threads})
    with connected(resources):
        fit(job, resources)
    return 0


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
    from orchestration.worker import to_config, train_fn

    use_gpu = resources.gpus_per_worker > 0
    each: dict[str, float] = {"CPU": resources.cpus}
    if use_gpu:
        each["GPU"] = resources.gpus_per_worker
    return TorchTrainer(
        train_fn,
        train_loop_config=to_config(job, resources.threads),
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
            worker_runtime_env={"env_vars": _worker_environment()},
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _worker_environment() -> dict[str, str]:
    return {PLUGIN_FILES_VARIABLE: os.environ.get(PLUGIN_FILES_VARIABLE, "")}


def fit(job: Job, resources: Resources) -> None:
    """Train, and turn what went wrong into an error of ours.

    Ray runs in a thread, so that this one can show progress and take Ctrl-C.
    """
    from orchestration.failures import explain_failure

    trainer = build_trainer(job, resources)
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if "error" in outcome:
        reason, details = explain_failure(outcome["error"])
        if details is None:
            raise ZooError(reason)
        (job.run / ERROR_LOG).write_text(details)
        raise TrainingError(f"training broke off: {reason}; details: {job.run / ERROR_LOG}")
