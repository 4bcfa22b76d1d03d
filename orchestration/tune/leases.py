"""Who trains the towers that several trials share: one at a time, the others wait.

A lease runs out unless it is renewed, so that a trial whose machine dies holds nothing up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LEASE_S = 60.0


class Leases:
    """Names that are taken, by whom and until when; lives in an actor beside the driver."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.held: dict[str, tuple[str, float]] = {}

    def take(self, name: str, holder: str) -> bool:
        """Take a name or renew it; False if another holds it."""
        now = self.clock()
        owner, until = self.held.get(name, (holder, now))
        if owner != holder and until > now:
            return False
        self.held[name] = (holder, now + LEASE_S)
        return True

    def drop(self, name: str, holder: str) -> None:
        """Give a name back."""
        if self.held.get(name, ("", 0.0))[0] == holder:
            del self.held[name]
