"""Building modules faster where the values of their parameters do not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# What torch.nn.init calls to fill a tensor at random, and to shape what it filled in.
_RANDOM = ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_")


class WithoutInitialisation(TorchFunctionMode):
    """Builds modules without random initial weights, which take seconds and are replaced."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Leave parameters, and nothing but parameters, as they are."""
        name = getattr(function, "__name__", "")
        if name in _RANDOM and args and isinstance(args[0], nn.Parameter):
            return args[0]
        return function(*args, **(kwargs or {}))


@contextmanager
def without_values() -> Iterator[None]:
    """Build modules on torch's meta device and run them there: shapes only, of any size."""
    with torch.device("meta"), torch.no_grad(), WithoutInitialisation():
        yield
