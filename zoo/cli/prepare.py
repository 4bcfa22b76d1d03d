"""``zoo data prepare``: the manifest of a data set, and what is not in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.errors import ConfigError, suggest

if TYPE_CHECKING:
    from zoo.contracts import DatasetSpec, LeftOut
    from zoo.data.prepare import Prepared

NUM_SHOWN = 3  # examples per reason


def prepare(
    name: Annotated[str, typer.Argument(help="Data set adapter: zoo list datasets.")],
    *,
    videos: Annotated[Path, typer.Option(help="Folder of the videos.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Manifest to write (Parquet).")],
    meta: Annotated[
        Path | None, typer.Option(help="Folder of the official lists: splits, labels, filters.")
    ] = None,
    reencode: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Re-encode the clips to this folder: 25 fps, short side 256, 16 kHz mono. "
            "Finished clips are kept.",
        ),
    ] = None,
    valid: Annotated[float | None, typer.Option(help="Share for validation.")] = None,
    test: Annotated[float | None, typer.Option(help="Share for testing.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the split.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option of the data set, key=value, such as splits=test."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Threads, or processes; 0 is one per processor.")
    ] = 0,
) -> None:
    """Make the manifest of a data set, and say what is not in it.

    Example: zoo data prepare vggsound --videos clips --meta Synchformer/data -o vggsound.parquet
    """
    from zoo.data.clip_progress import clip_progress
    from zoo.data.prepare import prepare as prepare_clips
    from zoo.registry.manager import registry

    spec = registry().dataset(name)
    options = {"meta": meta, "valid": valid, "test": test, "seed": seed}
    prepared = prepare_clips(
        spec.build(_configure(spec, options, settings or [])),
        videos,
        out,
        bar=clip_progress,
        reencode_to=reencode,
        workers=workers or None,
    )
    if as_json:
        typer.echo(json.dumps(_as_json(prepared, out), indent=2))
    else:
        _print(prepared, out)


def _configure(spec: DatasetSpec, options: dict[str, Any], settings: list[str]) -> Any:
    from pydantic import ValidationError

    from zoo.models.config import explain

    known = spec.config_class.model_fields
    given = {key: value for key, value in options.items() if value is not None}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ConfigError(f"--{unknown[0]} does not apply to the data set '{spec.name}'")
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes key=value, got '{setting}'")
        if key not in known:
            raise ConfigError(
                f"the data set '{spec.name}' has no option '{key}'{suggest(key, known)} "
                f"(it has: {', '.join(known)})"
            )
        given[key] = value
    try:
        return spec.config_class(**given)
    except ValidationError as error:
        raise ConfigError(explain(error, "", spec.config_class)) from error


def _as_json(prepared: Prepared, out: Path) -> dict[str, Any]:
    from zoo.data.prepare import list_path

    counts = prepared.counts()
    found = list_path(out)
    return {
        "manifest": str(out),
        "clips": {split: row["clips"] for split, row in counts.items()},
        "official": {split: row["official"] for split, row in counts.items()}
        if prepared.is_listed
        else None,
        "labels": prepared.classes(),
        "left_out_list": str(found) if found.exists() else None,
        **{what: [_row(clip) for clip in clips] for what, clips in prepared.left_out.items()},
    }


def _row(clip: LeftOut) -> dict[str, str]:
    fields = {"id": clip.id, "split": clip.split, "path": clip.path, "reason": clip.reason}
    return {key: str(value) for key, value in fields.items() if value is not None}


def _print(prepared: Prepared, out: Path) -> None:
    """Print a table per split, the reasons with some examples, and where the rest is listed."""
    from rich.console import Console
    from rich.table import Table

    from zoo.data.prepare import list_path

    counts = prepared.counts()
    if prepared.is_listed:
        columns = ("official", "missing", "rejected", "clips")
        table = Table("split")
        for column in columns:
            table.add_column(column, justify="right")
        for split, row in counts.items():
            if row["official"]:
                table.add_row(split, *(f"{row[column]:,}" for column in columns))
        Console().print(table)
    for what, clips in prepared.left_out.items():
        _print_reasons(what, clips)
    if any(prepared.left_out.values()):
        typer.echo(f"all of these: {list_path(out)}")
    labels = prepared.classes()
    if labels["labelled"]:
        typer.echo(
            f"{labels['labelled']} clips are labelled: {labels['classes']} classes, "
            f"{labels['without_training_clip']} of them without a training clip"
        )
    shown = ", ".join(f"{row['clips']} {split}" for split, row in counts.items())
    num = len(prepared.manifest.clips)
    rejected = len(prepared.rejected)
    typer.echo(f"{num} clips ({shown}), {rejected} rejected: {out}")


def _print_reasons(what: str, clips: list[LeftOut]) -> None:
    from zoo.data.prepare import kind_of

    groups: dict[str, list[LeftOut]] = {}
    for clip in clips:
        groups.setdefault(kind_of(clip), []).append(clip)
    for kind, members in sorted(groups.items(), key=lambda group: -len(group[1])):
        shown = ", ".join(clip.id or str(clip.path) for clip in members[:NUM_SHOWN])
        more = ", ..." if len(members) > NUM_SHOWN else ""
        typer.echo(f"{what}: {len(members):,} ({kind}): {shown}{more}")
