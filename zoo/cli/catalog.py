"""``zoo list``, ``zoo info``, ``zoo pull``, ``zoo catalog add`` and ``remove``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.cli.options import Classes
from zoo.cli.output import byte_bar, print_json
from zoo.errors import ConfigError, ModelError, PluginError, ZooError, suggest
from zoo.registry.kinds import KINDS

LISTED = tuple(kind for kind in KINDS if kind != "commands")  # those are listed by --help
MOST_SHOWN = 5  # of the names of classes
OLD_KINDS = {"pairs": "encoders"}

Mirror = Annotated[
    str, typer.Option(help="Address in place of the scheme and host of the original's.")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Download nothing: use the files that are here.")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep the downloaded file beside the converted model.")
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Longest wait for the next byte, seconds.")]


def list_components(
    kind: Annotated[
        str, typer.Argument(help=f"What to list: all, models, {', '.join(LISTED)}.")
    ] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what the zoo holds: models, and the components that plugins registered.

    Example: zoo list heads
    """
    from zoo.registry.manager import registry

    tables, kind = _tables(), OLD_KINDS.get(kind, kind)
    if kind not in ("all", *tables):
        raise ZooError(f"there is no list of '{kind}'{suggest(kind, tables)}; see: zoo list --help")
    if kind != "all":
        tables = {kind: tables[kind]}
    if as_json:
        failures = [vars(failure) for failure in registry().failures]
        print_json({**tables, "failed_plugins": failures})
        return
    console = Console()
    for title, rows in tables.items():
        if not rows:
            continue
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        table.add_column(no_wrap=True)
        for row in rows:
            remark = row["plugin"] if row.get("is_here", True) else "zoo pull"
            table.add_row(f"[bold]{row['name']}[/]", row["summary"], f"[dim]{remark}[/]")
        console.print(table)
        console.print()
    for failure in registry().failures:
        reason = escape(f"{failure.plugin}: {failure.reason}")
        console.print(f"[yellow]skipped plugin[/] {reason}", soft_wrap=True, highlight=False)


def _tables() -> dict[str, list[dict[str, Any]]]:
    from zoo.catalog.entries import read_catalog
    from zoo.registry.manager import registry

    models = [
        {"name": name, "summary": entry.summary, "plugin": "", "is_here": path.exists()}
        for name, (entry, path) in read_catalog().items()
    ]
    found, tables = registry(), {"models": models}
    for name in LISTED:
        tables[name] = [
            {
                "name": component,
                "summary": spec.summary,
                "plugin": found.plugins.get(f"{name} {component}", ""),
            }
            for component, spec in found.of_kind(KINDS[name]).items()
        ]
    return tables


def info(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's card: what it is made of, what it has seen, what it scored.

    Example: zoo info tiny-synthetic
    """
    from zoo.catalog.entries import lookup, read_description, resolve

    entry, path = lookup(model) or (None, resolve(model))
    description = read_description(path) if path.is_dir() else {}
    card = entry.model_dump() if entry is not None else {}
    if as_json:
        place = {"name": model, "folder": str(path), "is_here": path.exists()}
        print_json({**card, **place, **description})
        return
    rows = {
        "summary": card.get("summary", ""),
        "folder": str(path) if path.exists() else f"not here yet: zoo pull {model}",
        **_parts(path, description),
        **_origin(card.get("download")),
        "settings": _one_line(card.get("settings") or ""),
        "synchronizability": card.get("synchronizability", ""),
        "trained on": card.get("trained_on", ""),
        "recipe": card.get("recipe", ""),
        "caution": description.get("converted_from", {}).get("caution", ""),
        "license": card.get("license", ""),
        "source": card.get("source", ""),
        "sha256": description.get("sha256", ""),
    }
    scores = card.get("scores") or description.get("scores") or {}
    shown = [(name, str(value)) for name, value in rows.items() if value]
    shown += [("score", f"{clips}: {_one_line(values)}") for clips, values in scores.items()]
    console = Console(highlight=False, soft_wrap=True)  # a broken path could not be copied
    for name, value in shown:
        console.print(f"[bold]{name:17}[/]  {escape(value)}")


def _parts(folder: Path, description: dict[str, Any]) -> dict[str, str]:
    """Say what a model is made of, from the description in its folder."""
    if not description:
        return {}
    from zoo.models.upgrade import read_model_config

    try:
        config = read_model_config(description, str(folder))
    except PluginError as error:  # a model of an earlier version, of parts that are not installed
        return {"problem": str(error)}
    layout, objective = config.layout, config.objective
    return {
        "encoder": config.encoder_title,
        "objective": "" if objective is None else objective.name,
        "task": "" if config.task is None else config.task.name,
        "head": "none (stage 1 only)" if config.head is None else config.head.name,
        "parameters": f"{description['parameters'] / 1e6:.2f} M",
        "segments": f"{layout.num_segments} of {layout.segment_s:g} s, every {layout.step_s:g} s",
        **({} if config.task is None else _settings(config.task.config)),
    }


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Write the settings of a task, a line each."""
    return {name: _one_line(_shortened(value)) for name, value in config.items()}


def _shortened(value: Any) -> Any:
    """Write the beginning of a long list, such as the names of classes, and how long it is."""
    if not isinstance(value, list | tuple) or len(value) <= MOST_SHOWN:
        return value
    return f"{', '.join(map(str, value[:MOST_SHOWN]))}, ... ({len(value)})"


def _origin(download: dict[str, Any] | None) -> dict[str, str]:
    """Say where a published checkpoint comes from."""
    if download is None:
        return {}
    checks = [f"{name} {download[name]}" for name in ("md5", "sha256") if download[name]]
    return {
        "download": download["url"],
        "checked by": ", ".join(checks) or "its size only: no checksum is published",
        "format": download["format"],
    }


def _one_line(scores: Any) -> str:
    if not isinstance(scores, dict):
        return str(scores)
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in scores.items()
    )


def add(
    folder: Annotated[Path, typer.Argument(help="Model folder, the outcome of zoo train.")],
    name: Annotated[str, typer.Option(help="Name in the catalog.")],
    summary: Annotated[str, typer.Option(help="What the model is, in one sentence.")] = "",
    synchronizability: Annotated[
        str, typer.Option(help="Model of the catalog that says whether a clip can be synchronized.")
    ] = "",
) -> None:
    """Copy a trained model into your own catalog, so that every command knows it by name.

    Example: zoo catalog add runs/mine --name mine
    """
    from zoo.catalog.entries import user_catalog
    from zoo.catalog.model_folder import add_model

    target = add_model(folder, name, summary or f"added from {folder}", synchronizability)
    Console().print(
        f"'{name}' is in {user_catalog()} ({target}); try: zoo predict {name} CLIP",
        soft_wrap=True,
        highlight=False,
    )


def remove(
    name: Annotated[str, typer.Argument(help="Model that was added or pulled.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take a model out of your own catalog, or a pulled one from the disk.

    The copy that zoo catalog add made goes; the run it was made of stays. A published model can be
    pulled again.

    Example: zoo catalog remove mine
    """
    from zoo.catalog.entries import user_catalog
    from zoo.catalog.remove import remove_model

    removed = remove_model(name)
    if as_json:
        print_json({**vars(removed), "folder": removed.folder and str(removed.folder)})
        return
    said = [f"'{name}' is no longer in {user_catalog()}"] if removed.entry else []
    if removed.folder is not None:
        said.append(f"{removed.folder} is gone ({removed.num_bytes / 1e6:.1f} MB)")
    Console().print("; ".join(said), soft_wrap=True, highlight=False)


def pull(
    names: Annotated[list[str], typer.Argument(help="Catalog names: zoo list models.")],
    mirror: Mirror = "",
    offline: Offline = False,
    keep: Keep = False,
    retries: Annotated[int, typer.Option(min=0, help="Failures in a row before giving up.")] = 5,
    timeout: Timeout = 30.0,
    classes: Classes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Get published models: download, check, convert.

    A pull that was broken off goes on where it was. ZOO_MIRROR and ZOO_OFFLINE=1 do the same as
    the options. A model that cannot be had is reported and the others go on.

    Example: zoo pull synchformer-audioset
    """
    from zoo.catalog.download import Patience
    from zoo.catalog.entries import find
    from zoo.catalog.pull import Pulled, pull_model
    from zoo.data.class_names import read_class_names

    if classes is not None and len(names) > 1:
        raise ModelError("--classes names the classes of one model: pull one at a time")
    class_names = () if classes is None else read_class_names(classes)
    for name in names:
        find(name)  # a misspelt name ends the command before hours of downloads
    patience = Patience(timeout_s=timeout, retries=retries)
    done: list[Pulled] = []
    failures: list[str] = []
    for name in names:
        try:
            with byte_bar(name) as (progress, tell):
                pulled = pull_model(
                    name,
                    mirror=mirror,
                    is_offline=offline,
                    keeps_file=keep,
                    classes=class_names,
                    patience=patience,
                    progress=progress,
                    tell=tell,
                )
        except (ModelError, ConfigError) as error:
            failures.append(str(error))
            continue
        except KeyboardInterrupt:
            again = f"zoo pull {' '.join(names)}"
            Console(stderr=True).print(f"stopped; what has come is kept. Go on with: {again}")
            raise typer.Exit(130) from None
        done.append(pulled)
        if not as_json:
            was_here = "is already here" if pulled.was_here else "is here now"
            said = f"'{name}' {was_here}: {pulled.path}"
            Console().print(said, soft_wrap=True, highlight=False, markup=False)
    if as_json:
        print_json([{**vars(pulled), "path": str(pulled.path)} for pulled in done])
    if failures:
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise ZooError(f"{failures[0]}{others}")
