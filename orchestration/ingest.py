"""Reading through Ray Data: clips are decoded wherever the cluster has processors to spare."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import ray.data
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.errors import TrainingError
from zoo.media.apart import read_apart_from_now_on

T = TypeVar("T")
ITEMS_PER_STREAM = 4096  # every item is a task; Ray plans all tasks of a stream beforehand
ERROR, TEXT, PART = "error", "text", "part"


class ReadItem:
    """Reads one item of a dataset; runs in a Ray task."""

    def __init__(self, dataset: Dataset[Any], items: Sequence[int]) -> None:
        self.dataset, self.items = dataset, items

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return an item's tensors as columns."""
        torch.set_num_threads(1)
        read_apart_from_now_on()
        try:
            item = self.dataset[self.items[int(row["id"])]]
        except TrainingError as error:  # Ray would wrap it into a traceback
            return {ERROR: str(error)}
        if isinstance(item, str):
            return {TEXT: item}
        return {f"{PART}{i}": tensor.numpy() for i, tensor in enumerate(item)}


def stream(dataset: Dataset[T], items: Sequence[int]) -> Iterator[T]:
    """Yield items of a dataset in order; tasks read ahead as far as Ray's object store allows.

    Args:
        dataset: gives tuples of tensors, or sentences; it travels to the tasks.
        items: which ones.

    Raises:
        TrainingError: if the dataset does.
    """
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    for first in range(0, len(items), ITEMS_PER_STREAM):
        some = items[first : first + ITEMS_PER_STREAM]
        tasks = ray.data.range(len(some), override_num_blocks=len(some))
        for row in tasks.map(ReadItem(dataset, some)).iter_rows():
            yield _unpack(row)


def _unpack(row: dict[str, Any]) -> Any:
    if ERROR in row:
        raise TrainingError(row[ERROR])
    if TEXT in row:
        return row[TEXT]
    return tuple(_to_tensor(row[f"{PART}{i}"]) for i in range(len(row)))


def _to_tensor(array: Any) -> Tensor:
    """Copy out of Ray's object store, whose memory is read-only and wanted back."""
    return torch.from_numpy(array.copy())
