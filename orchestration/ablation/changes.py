"""What may change in a table whose ablation has begun, and what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestration.ablation.table import Table
from orchestration.request import first_difference
from zoo.errors import ConfigError


def refuse_difference(old: Table, new: Table, out: Path) -> None:
    """Refuse a table that changes what was begun; variants, seeds and data sets may be added.

    Raises:
        ConfigError: naming the first difference.
    """
    difference = first_difference(_decisive(old, old, out), _decisive(new, old, out))
    gone = [seed for seed in old.seeds if seed not in new.seeds]
    if gone and difference is None:
        difference = f"seed {gone[0]} is there, and not here"
    if difference:
        raise ConfigError(
            f"{out} cannot go on with another table: {difference}; take another --out"
        )


def _decisive(table: Table, old: Table, out: Path) -> dict[str, Any]:
    """Return what decides the results of the variants and data sets of an older table."""
    data = {
        name: {**table.data[name].model_dump(), "manifest": str(table.manifest_of(name, out))}
        for name in old.data
        if name in table.data
    }
    variants = {}
    for name in old.variants:
        if name in table.variants:
            towers = table.variants[name].towers
            options = table.options_of(name).model_dump(mode="json")
            trained = {d: d in table.data_of(name) for d in old.data_of(name)}
            shown = None if towers is None else towers.model_dump()
            variants[name] = {**options, "towers": shown, "data": trained}
    return {
        "data": data,
        "evaluate": table.evaluate.model_dump(mode="json"),
        "variants": variants,
    }
