"""The root of the command line: global options, errors in one line, verbs of the plugins."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import zoo
from zoo.cli import (
    attribute,
    calibrate,
    catalog,
    convert,
    data,
    desync,
    evaluate,
    export,
    features,
    fix,
    plugin,
    predict,
    reconstruct,
    retrieve,
)
from zoo.cli.options import current_spelling
from zoo.errors import ConfigError, ZooError, from_system
from zoo.registry.manager import add_plugin_file, registry
from zoo.registry.plugin_files import PLUGIN_FILES_VARIABLE

console = Console(stderr=True)


def build_app() -> typer.Typer:
    """Assemble the commands of the core and of every plugin."""
    app = typer.Typer(
        name="zoo",
        help="Audio-visual models, synchronization first: train, evaluate, predict.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    groups = {
        "data": typer.Typer(help="Make, check and prepare clips.", no_args_is_help=True),
        "catalog": typer.Typer(help="Named models.", no_args_is_help=True),
        "plugin": typer.Typer(help="Write and check plugins.", no_args_is_help=True),
    }
    app.callback()(_options)
    app.command("list")(catalog.list_components)
    app.command("info")(catalog.info)
    app.command("pull")(catalog.pull)
    app.command("convert")(convert.convert)
    app.command("predict")(predict.predict)
    app.command("fix")(fix.fix)
    app.command("attribute")(attribute.attribute)
    app.command("reconstruct")(reconstruct.reconstruct)
    app.command("evaluate")(evaluate.evaluate)
    app.command("calibrate")(calibrate.calibrate)
    app.command("desync")(desync.desync)
    app.command("retrieve")(retrieve.retrieve)
    app.command("features")(features.features)
    app.command("export")(export.export)
    groups["catalog"].command("add")(catalog.add)
    groups["catalog"].command("remove")(catalog.remove)
    for name, function in data.COMMANDS.items():
        groups["data"].command(name)(function)
    groups["plugin"].command("new")(plugin.new)
    groups["plugin"].command("check")(plugin.check)
    for spec in registry().commands.values():
        (groups[spec.group] if spec.group else app).command(spec.name)(spec.function)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"avsync-zoo {zoo.__version__}")
        raise typer.Exit


def _options(
    debug: Annotated[bool, typer.Option(help="Show tracebacks and debug messages.")] = False,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--plugin", help="Load a plugin: a file, or the folder of a package."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Read options that come before the verb; `run` has acted on them already."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, or 2 for bad input.

    Args:
        arguments: without the program's name; by default the process's own.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    is_debug = "--debug" in arguments
    logging.basicConfig(
        level=logging.DEBUG if is_debug else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # hundreds of lines about fonts
    try:
        arguments = _load_plugin_files(arguments)
        _refuse_files_like_options(arguments)
        build_app()([current_spelling(argument) for argument in arguments])
    except (ZooError, OSError) as error:
        if is_debug:
            raise
        told = from_system(error) if isinstance(error, OSError) else error
        return _fail(told.typed, 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except SystemExit as done:  # how Typer ends, usage errors (2) included
        return int(done.code or 0)
    return 0


def _load_plugin_files(arguments: list[str]) -> list[str]:
    """Load ``--plugin PATH``, before or after the verb, and return the other arguments.

    It comes first since plugins may bring verbs.
    """
    rest: list[str] = []
    for argument in arguments:
        if rest and rest[-1] == "--plugin":
            rest.pop()
            add_plugin_file(Path(argument))
        elif argument.startswith("--plugin="):
            add_plugin_file(Path(argument.removeprefix("--plugin=")))
        else:
            rest.append(argument)
    os.environ.setdefault(PLUGIN_FILES_VARIABLE, "")
    return rest


def _refuse_files_like_options(arguments: list[str]) -> None:
    """Refuse a file whose name begins with a dash, which would be read as options.

    Raises:
        ConfigError: naming it, and how to write it.
    """
    for argument in arguments:
        if argument == "--":
            return
        if argument.startswith("-") and Path(argument).suffix and Path(argument).exists():
            raise ConfigError(f"'{argument}' is read as an option; write ./{argument} for the file")


def _fail(message: str, code: int) -> int:
    one_line = " ".join(message.split())
    console.print(f"[bold red]error:[/] {_escape(one_line)}", highlight=False, soft_wrap=True)
    return code


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
