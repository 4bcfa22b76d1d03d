"""Timing that survives a machine shared with others: interleaved rounds, medians, ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

from zoo.models.device import find_device, keep_memory

Work = Callable[[], object]
Times = dict[str, list[float]]


def cpu_seconds() -> float:
    """Seconds this process computed: for work in one thread, whatever else runs here."""
    return time.process_time()


def wall_seconds() -> float:
    """Seconds on the wall, after all that a GPU was asked to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock that tells what a device computed."""
    return cpu_seconds if device.type == "cpu" else wall_seconds


def prepare_device(name: str) -> torch.device:
    """Return a device, set up as training does it, with fp32 that is fp32 in convolutions too."""
    device = find_device(name)
    torch.backends.cudnn.allow_tf32 = False
    keep_memory()
    return device


def interleave(
    works: Mapping[str, Work],
    rounds: int,
    clock: Callable[[], float] = cpu_seconds,
    warm_up: int = 1,
) -> Times:
    """Run every work once a round and return the seconds of each, without those to warm up."""
    times: Times = {name: [] for name in works}
    for number in range(warm_up + rounds):
        for name, work in works.items():
            started = clock()
            work()
            if number >= warm_up:
                times[name].append(clock() - started)
    return times


def seconds(times: Times) -> dict[str, float]:
    """Return the median of each."""
    return {name: round(median(values), 6) for name, values in times.items()}


def ratio(times: Times, slow: str, fast: str) -> dict[str, float]:
    """Return how many times faster ``fast`` is, with the lowest and highest of all rounds."""
    rounds = [s / f for s, f in zip(times[slow], times[fast], strict=True)]
    return {
        "median": round(median(times[slow]) / median(times[fast]), 3),
        "lowest": round(min(rounds), 3),
        "highest": round(max(rounds), 3),
    }
