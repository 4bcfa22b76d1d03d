"""``zoo features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from zoo.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from zoo.features import Result

REASONS = 5  # clips whose reasons are printed; all are in quarantine.csv

Clips = Annotated[
    list[Path] | None,
    typer.Argument(help="Clips: files, folders, patterns in quotes, manifests."),
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", help="Folder for the files; an interrupted run goes on there."),
]
Lists = Annotated[
    list[Path] | None, typer.Option("--csv", help="A list of clips: a CSV with a column path.")
]
Preset = Annotated[
    str | None,
    typer.Option(help="v2a: what video-to-audio generators condition on; needs no audio."),
]
Which = Annotated[
    str | None,
    typer.Option(
        help="tokens (after the aggregators), features (before them), all, or any of "
        "audio_tokens, vision_tokens, audio_features, vision_features, with commas between.  "
        "[default: tokens]"
    ),
]
Step = Annotated[
    float | None,
    typer.Option(help="From one segment's start to the next, seconds.  [default: the model's]"),
]
ShortSide = Annotated[
    int | None,
    typer.Option(help="Of the frames before the crop, pixels.  [default: the model's]"),
]


def features(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    clips: Clips = None,
    *,
    out: Out,
    lists: Lists = None,
    preset: Preset = None,
    which: Which = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, fp16 or bf16.  [default: fp32]")] = None,
    step: Step = None,
    short_side: ShortSide = None,
    workers: Annotated[int, typer.Option(min=1, help="Clips at a time.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write the segment tokens of clips, with the time of each, as safetensors.

    A clip that cannot be used is reported and the others go on; ends with exit code 2 only if none
    can.

    Example: zoo features tiny-synthetic clips -o tokens

    Example: zoo features synchformer-audioset clips --preset v2a -o conditions --device cuda
    """
    from zoo.features import extract

    try:
        with progress_bar("features", hidden=as_json) as progress:
            result = extract(
                model,
                clips or [],
                out,
                lists=lists or [],
                preset=preset,
                which=which,
                dtype=dtype,
                step_s=step,
                short_side=short_side,
                device=device,
                workers=workers,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo(f"what is done is kept in {out}; the same command goes on", err=True)
        raise
    if as_json:
        print_json(result.as_dict())
    else:
        _show(result)


def _show(result: Result) -> None:
    console = Console(highlight=False, soft_wrap=True)
    clips = len(result.files)
    before = f" ({result.finished_before} there before)" if result.finished_before else ""
    console.print(
        f"{clips} {'file' if clips == 1 else 'files'}{before}, {_size(result.num_bytes)}, "
        f"in {result.folder}; index: {result.index}",
        markup=False,
    )
    if not result.failed:
        return
    total = clips + len(result.failed)
    console.print(f"[yellow]{len(result.failed)} of {total} clips cannot be used[/]:")
    for reason in list(result.failed.values())[:REASONS]:
        console.print(f"  {reason}", markup=False)
    if len(result.failed) > REASONS:
        console.print(f"  and {len(result.failed) - REASONS} more")
    console.print(f"all of them: {result.folder / 'quarantine.csv'}", markup=False)


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"
