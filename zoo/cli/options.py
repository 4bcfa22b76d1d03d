"""Options that several commands share, with what ``--help`` says of them."""

from __future__ import annotations

from typing import Annotated

import typer

Trust = Annotated[
    str,
    typer.Option(
        help="Model that says whether a clip can be synchronized at all; by default the one that "
        "the catalog names, 'none' leaves it out."
    ),
]
