"""``zoo plugin``: write a plugin, check plugins."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer
from rich.console import Console

from zoo.errors import PluginError, suggest
from zoo.registry.kinds import KINDS
from zoo.scaffold import Kind


def new(
    name: Annotated[str, typer.Argument(help="Of the component, such as my_net.")],
    *,
    kind: Annotated[Kind, typer.Option(help="What to write.")],
    modality: Annotated[
        Literal["audio", "vision"] | None, typer.Option(help="What an extractor reads.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the package.", show_default="zoo-NAME"),
    ] = None,
) -> None:
    """Write an installable package with one small component that trains, to be changed by you.

    Example: zoo plugin new my_net --kind extractor --modality audio
    """
    from zoo.scaffold import names_for, write_plugin

    names = names_for(name)
    folder = out or Path(names.distribution)
    package = folder.absolute() / "src" / names.package
    for file in write_plugin(name, kind, modality, folder):
        typer.echo(file)
    typer.echo(
        f"\nnext, install it:  pip install -e {quote(str(folder))}\n"
        f"or just use it:    export ZOO_PLUGINS={quote(str(package))}\n"
        f"then:              zoo plugin check {names.name}\n"
        f"and read:          {folder / 'README.md'}"
    )


def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Components or plugins; by default all.")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Small example of the data set that is checked.")
    ] = None,
) -> None:
    """Check that components keep the promises of their kind, those of third parties included.

    A component that fails is reported and the others go on; the exit code is then 2.

    Example: zoo plugin check my_net
    """
    from zoo.registry.manager import registry

    chosen = _choose(names or [])
    if not chosen and not registry().failures:
        raise PluginError("there is nothing to check")
    from zoo.testing import CHECKS, check_dataset  # torch loads here

    failed = []
    for kind, name in chosen:
        what = f"{KINDS[kind].noun} '{name}'"
        try:
            if kind == "datasets":
                check_dataset(name, videos)
            else:
                CHECKS[kind](name)
            _say(f"passed: {what}")
        except AssertionError as error:
            failed.append(what)
            _say(f"failed: {' '.join(str(error).split())}")
    for failure in [] if names else registry().failures:
        failed.append(f"plugin '{failure.plugin}'")
        _say(f"failed: plugin '{failure.plugin}': {failure.reason}")
    if failed:
        raise PluginError(f"{len(failed)} failed: {', '.join(failed)}; the reasons are above")


def _say(line: str) -> None:
    Console().print(line, soft_wrap=True, highlight=False, markup=False)


def _choose(names: list[str]) -> list[tuple[str, str]]:
    """Return (kind, name) of the components that are named, or whose plugin is."""
    from zoo.registry.manager import registry

    owners = [(*key.split(" ", 1), plugin) for key, plugin in registry().plugins.items()]
    if not names:
        return [(kind, name) for kind, name, _ in owners]
    chosen: list[tuple[str, str]] = []
    for wanted in names:
        found = [(kind, name) for kind, name, plugin in owners if wanted in (name, plugin)]
        if not found:
            raise _nothing_named(wanted, {part for owner in owners for part in owner[1:]})
        chosen += [one for one in found if one not in chosen]
    return chosen


def _nothing_named(wanted: str, known: set[str]) -> PluginError:
    from zoo.registry.manager import registry

    for failure in registry().failures:
        if failure.plugin == wanted:
            return PluginError(f"plugin '{wanted}' was skipped: {failure.reason}")
    skipped = "".join(f"; plugin '{f.plugin}' was skipped: {f.reason}" for f in registry().failures)
    return PluginError(
        f"no component or plugin is named '{wanted}'{suggest(wanted, known)}{skipped or '; '}"
        f"{'' if skipped else 'see: zoo list'}"
    )
