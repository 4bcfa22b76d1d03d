"""What a run asks of the machines it trains on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zoo.errors import TrainingError, option

Ingest = Literal["loader", "ray"]
REMEMBERED = ("workers", "cpus_per_worker", "gpus_per_worker", "ingest")
"""What a resumed run takes over from its last start."""
RELEASE_S = 15.0  # a run that has just ended gives its processors back only after a while


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

    @property
    def facts(self) -> dict[str, Any]:
        """What decides, beside the recipe, with which weights a run ends."""
        return {name: getattr(self, name) for name in REMEMBERED} | {"threads": self.threads}

    def differs_from(self, facts: Mapping[str, Any]) -> str:
        """Say what of the facts of an earlier start is otherwise now; ``""`` if nothing is."""
        now = self.facts
        return ", ".join(
            f"{name.replace('_', ' ')} {now[name]:g} instead of {facts[name]:g}"
            for name in ("workers", "threads")
            if name in facts and now[name] != facts[name]
        )


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
        check_enough(resources, held, "this machine has")


def fitting(node: dict[str, float], resources: Resources) -> int:
    """Return how many workers a machine has room for."""
    by_cpu = int(node.get("CPU", 0) // resources.cpus)
    if not resources.gpus_per_worker:
        return by_cpu
    return min(by_cpu, int(node.get("GPU", 0) // resources.gpus_per_worker))


def check_enough(resources: Resources, held: dict[str, float], who: str) -> None:
    """Check that the processors and GPUs that are held suffice.

    Raises:
        TrainingError: saying what is missing.
    """
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus_per_worker}
    for kind, each in wanted.items():
        needed, there = each * resources.workers, held.get(kind, 0)
        if needed > there + 1e-6:
            raise TrainingError(
                f"{resources.workers} workers of {ask(resources)} need {needed:g} {kind}s, but "
                f"{who} {there:g}; ask for fewer {option('workers')}"
            )
    needed = resources.cpus * resources.workers + 1
    if resources.ingest == "ray" and needed > held.get("CPU", 0) + 1e-6:
        raise TrainingError(
            f"{option('ingest')} ray decodes on processors beside those of the workers: {needed} "
            f"CPUs are needed, but {who} {held.get('CPU', 0):g}",
            f"ask for fewer {option('workers')} or {option('cpus_per_worker')}, or leave "
            f"{option('ingest')} out",
        )


def ask(resources: Resources) -> str:
    """Say what each worker asks for."""
    gpus = f" and {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
    return f"{resources.cpus} CPU{gpus}"
