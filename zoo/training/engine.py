"""What a training stage asks of whatever runs it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from zoo.training.loader import in_order

T = TypeVar("T")


class Engine(Protocol):
    """One worker's view of the run: who it is, where it computes, where checkpoints go."""

    rank: int
    world_size: int
    device: torch.device

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move a module to the device and make its gradients the mean over all workers."""

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        """Hand over metrics and, on rank 0, a checkpoint folder; every rank calls it alike."""

    def checkpoints(self) -> Iterator[Path]:
        """Yield the folders of the checkpoints reported that are still there, the newest first."""

    def load(self, dataset: Dataset[T], items: Sequence[int], workers: int | None) -> Iterator[T]:
        """Read items of a dataset in order, ahead of time.

        Args:
            dataset: gives tuples of tensors, or sentences.
            items: which ones.
            workers: processes of this worker that read; None if reading is no work.
        """


class LocalEngine:
    """Runs a stage in this process, checkpoints in a folder: for tests and notebooks."""

    def __init__(self, checkpoints: Path) -> None:
        self.rank, self.world_size = 0, 1
        self.device = torch.device("cpu")
        self.folder = checkpoints / "latest"
        self.reports: list[dict[str, Any]] = []

    def prepare(self, module: nn.Module) -> nn.Module:
        """Leave the module as it is."""
        return module.to(self.device)

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        """Keep metrics in memory and the last checkpoint on disk."""
        self.reports.append(metrics)
        if checkpoint is not None:
            temporary = self.folder.with_name(f"new-{os.getpid()}")
            shutil.copytree(checkpoint, temporary)
            shutil.rmtree(self.folder, ignore_errors=True)
            temporary.rename(self.folder)

    def checkpoints(self) -> Iterator[Path]:
        """Yield the one that is kept."""
        if self.folder.exists():
            yield self.folder

    def load(self, dataset: Dataset[T], items: Sequence[int], workers: int | None) -> Iterator[T]:
        """Read by torch's own loader."""
        return iter(in_order(dataset, items, workers or 0))


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside a distributed wrapper."""
    return getattr(module, "module", module)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every worker's loss reads every worker's rows: add up what each of them sends back.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(tensor: Tensor) -> Tensor:
    """Concatenate a tensor over all workers along dim 0, differentiably."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        return _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return tensor


def sum_over_workers(values: list[float], device: torch.device) -> list[float]:
    """Add up numbers over all workers."""
    total = torch.tensor(values, dtype=torch.float64, device=device)
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(total)
    return total.tolist()


def mean_over_workers(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Average named numbers over all workers; every worker calls this alike."""
    *sums, count = sum_over_workers([*values.values(), 1.0], device)
    return {name: total / count for name, total in zip(values, sums, strict=True)}


def wait_for_all() -> None:
    """Wait until every worker is here."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()
