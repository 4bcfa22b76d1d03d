"""How much memory is left for models."""

from __future__ import annotations

import math
import re
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")  # of a container, whose limit may be below the machine's


def free_bytes() -> float:
    """Return the memory that is left to this process; infinite where the system does not say."""
    return min(_machine_free("MemAvailable"), _group_limit() - _group_used())


def total_bytes() -> float:
    """Return all the memory that there is for this process."""
    return min(_machine_free("MemTotal"), _group_limit())


def _machine_free(what: str) -> float:
    try:
        found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return math.inf
    return int(found[1]) * 1024 if found else math.inf


def _group_limit() -> float:
    try:
        text = (GROUP / "memory.max").read_text().strip()
    except OSError:
        return math.inf
    return math.inf if text == "max" else int(text)


def _group_used() -> float:
    """Return what the group holds, without the file cache, which the system takes back."""
    try:
        cache = re.search(
            r"^inactive_file (\d+)", (GROUP / "memory.stat").read_text(), re.MULTILINE
        )
        return int((GROUP / "memory.current").read_text()) - (int(cache[1]) if cache else 0)
    except OSError:
        return 0.0
