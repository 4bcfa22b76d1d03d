"""What may change in a table whose ablation has begun, and what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestration.ablation.table import Table
from zoo.errors import ConfigError
from zoo.training.request import first_difference


def refuse_difference(old: Table, new: Table, out: Path) -> None:
    """Refuse a table that changes what was begun; variants, seeds and data sets may be added.

    Raises:
        ConfigError: naming the first difference.
    """
    difference = _what_is_gone(old, new)
    if difference is None:
        difference = first_difference(_decisive(old, old, out), _decisive(new, old, out))
    if difference:
        raise ConfigError(
            f"{out} cannot go on with another table: {difference}; take another --out"
        )


def _what_is_gone(old: Table, new: Table) -> str | None:
    for kind, before, now in (
        ("variant", old.variants, new.variants),
        ("data set", old.data, new.data),
        ("seed", old.seeds, new.seeds),
    ):
        for name in before:
            if name not in now:
                return f"{kind} {name!r} is there, and not here"
    return None


def _decisive(table: Table, old: Table, out: Path) -> dict[str, Any]:
    """Return what decides the results of the variants and data sets of an older table."""
    data = {
        name: {**table.data[name].model_dump(), "manifest": str(table.manifest_of(name, out))}
        for name in old.data
    }
    variants = {}
    for name in old.variants:
        towers = table.variants[name].towers
        options = table.options_of(name).model_dump(mode="json")
        trained = {data_set: data_set in table.data_of(name) for data_set in old.data_of(name)}
        shown = None if towers is None else towers.model_dump()
        variants[name] = {"towers": shown, **options, "data": trained}
    return {
        "data": data,
        "evaluate": table.evaluate.model_dump(mode="json"),
        "variants": variants,
    }
