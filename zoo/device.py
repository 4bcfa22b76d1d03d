"""Where and how exactly to compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from zoo.contracts import Precision
from zoo.errors import ConfigError


def find_device(name: torch.device | str) -> torch.device:
    """Return a device that is there.

    Raises:
        ConfigError: if it is not.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used: {first_line}") from None
    return device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which matrix products are taken in a precision.

    fp32 is what they are taken in anyway: it changes nothing, not even within another context.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
