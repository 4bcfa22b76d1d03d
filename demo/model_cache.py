"""Models at work: loaded once, shared by all visitors, put away when memory runs short."""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar, cast

from demo.memory import free_bytes
from zoo.catalog.entries import CONFIG, WEIGHTS, resolve, second_model
from zoo.inference.load import load
from zoo.inference.predictor import Predictor
from zoo.models.model import OBJECTIVE

logger = logging.getLogger(__name__)

KEEP_FREE = 1.0e9  # bytes that decoding and torch want beside the models
MOST_MODELS = 8
Stamp = tuple[tuple[str, int], ...]
Loaded = TypeVar("Loaded")
Load = Callable[[str, str], Loaded]
"""Loads a model by its catalog name, for a device."""


class ModelCache:
    """The models in memory, the one used last at the end.

    Args:
        device: where they compute.
        load_model: how one is loaded to predict, by catalog name and device.
        free: tells the bytes of memory that are left.
    """

    def __init__(
        self,
        device: str = "cpu",
        load_model: Load[Predictor] = load,
        free: Callable[[], float] = free_bytes,
    ) -> None:
        self.device, self._load, self._free = device, load_model, free
        self._held: OrderedDict[tuple[str, Load[object]], tuple[Stamp, object]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Names of the models in memory."""
        return [name for name, _ in self._held]

    def take(self, name: str) -> Predictor:
        """Return a model of the catalog that predicts: see `take_as`."""
        return self.take_as(name, self._load)

    def take_as(self, name: str, load_model: Load[Loaded]) -> Loaded:
        """Return a model of the catalog; load it if it is not here, or has changed on disk.

        Args:
            name: in the catalog.
            load_model: how it is loaded; what is loaded in another way is kept apart.

        Raises:
            ZooError: if it cannot be loaded.
        """
        with self._lock:
            stamp, key = _stamp(name), (name, load_model)
            held = self._held.get(key)
            if held is not None and held[0] == stamp:
                self._held.move_to_end(key)
                return cast(Loaded, held[1])
            self._held.pop(key, None)
            del held
            self._make_room(sum(size for _, size in stamp))
            loaded = load_model(name, self.device)
            self._held[key] = (stamp, loaded)
            return loaded

    def relieve(self) -> None:
        """Put models away, the longest unused first, if memory is short."""
        with self._lock:
            self._make_room(0)

    def _make_room(self, num_bytes: float) -> None:
        while self._held and (
            self._free() < KEEP_FREE + num_bytes or len(self._held) >= MOST_MODELS + (not num_bytes)
        ):
            (name, _), _ = self._held.popitem(last=False)
            gc.collect()
            logger.info("put %s away: memory is short", name)


def _stamp(name: str) -> Stamp:
    """Identify the weights of a model and of the one beside it, with their sizes in bytes."""
    stamps = []
    for part in (p for p in (name, second_model(name)) if p is not None):
        for file in (WEIGHTS, CONFIG, f"{OBJECTIVE}.safetensors"):
            weights = resolve(part) / file
            if weights.exists():
                facts = weights.stat()
                stamps.append((f"{weights} {facts.st_mtime_ns}", facts.st_size))
    return tuple(stamps)
