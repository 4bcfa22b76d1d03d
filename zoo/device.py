"""Where and how exactly to compute."""

from __future__ import annotations

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


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which matrix products are taken in a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
