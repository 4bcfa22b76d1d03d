"""A Ray cluster to train on: start or join one, and see whether it is large enough."""

from __future__ import annotations

import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from zoo.errors import TrainingError
from zoo.experiments.process import BROKE_OFF
from zoo.training.resources import RELEASE_S, Resources, ask, check_enough, count_cpus, fitting

# Measured: a third less start-up time, and a dead worker is noticed in a fifth of a second.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "120",  # on a machine that is busy; 20 otherwise
}
_LOCAL_SETTINGS = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
_VITAL = ("raylet", "gcs_server")
_LOOK_S = 0.5  # from one look at them to the next
_LONGEST_FOLDER = 38  # bytes: the name of a socket of Ray below it has 68, and may have 107
_START_VARIABLE, _START_S = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", 120


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
    if resources.is_local and len(os.fsencode(tempfile.gettempdir())) > _LONGEST_FOLDER:
        os.environ.setdefault("RAY_TMPDIR", "/tmp")
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


def require_running() -> None:
    """Notice that the cluster that this process started has lost a part it cannot do without.

    Ray notices it some seconds later, and ends this process without a sentence.

    Raises:
        TrainingError: naming the part.
    """
    from ray._private import worker  # nothing public tells before Ray ends the process

    node = worker._global_node
    for kind, process in [] if node is None else node.dead_processes():
        if kind in _VITAL:
            raise TrainingError(
                f"{BROKE_OFF}: Ray's process '{kind}' on this machine ended "
                f"({_how(process.returncode)}), perhaps for want of memory; go on with --resume"
            )


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Require again and again that the cluster is running, while Ray keeps the main thread.

    The main thread looks whenever another one signals it; SIGUSR1 ends a search of Ray Tune.  What
    it finds is raised until Ray lets go, which wraps it and tidies up as if there were a cluster.

    Raises:
        TrainingError: naming what was lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    lost: list[TrainingError] = []

    def look(number: int, frame: FrameType | None) -> None:
        try:
            if not over.is_set():
                require_running()
        except TrainingError as error:
            lost.append(error)
            raise

    def remind() -> None:
        while not over.wait(_LOOK_S):
            os.kill(os.getpid(), signal.SIGUSR2)

    over = threading.Event()
    before = signal.signal(signal.SIGUSR2, look)
    reminder = threading.Thread(target=remind, name="look-at-cluster", daemon=True)
    reminder.start()
    try:
        yield
    except Exception:
        over.set()
        if not lost:
            raise
    finally:
        over.set()
        reminder.join()
        signal.signal(signal.SIGUSR2, before)
    if lost:
        raise lost[0]


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def has_token() -> bool:
    """Say whether there is a token: if so, ``ray start`` made a cluster that asks for it."""
    is_given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return is_given or (Path.home() / ".ray" / "auth_token").exists()


def _init(resources: Resources) -> None:
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if resources.is_local:
        # Nothing but metrics goes through the object store, unless clips do.
        memory = 200 * 2**20 if resources.ingest == "loader" else None
        here = {"num_cpus": count_cpus(), "include_dashboard": False, "object_store_memory": memory}
        try:
            _start_here(**here, **quiet)
        except TrainingError:  # a busy machine may be in time at the second try
            _start_here(**here, **quiet)
        return
    try:
        ray.init(address=resources.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"cannot join the Ray cluster '{resources.address}': {reason}; "
            "start one with: ray start --head"
        ) from None


def _start_here(**options: Any) -> None:
    """Start a cluster of this machine.

    Raises:
        TrainingError: if it did not come up.
    """
    import ray

    try:
        ray.init(address="local", **options)
    except Exception as error:  # Ray raises this very class
        ray.shutdown()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise TrainingError(
            f"Ray did not start on this machine: {reason}",
            "try again when less is running; RAY_gcs_server_port_wait_time_s=300 waits for longer",
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
            return check_enough(resources, ray.available_resources(), "others leave")
        except TrainingError:
            if time.monotonic() > waited_until or not (is_there or is_patient):
                raise
            time.sleep(0.2)


def _check_size(resources: Resources) -> None:
    """Check that a cluster is large enough, whatever others use of it."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    held = {kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
    check_enough(resources, held, "the cluster has")
    if sum(fitting(node, resources) for node in nodes) < resources.workers:
        raise TrainingError(
            f"no way to place {resources.workers} workers of {ask(resources)} on the "
            f"{len(nodes)} machines of the cluster; lower --cpus-per-worker"
        )
