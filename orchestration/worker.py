"""One Ray Train worker: an engine for `zoo.training`, and a job's way to it."""

from __future__ import annotations

import fcntl
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from torch import nn
from torch.utils.data import Dataset

from orchestration.ingest import stream
from zoo.errors import TrainingError
from zoo.training.job import Job, run_job
from zoo.training.loader import in_order
from zoo.training.recipe import parse_recipe
from zoo.training.resources import Ingest

LOCK, LOCK_WAIT_S = ".lock", 60.0
log = logging.getLogger(__name__)
T = TypeVar("T")


class RayEngine:
    """`zoo.training.engine.Engine` on Ray Train."""

    def __init__(self, ingest: Ingest = "loader") -> None:
        self.ingest = ingest
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = get_device()
        self._fetched: tempfile.TemporaryDirectory[str] | None = None

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move a module to the device; wrap it if there is a gradient to share."""
        if not any(p.requires_grad for p in module.parameters()):
            return module.to(self.device)
        skips = any(getattr(part, "may_skip_parameters", False) for part in module.modules())
        return prepare_model(module, parallel_strategy_kwargs={"find_unused_parameters": skips})

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        """Hand metrics and a checkpoint to Ray, which waits for all workers."""
        folder = None if checkpoint is None else ray.train.Checkpoint.from_directory(checkpoint)
        ray.train.report(metrics, checkpoint=folder)

    def checkpoints(self) -> Iterator[Path]:
        """Fetch the checkpoints, newest first; each stays readable until the next is asked for.

        All workers look at the same folder, and so they choose alike.
        """
        newest = ray.train.get_checkpoint()
        if newest is None:
            return
        last = Path(newest.path)
        for place in sorted(last.parent.glob("checkpoint_*"), reverse=True):
            if place.name <= last.name:  # else it was not reported to the end
                self._fetched = tempfile.TemporaryDirectory(prefix="zoo-checkpoint-")
                checkpoint = ray.train.Checkpoint.from_directory(place)
                yield Path(checkpoint.to_directory(self._fetched.name))

    def load(self, dataset: Dataset[T], items: Sequence[int], workers: int | None) -> Iterator[T]:
        """Read by processes beside this one, or by Ray Data anywhere on the cluster."""
        if self.ingest == "ray" and workers is not None:
            return stream(dataset, items)
        return iter(in_order(dataset, items, workers or 0))


def to_config(job: Job, threads: int, ingest: Ingest = "loader") -> dict[str, Any]:
    """Pack a job for the journey to the workers."""
    return {
        "recipe": job.recipe.model_dump(mode="json"),
        "manifest": str(job.manifest),
        "run": str(job.run),
        "stages": list(job.stages),
        "init": None if job.init is None else str(job.init),
        "threads": threads,
        "ingest": ingest,
    }


def _unpack(config: dict[str, Any]) -> Job:
    return Job(
        recipe=parse_recipe(config["recipe"]),
        manifest=Path(config["manifest"]),
        run=Path(config["run"]),
        stages=tuple(config["stages"]),
        init=None if config["init"] is None else Path(config["init"]),
    )


def work(config: dict[str, Any]) -> None:
    """Run a job on this worker: fresh, after a failure, or resumed alike."""
    job = _unpack(config)
    torch.set_num_threads(config["threads"])
    engine = RayEngine(config["ingest"])
    with _alone(job.run, engine.rank):
        run_job(engine, job)


@contextmanager
def _alone(run: Path, rank: int) -> Iterator[None]:
    """Let one rank 0 at a time write into a run.

    The workers of a driver that was killed live on for a moment; a resumed run waits for them.
    """
    if rank:
        yield
        return
    with (run / LOCK).open("w") as lock:
        give_up = time.monotonic() + LOCK_WAIT_S
        while not _try_lock(lock.fileno()):
            if time.monotonic() > give_up:
                raise TrainingError(f"another process is training into {run}; stop it first")
            time.sleep(0.2)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some shared file systems cannot lock
        log.warning("the run is not locked against a second one: %s", error)
    return True
