"""Where and how exactly to compute."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial

import torch

from zoo.contracts import Precision
from zoo.errors import ConfigError, option

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES = 1 << 30


def find_device(name: torch.device | str) -> torch.device:
    """Return a device that is there.

    Raises:
        ConfigError: if it is not.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"{option('device')} {name} cannot be used: {first_line}") from None
    return device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which matrix products are taken in a precision.

    fp32 is what they are taken in anyway: it changes nothing, not even within another context.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def add_up_in_order(device: torch.device) -> None:
    """Let operations of this process give the same bits every time, on a CPU.

    Gradients of an index that picks the same place often are added up by several threads in
    whatever order they come.  In order costs no more (docs/training.md).  GPUs are left alone:
    there it costs much, and is not to be had for every operation.
    """
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@cache
def fork_safely() -> None:
    """Let processes that this one forks later compute, with one thread.

    A fork has none of the threads that its parent has started for its arithmetic, does not know
    that, and would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def keep_memory() -> None:
    """Let this process keep the memory of tensors for the next ones.

    glibc hands large blocks back at once, and touching fresh memory costs about a tenth of a
    training step on a CPU (docs/performance.md).  Without glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(option, KEPT_BYTES)
