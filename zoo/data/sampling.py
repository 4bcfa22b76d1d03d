"""Which clips and offsets a step trains on: a function of (seed, step) and nothing else.

There is no sampler state: an interrupted run goes on where it was by knowing its step, and any
number of workers sees the same global batches.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


def place_of(name: str, seed: int) -> float:
    """Return a number in [0, 1) that follows from a name and a seed, and from nothing else."""
    digest = hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass
class ClipOrder:
    """The order in which clips are taken: epochs of permutations, laid end to end.

    With weights every epoch takes as many clips as there are, with replacement.
    """

    num_clips: int
    seed: int
    weights: Sequence[float] | None = None
    _epochs: dict[int, np.ndarray] = field(default_factory=dict)

    def of_step(self, step: int, batch: int) -> list[int]:
        """Return the clips of one global batch."""
        places = [divmod(i, self.num_clips) for i in range(step * batch, (step + 1) * batch)]
        wanted = {epoch for epoch, _ in places}
        self._epochs = {epoch: self._epoch(epoch) for epoch in sorted(wanted)}
        return [int(self._epochs[epoch][place]) for epoch, place in places]

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch in self._epochs:
            return self._epochs[epoch]
        rng = np.random.default_rng([self.seed, epoch])
        if self.weights is None:
            return rng.permutation(self.num_clips)
        weights = np.asarray(self.weights, dtype=np.float64)
        return rng.choice(self.num_clips, self.num_clips, p=weights / weights.sum())


def spread_share(kinds: Sequence[str], share: float, seed: int) -> list[int]:
    """Return a random share of items, as evenly from all kinds as there are, in their order.

    Args:
        kinds: of every item.
        share: of the items, 0 to 1; at least one is returned.
        seed: of the choice.
    """
    rng, seen = np.random.default_rng([seed, 5]), Counter[str]()
    ranks = []
    for place in rng.permutation(len(kinds)).tolist():
        ranks.append((seen[kinds[place]], place))
        seen[kinds[place]] += 1
    ranks.sort(key=lambda pair: pair[0])  # stable: at random among those of a rank
    return sorted(place for _, place in ranks[: max(1, round(share * len(kinds)))])


def share_of_rank(items: list[int], rank: int, world_size: int) -> list[tuple[int, int]]:
    """Return this worker's contiguous share of a global batch as ``(slot, item)``."""
    per_rank = len(items) // world_size
    return list(enumerate(items))[rank * per_rank : (rank + 1) * per_rank]


def slot_rng(seed: int, stage: int, step: int, slot: int) -> np.random.Generator:
    """Return the randomness of one sample of one step."""
    return np.random.default_rng([seed, stage, step, slot])


def batch_rng(seed: int, stage: int, step: int, rank: int) -> np.random.Generator:
    """Return the randomness that all samples of a worker share in one step."""
    return np.random.default_rng([seed, stage, step, rank, 1])
