"""Checkpoints of others: read without running their code, converted, and written back."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.checkpoints.convert import convert_checkpoint, export_checkpoint
    from zoo.checkpoints.reader import read_checkpoint

__all__ = ["convert_checkpoint", "export_checkpoint", "read_checkpoint"]

# Loaded on first use, because they import torch, and plugins import `zoo.checkpoints.names`.
_LAZY = {
    "convert_checkpoint": "zoo.checkpoints.convert",
    "export_checkpoint": "zoo.checkpoints.convert",
    "read_checkpoint": "zoo.checkpoints.reader",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo.checkpoints' has no attribute '{name}'")
