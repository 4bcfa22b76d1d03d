"""``zoo list``, ``zoo info``, ``zoo catalog add``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from zoo.cli.output import print_json

Kind = Literal["all", "models", "extractors", "aggregators", "heads", "objectives", "datasets"]


def list_components(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what the zoo holds: models, and the components that plugins registered.

    Example: zoo list heads
    """
    from zoo.hooks import registry

    tables = _tables() if kind == "all" else {kind: _tables()[kind]}
    if as_json:
        failures = [vars(failure) for failure in registry().failures]
        print_json({**tables, "failed_plugins": failures})
        return
    console = Console()
    for title, rows in tables.items():
        if not rows:
            continue
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        for row in rows:
            table.add_row(f"[bold]{row['name']}[/]", row["summary"], f"[dim]{row['plugin']}[/]")
        console.print(table)
        console.print()
    for failure in registry().failures:
        console.print(f"[yellow]skipped plugin[/] {failure.plugin}: {failure.reason}")


def _tables() -> dict[str, list[dict[str, Any]]]:
    from zoo.catalog import read_catalog
    from zoo.hooks import registry

    models = [
        {"name": name, "summary": entry.summary, "plugin": ""}
        for name, (entry, _) in read_catalog().items()
    ]
    found = registry()
    extractors = {**found.pairs, **found.extractors}
    kinds = {
        "extractors": extractors,
        "aggregators": found.aggregators,
        "heads": found.heads,
        "objectives": found.objectives,
        "datasets": found.datasets,
    }
    tables = {"models": models}
    for kind, specs in kinds.items():
        tables[kind] = [
            {"name": name, "summary": spec.summary, "plugin": _owner(kind, name)}
            for name, spec in specs.items()  # type: ignore[attr-defined]
        ]
    return tables


def _owner(kind: str, name: str) -> str:
    from zoo.hooks import registry

    owners = registry().plugins
    return owners.get(f"{kind} {name}") or owners.get(f"pairs {name}", "")


def info(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's card: what it is made of, what it has seen, what it scored.

    Example: zoo info tiny-synthetic
    """
    from zoo.catalog import read_catalog, resolve
    from zoo.folder import read_description

    folder = resolve(model)
    description = read_description(folder)
    catalog = read_catalog()
    entry = catalog[model][0].model_dump() if model in catalog else {}
    facts = {"name": model, "folder": str(folder), **entry, **description}
    if as_json:
        print_json(facts)
        return
    config = description["config"]
    head = (config.get("head") or {}).get("name", "none (stage 1 only)")
    layout, grid = config["layout"], config["grid"]
    rows = {
        "summary": entry.get("summary", ""),
        "folder": str(folder),
        "audio": config["audio"]["extractor"]["name"],
        "video": config["vision"]["extractor"]["name"],
        "head": head,
        "parameters": f"{description['parameters'] / 1e6:.2f} M",
        "segments": f"{layout['num_segments']} of {layout['segment_s']:g} s, "
        f"every {layout['step_s']:g} s",
        "offsets": f"{grid['num_classes']} from {grid['min_s']:g} s to {grid['max_s']:g} s",
        "trained on": entry.get("trained_on", ""),
        "recipe": entry.get("recipe", ""),
        "license": entry.get("license", ""),
        "sha256": description["sha256"],
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        if value:
            table.add_row(f"[bold]{name}[/]", str(value))
    for name, scores in (entry.get("scores") or description.get("scores") or {}).items():
        table.add_row(f"[bold]score: {name}[/]", _one_line(scores))
    Console().print(table)


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
) -> None:
    """Copy a trained model into your own catalog, so that every command knows it by name.

    Example: zoo catalog add runs/mine --name mine
    """
    from zoo.catalog import add_model, user_catalog

    target = add_model(folder, name, summary or f"added from {folder}")
    Console().print(
        f"'{name}' is in {user_catalog()} ({target}); try: zoo predict {name} CLIP",
        soft_wrap=True,
        highlight=False,
    )
