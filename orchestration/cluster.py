"""A Ray cluster to train on: start or join one, and see whether it is large enough."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.errors import TrainingError

# Measured: a third less start-up time, and a dead worker is noticed in a fifth of a second.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
_LOCAL_SETTINGS = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
Ingest = Literal["loader", "ray"]
RELEASE_S = 15.0  # a run that has just ended gives its processors back only after a while
_START_VARIABLE, _START_S = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", 120


@dataclass(frozen=True)
class Resources:
    """What a run wants of a cluster.

    Attributes:
        workers: processes that train together.
        cpus_per_worker: processors of each; 0 shares out this machine, or is 1 on a cluster.
        gpus_per_worker: GPUs of each; 0 trains on processors.
        address: ``local`` starts a cluster here; ``auto`` or an address joins a running one.
        wait_s: seconds to wait for processors that others use.
        ingest: who decodes: the workers' own ``loader`` processes, or ``ray``, on processors
            beside those of the workers, anywhere on the cluster.
    """

    workers: int = 1
    cpus_per_worker: int = 0
    gpus_per_worker: float = 0
    address: str = "local"
    wait_s: float = RELEASE_S
    ingest: Ingest = "loader"

    @property
    def is_local(self) -> bool:
        """Whether the cluster is this machine alone."""
        return self.address == "local"

    @property
    def cpus(self) -> int:
        """Processors of every worker."""
        if self.cpus_per_worker:
            return self.cpus_per_worker
        if self.ingest == "ray" or not self.is_local:
            return 1
        return max(1, count_cpus() // self.workers)

    @property
    def threads(self) -> int:
        """Torch threads of every worker; OMP_NUM_THREADS has the last word."""
        asked = os.environ.get("OMP_NUM_THREADS", "")
        return int(asked) if asked.isdigit() and int(asked) > 0 else self.cpus


def count_cpus() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int:
    """Count the GPUs of this machine."""
    import torch

    return torch.cuda.device_count()


def check_machine(resources: Resources) -> None:
    """Check that this machine is large enough, where the cluster is this machine.

    Raises:
        TrainingError: saying what is missing.
    """
    if resources.is_local:
        held: dict[str, float] = {"CPU": count_cpus()}
        if resources.gpus_per_worker:
            held["GPU"] = count_gpus()
        _check_enough(resources, held, "this machine has")


@contextmanager
def connected(resources: Resources) -> Iterator[None]:
    """Start or join a cluster, check that it is large enough, and leave it afterwards.

    Raises:
        TrainingError: if there is no such cluster or it is too small.
    """
    for name, value in (_SETTINGS | (_LOCAL_SETTINGS if resources.is_local else {})).items():
        os.environ.setdefault(name, value)
    if not resources.is_local and has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if resources.wait_s > _START_S:
        os.environ[_START_VARIABLE] = str(math.ceil(resources.wait_s))
    else:
        os.environ.setdefault(_START_VARIABLE, str(_START_S))
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        _init(resources)
    try:
        _wait_until_free(resources)
        yield
    finally:
        if is_ours:
            ray.shutdown()


def has_token() -> bool:
    """Say whether there is a token: if so, ``ray start`` made a cluster that asks for it."""
    is_given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return is_given or (Path.home() / ".ray" / "auth_token").exists()


def _init(resources: Resources) -> None:
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if resources.is_local:
        ray.init(
            address="local",
            num_cpus=count_cpus(),
            include_dashboard=False,
            # Nothing but metrics goes through it, unless clips do.
            object_store_memory=200 * 2**20 if resources.ingest == "loader" else None,
            **quiet,
        )
        return
    try:
        ray.init(address=resources.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"cannot join the Ray cluster '{resources.address}': {reason}; "
            "start one with: ray start --head"
        ) from None


def _wait_until_free(resources: Resources) -> None:
    """Ray would wait for missing processors for ever: say what is missing instead.

    Whoever is ready to wait for long also waits for machines that are not there yet.
    """
    import ray

    waited_until = time.monotonic() + resources.wait_s
    is_patient = resources.wait_s > RELEASE_S
    while True:
        is_there = False
        try:
            _check_size(resources)
            is_there = True
            return _check_enough(resources, ray.available_resources(), "others leave")
        except TrainingError:
            if time.monotonic() > waited_until or not (is_there or is_patient):
                raise
            time.sleep(0.2)


def _check_size(resources: Resources) -> None:
    """Check that a cluster is large enough, whatever others use of it."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    held = {kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
    _check_enough(resources, held, "the cluster has")
    if sum(fitting(node, resources) for node in nodes) < resources.workers:
        raise TrainingError(
            f"no way to place {resources.workers} workers of {_ask(resources)} on the "
            f"{len(nodes)} machines of the cluster; lower --cpus-per-worker"
        )


def fitting(node: dict[str, float], resources: Resources) -> int:
    """Return how many workers a machine has room for."""
    by_cpu = int(node.get("CPU", 0) // resources.cpus)
    if not resources.gpus_per_worker:
        return by_cpu
    return min(by_cpu, int(node.get("GPU", 0) // resources.gpus_per_worker))


def _check_enough(resources: Resources, held: dict[str, float], who: str) -> None:
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus_per_worker}
    for kind, each in wanted.items():
        needed, there = each * resources.workers, held.get(kind, 0)
        if needed > there + 1e-6:
            raise TrainingError(
                f"{resources.workers} workers of {_ask(resources)} need {needed:g} {kind}s, but "
                f"{who} {there:g}; ask for fewer --workers"
            )
    needed = resources.cpus * resources.workers + 1
    if resources.ingest == "ray" and needed > held.get("CPU", 0) + 1e-6:
        raise TrainingError(
            f"--ingest ray decodes on processors beside those of the workers: {needed} CPUs are "
            f"needed, but {who} {held.get('CPU', 0):g}; ask for fewer --workers or "
            "--cpus-per-worker, or leave --ingest out"
        )


def _ask(resources: Resources) -> str:
    gpus = f" and {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
    return f"{resources.cpus} CPU{gpus}"
