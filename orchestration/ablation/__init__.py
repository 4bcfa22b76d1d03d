"""Ablations: named variants of a recipe, trained and evaluated alike, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.ablation.run import run_table

__all__ = ["run_table"]


def __getattr__(name: str) -> Any:
    if name != "run_table":
        raise AttributeError(name)
    from orchestration.ablation.run import run_table

    return run_table
