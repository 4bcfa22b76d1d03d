"""Options that several commands share, with what ``--help`` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo import contracts

# What options were called in earlier versions, which still works.
OLD_SPELLINGS = {"--trust": "--synchronizability", "--picture": "--plot"}

Synchronizability = Annotated[
    str,
    typer.Option(
        "--synchronizability",
        metavar="MODEL",
        help="Model that says whether a clip can be synchronized at all; by default the one that "
        "the catalog names, 'none' leaves it out.",
    ),
]
Precision = Annotated[
    contracts.Precision,
    typer.Option(
        help="Of the encoder. bf16 is faster where the device can multiply it (on such CPUs "
        "three times, at full size), and slower elsewhere."
    ),
]
AudioTrack = Annotated[
    int | None, typer.Option(min=1, help="Which audio track, from 1; default: the first.")
]
VideoTrack = Annotated[
    int | None,
    typer.Option(min=1, help="Which video track, from 1; default: the film, not a picture."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the plot if it exists.")]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Names of the model's classes, in the order of its outputs: a CSV with the columns "
        "index and display_name, or a name per line.",
    ),
]


def current_spelling(argument: str) -> str:
    """Return an argument with the option's name of today."""
    name, equals, value = argument.partition("=")
    return OLD_SPELLINGS.get(name, name) + equals + value
