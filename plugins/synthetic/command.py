"""``zoo data synth``: renders clips whose timing is known to the sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError

from plugins.synthetic.config import SECONDS, Difficulty, Kind, SyntheticConfig
from zoo.errors import ConfigError, suggest

if TYPE_CHECKING:
    from zoo.data.manifest import Manifest

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to render into.")],
    *,
    kind: Annotated[
        Kind,
        typer.Option(
            help="A few impacts, babble, film, classes that need both streams, or events."
        ),
    ] = "sparse",
    clips: Annotated[int, typer.Option(min=1, help="Number of clips.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Clip i depends on (seed, i) only.")] = 0,
    size: Annotated[int, typer.Option(help="Width and height, pixels.")] = 64,
    seconds: Annotated[
        float | None, typer.Option(help="Length of every clip; 9, with classes 5, events 10.")
    ] = None,
    difficulty: Annotated[Difficulty, typer.Option(help="How much nuisance.")] = "normal",
    split: Annotated[
        str, typer.Option(help="One split for all clips, or shares of each.")
    ] = "train=0.8,valid=0.1,test=0.1",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is one per processor.")] = 0,
) -> None:
    """Render synthetic clips (H.264 and AAC in mp4) with known events, and their manifest.

    An interrupted run goes on where it stopped; more clips can be added later.

    Example: zoo data synth clips --kind sparse --clips 600 --seed 1
    """
    from rich.console import Console

    from plugins.synthetic.clip_folder import MANIFEST, render_folder
    from zoo.data.clip_progress import clip_progress

    shares = parse_split(split)
    try:
        config = SyntheticConfig(
            kind=kind,
            seed=seed,
            size=size,
            seconds=SECONDS[kind] if seconds is None else seconds,
            difficulty=difficulty,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--{first['loc'][0]} {first['input']}: {first['msg']}") from error
    with clip_progress(f"rendering {kind} clips") as progress:
        manifest = render_folder(
            out, config, clips, shares, workers=workers or None, progress=progress
        )
    counts = ", ".join(
        f"{sum(clip.split == name for clip in manifest.clips)} {name}" for name in shares
    )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{clips} clips ({counts}): {out / MANIFEST}")
    if config.is_labelled:
        console.print(_describe_ceilings(manifest))
    if config.kind == "events":
        from plugins.synthetic.lasting import describe_ceilings

        for name in shares:
            places = [i for i, clip in enumerate(manifest.clips) if clip.split == name]
            if places:
                console.print(f"{name}: {describe_ceilings(config, places)}")


def _describe_ceilings(manifest: Manifest) -> str:
    from plugins.synthetic.labelled import single_stream_ceilings

    labels = [str(clip.label) for clip in manifest.clips]
    audio, vision = single_stream_ceilings(labels)
    return (
        f"{len(set(labels))} pairs of look and timbre: told from audio alone at most "
        f"{100 * audio:.1f} %, from video alone {100 * vision:.1f} %, from both 100 %"
    )


def parse_split(text: str) -> dict[Split, float]:
    """Parse ``NAME`` or ``NAME=SHARE,...`` to the share of every split.

    Raises:
        ConfigError: if a name is unknown or a share is not a positive number.
    """
    shares: dict[Split, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name not in SPLITS:
            raise ConfigError(
                f"unknown split '{name}' in --split {text}{suggest(name, SPLITS)}; "
                "expected train, valid or test, or shares such as train=0.8,valid=0.1,test=0.1"
            )
        try:
            shares[name] = float(share or 1)
        except ValueError as error:
            raise ConfigError(f"'{share}' in --split {text} is not a number") from error
    if min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise ConfigError(f"the shares in --split {text} must be positive")
    return shares
