"""Which clips and offsets a step trains on: a function of (seed, step) and nothing else.

There is no sampler state: an interrupted run goes on where it was by knowing its step, and any
number of workers sees the same global batches.
"""

from __future__ import annotations

import hashlib

import numpy as np


def place_of(name: str, seed: int) -> float:
    """Return a number in [0, 1) that follows from a name and a seed, and from nothing else."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def clips_of_step(step: int, batch: int, num_clips: int, seed: int) -> list[int]:
    """Return the clips of one global batch: epochs of permutations, laid end to end."""
    orders: dict[int, np.ndarray] = {}
    clips = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, num_clips)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([seed, epoch]).permutation(num_clips)
        clips.append(int(orders[epoch][place]))
    return clips


def share_of_rank(items: list[int], rank: int, world_size: int) -> list[tuple[int, int]]:
    """Return this worker's contiguous share of a global batch as ``(slot, item)``."""
    per_rank = len(items) // world_size
    return list(enumerate(items))[rank * per_rank : (rank + 1) * per_rank]


def slot_rng(seed: int, stage: int, step: int, slot: int) -> np.random.Generator:
    """Return the randomness of one sample of one step."""
    return np.random.default_rng([seed, stage, step, slot])
