"""``zoo data subset``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli.output import print_json


def subset(
    manifest: Annotated[Path, typer.Argument(help="Manifest of labelled clips.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="List of clip ids to write, JSON.")],
    per_class: Annotated[int, typer.Option(min=1, help="Clips of every class, about.")] = 5,
    split: Annotated[
        Literal["train", "valid", "test"], typer.Option(help="Which clips of the manifest.")
    ] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the choice.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Choose about five clips of every class, as CAV-MAE's retrieval does, and list their ids.

    Example: zoo data subset vggsound.parquet -o five.json

    Then: zoo evaluate runs/mine --data vggsound.parquet --protocol retrieval --subset five.json
    """
    from zoo.data.manifest import Manifest
    from zoo.data.subset import choose_per_class, ids_of, write_ids

    clips = Manifest.read(manifest).select(split).clips
    chosen = choose_per_class(clips, per_class, seed)
    write_ids(out, ids_of(clips, chosen))
    num_classes = len({label for i in chosen for label in clips[i].all_labels})
    if as_json:
        facts = {"clips": len(chosen), "classes": num_classes, "of": len(clips), "file": str(out)}
        print_json(facts)
    else:
        typer.echo(f"{len(chosen)} of {len(clips)} {split} clips, {num_classes} classes: {out}")
