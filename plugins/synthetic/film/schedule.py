"""When things happen: events of a clip and of the stretches before and behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

MARGIN_S = 2.5  # a clip is cut out of a longer scene
SHORTEST_GAP_S = 0.12
Rhythm = Literal["rare", "loose", "bursts", "steady"]
RHYTHMS: dict[Rhythm, float] = {"rare": 0.35, "loose": 0.3, "bursts": 0.2, "steady": 0.15}


@dataclass(frozen=True)
class Schedule:
    """Events in order, before, during and after a clip.

    Attributes:
        times_s: when each begins, seconds from the start of the clip.
        strengths: 0.25 to 1.
        lengths_s: how long each lasts if it lasts, seconds.
    """

    times_s: Times
    strengths: Times
    lengths_s: Times

    def around(self, times_s: Times) -> tuple[Times, Times, NDArray[np.int64]]:
        """Return, for each time, the time since the event before and until the next, and its index.

        Without an event before or behind, the time is long; the index of the next event is then 0
        or the number of events.
        """
        following = np.searchsorted(self.times_s, times_s, side="right")
        padded = np.concatenate([[-99.0], self.times_s, [999.0]])
        return times_s - padded[following], padded[following + 1] - times_s, following

    def strength_before(self, times_s: Times) -> Times:
        """Return the strength of the event before each time; 0 before the first."""
        _, _, following = self.around(times_s)
        return np.concatenate([[0.0], self.strengths])[following]

    def later(self, by_s: float) -> Schedule:
        """Return the same events at later times."""
        return replace(self, times_s=self.times_s + by_s)


def sample_schedule(rng: np.random.Generator, seconds: float) -> Schedule:
    """Sample a schedule whose events are equally likely at any time of the clip."""
    times_s = np.empty(0)
    while not times_s.size:
        gaps_s = _gaps(rng, seconds + 2 * MARGIN_S)
        # The margin is long enough to forget where a row of gaps began.
        times_s = np.cumsum(gaps_s) - rng.uniform(0, gaps_s[0]) - MARGIN_S
        times_s = times_s[times_s < seconds + MARGIN_S]
    spread = rng.uniform(0.0, 0.35)
    strengths = np.clip(rng.uniform(0.45, 1) + spread * rng.standard_normal(times_s.size), 0.25, 1)
    typical_s = rng.uniform(0.08, 0.5)
    lengths_s = typical_s * np.exp(0.3 * rng.standard_normal(times_s.size))
    room_s = np.diff(times_s, append=np.inf) * 0.9
    return Schedule(times_s, strengths, np.minimum(lengths_s, room_s))


def _gaps(rng: np.random.Generator, total_s: float) -> Times:
    rhythm = str(rng.choice(list(RHYTHMS), p=list(RHYTHMS.values())))
    num = int(total_s / SHORTEST_GAP_S) + 1
    if rhythm == "steady":
        period_s = np.exp(rng.uniform(np.log(0.25), np.log(1.3)))
        gaps_s = period_s * (1 + rng.uniform(0.0, 0.15) * rng.standard_normal(num))
        gaps_s *= rng.choice([1, 1, 1, 2], num) if rng.random() < 0.5 else 1
    elif rhythm == "bursts":
        inside_s, between_s = rng.uniform(0.13, 0.4), rng.uniform(0.8, 2.5)
        is_pause = rng.random(num) < rng.uniform(0.2, 0.5)
        gaps_s = np.where(is_pause, between_s, inside_s) * rng.uniform(0.8, 1.3, num)
    else:
        mean_s = rng.uniform(1.2, 2.8) if rhythm == "rare" else rng.uniform(0.4, 1.2)
        gaps_s = 0.3 * mean_s + rng.exponential(0.7 * mean_s, num)
    return np.maximum(gaps_s, SHORTEST_GAP_S)
