"""Options that several commands share, with what ``--help`` says of them."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo import contracts

Trust = Annotated[
    str,
    typer.Option(
        help="Model that says whether a clip can be synchronized at all; by default the one that "
        "the catalog names, 'none' leaves it out."
    ),
]
Precision = Annotated[
    contracts.Precision,
    typer.Option(
        help="Of the extractors. bf16 is faster where the device can multiply it (on such CPUs "
        "three times, at full size), and slower elsewhere."
    ),
]
