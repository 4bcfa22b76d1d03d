"""A Ray cluster of two machines, both of them this one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def two_machines() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a Ray cluster of two machines of one processor; its address, and the second machine."""
    port = free_port()
    usual = ["--num-cpus", "1", "--object-store-memory", str(100 * 2**20), "--block"]
    program = str(Path(sys.executable).with_name("ray"))
    subprocess.run([program, "get-auth-token", "--generate"], check=True, capture_output=True)
    ray = [program, "start", "--disable-usage-stats"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_health_check_period_ms": "1000"}
    environment["RAY_AUTH_MODE"] = "token"  # as docs/training.md says

    def machine(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*ray, *more, *usual], env=environment, **quiet)  # type: ignore[call-overload,no-any-return]

    head = machine("--head", "--port", str(port), "--include-dashboard", "false")
    _wait_until_up(port)
    other = machine("--address", f"127.0.0.1:{port}")
    yield f"127.0.0.1:{port}", other
    for process in (other, head):
        process.terminate()
        process.wait(timeout=60)


def _wait_until_up(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(3)
                return
        time.sleep(0.2)
    raise AssertionError("no Ray")


def kill_machine(process: subprocess.Popen[bytes]) -> None:
    """Kill all that one machine of the cluster runs, as a power cut does."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    parents = [line.split() for line in listed.stdout.splitlines()[1:]]
    doomed, found = {str(process.pid)}, True
    while found:
        more = {pid for pid, parent in parents if parent in doomed} - doomed
        doomed |= more
        found = bool(more)
    for pid in doomed:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(timeout=60)
