"""Options that several commands share, with what ``--help`` says of them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Extractor = Annotated[
    str | None, typer.Option(help="Pair of extractors, or audio+vision: zoo list extractors.")
]
Head = Annotated[str | None, typer.Option(help="zoo list heads.", show_default="correlation")]
Aggregator = Annotated[
    str | None, typer.Option(help="zoo list aggregators.", show_default="transformer")
]
Preset = Annotated[
    Literal["tiny", "paper"] | None, typer.Option(help="Sizes.", show_default="tiny")
]
Named = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="A training of the encoder on one data set: as20k, vggsound, grid."
    ),
]
Init = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|PATH",
        help="Start from the encoder of a model, a folder or a published checkpoint, or from "
        "published weights of an extractor; may be repeated.",
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change one number: stage2.lr=3e-4.")
]
Features = Annotated[
    Literal["store", "online"] | None,
    typer.Option(help="Stage 2 tokens: computed once, or at every step."),
]
GpusPerWorker = Annotated[float, typer.Option(min=0, help="0 trains on CPUs.")]
CpusPerWorker = Annotated[
    int, typer.Option(min=0, help="0 shares out this machine, or is 1 on a cluster.")
]
Address = Annotated[
    str, typer.Option(help="Ray cluster: local starts one here, auto finds a running one.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where OUT stopped.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
