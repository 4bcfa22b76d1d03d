"""Models at work: loaded once, shared by all visitors, put away when memory runs short."""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from demo.memory import free_bytes
from zoo.catalog.entries import WEIGHTS, resolve, second_model
from zoo.inference.load import load

logger = logging.getLogger(__name__)

KEEP_FREE = 1.0e9  # bytes that decoding and torch want beside the models
MOST_MODELS = 8
Stamp = tuple[tuple[str, int], ...]
Loaded = TypeVar("Loaded")


class ModelCache(Generic[Loaded]):
    """The models in memory, the one used last at the end.

    Args:
        device: where they compute.
        load_model: how one is loaded, by catalog name and device; by default to predict.
        free: tells the bytes of memory that are left.
    """

    def __init__(
        self,
        device: str = "cpu",
        load_model: Callable[[str, str], Loaded] | None = None,
        free: Callable[[], float] = free_bytes,
    ) -> None:
        self.device, self._free = device, free
        self._load: Callable[[str, str], Any] = load_model or load
        self._held: OrderedDict[str, tuple[Stamp, Loaded]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Names of the models in memory."""
        return list(self._held)

    def take(self, name: str) -> Loaded:
        """Return a model of the catalog; load it if it is not here, or has changed on disk.

        Raises:
            ZooError: if it cannot be loaded.
        """
        with self._lock:
            stamp = _stamp(name)
            held = self._held.get(name)
            if held is not None and held[0] == stamp:
                self._held.move_to_end(name)
                return held[1]
            self._held.pop(name, None)
            del held
            self._make_room(sum(size for _, size in stamp))
            loaded: Loaded = self._load(name, self.device)
            self._held[name] = (stamp, loaded)
            return loaded

    def relieve(self) -> None:
        """Put models away, the longest unused first, if memory is short."""
        with self._lock:
            self._make_room(0)

    def _make_room(self, num_bytes: float) -> None:
        while self._held and (
            self._free() < KEEP_FREE + num_bytes or len(self._held) >= MOST_MODELS + (not num_bytes)
        ):
            name, _ = self._held.popitem(last=False)
            gc.collect()
            logger.info("put %s away: memory is short", name)


def _stamp(name: str) -> Stamp:
    """Identify the weights of a model and of the one beside it, with their sizes in bytes."""
    stamps = []
    for part in (name, second_model(name)):
        if part is not None:
            weights = resolve(part) / WEIGHTS
            if weights.exists():
                facts = weights.stat()
                stamps.append((f"{weights} {facts.st_mtime_ns}", facts.st_size))
    return tuple(stamps)
