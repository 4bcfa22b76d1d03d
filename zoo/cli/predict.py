"""``zoo predict``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.catalog.entries import BY_CATALOG
from zoo.cli.options import Precision, Trust
from zoo.cli.output import print_json, progress_bar
from zoo.errors import ConfigError, MediaError, ZooError
from zoo.inference.batch import Options

if TYPE_CHECKING:
    from zoo.inference.predictor import Prediction

ROWS_AROUND = 20  # offsets shown on either side of the peak


def predict(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    clips: Annotated[
        list[Path], typer.Argument(help="Clips of any container, rate and size, or folders.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    step: Annotated[
        float | None,
        typer.Option(help="Choose among offsets this far apart, seconds (head correlation)."),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Take the sound of the one clip from this file.")
    ] = None,
    audio_track: Annotated[
        int | None, typer.Option(min=1, help="Which audio track, from 1; default: the first.")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(help="Seconds between the crops of a clip; default: all, one per segment."),
    ] = None,
    max_offset: Annotated[
        float | None,
        typer.Option(help="Search so far either way, seconds; default: the model's own grid."),
    ] = None,
    trust: Trust = BY_CATALOG,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the offset of the one clip over time.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write a table of thousands of clips, or go on with it.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes for --csv; 0 is one per processor.")
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the picture or table if it exists.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Predict how far the audio of each clip is off, in seconds and in words.

    A clip that cannot be read is reported and the others go on; the exit code is then 2. With
    --csv it is a row with the reason, and the exit code is 2 only if no clip can be read.

    Example: zoo predict tiny-synthetic clip.mp4 --json
    """
    from zoo.data.find import find_clips

    clips = find_clips(clips)
    _check_options(clips, audio, every, max_offset, picture, csv, overwrite)
    if csv is not None:
        options = Options(step, audio_track, every, max_offset, trust, precision)
        _to_csv(model, clips, csv, options, device, workers, overwrite, as_json)
        return
    from zoo.inference.predictor import load

    predictor = load(model, device, trust, precision)
    predictions: list[Prediction] = []
    failures: list[tuple[Path, str]] = []
    for clip in clips:
        try:
            with progress_bar("crops", hidden=as_json or not sys.stderr.isatty()) as progress:
                predictions.append(
                    predictor.predict(
                        clip,
                        step,
                        audio=audio,
                        audio_track=audio_track,
                        every_s=every,
                        max_offset_s=max_offset,
                        progress=progress,
                    )
                )
        except MediaError as error:
            failures.append((clip, str(error)))
    if picture is not None and predictions:
        from zoo.inference.offset_plot import draw

        draw(predictions[0], picture, predictor.model.config.layout.covered_s)
    if as_json:
        failed = [{"path": str(clip), "error": reason} for clip, reason in failures]
        print_json([p.as_dict() for p in predictions] + failed)
    elif predictions:
        _show(predictions, step or 0.2)
    if failures:
        clip, reason = failures[0]
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise ZooError(f"{reason}{others}")


def _check_options(
    clips: list[Path],
    audio: Path | None,
    every: float | None,
    max_offset: float | None,
    picture: Path | None,
    csv: Path | None,
    overwrite: bool,
) -> None:
    for option, given in (("--audio", audio), ("--picture", picture)):
        if given is not None and len(clips) > 1:
            raise ConfigError(f"{option} is for one clip, and {len(clips)} are given")
        if given is not None and csv is not None:
            raise ConfigError(f"{option} is for one clip; leave it out with --csv")
    for option, seconds in (("--every", every), ("--max-offset", max_offset)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise ConfigError(f"{option} {seconds:g} is not above 0 seconds, or not finite")
    if picture is not None:
        from zoo.inference.offset_plot import require_picture

        require_picture(picture, overwrite=overwrite)


def _to_csv(
    model: str,
    clips: list[Path],
    out: Path,
    options: Options,
    device: str,
    workers: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    from zoo.inference.batch import predict_to_csv

    with progress_bar("clips", hidden=as_json or not sys.stderr.isatty()) as progress:
        counts = predict_to_csv(
            model,
            clips,
            out,
            options,
            device=device,
            workers=workers or None,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json({"csv": str(out), **counts})
    else:
        there = f", {counts['there']} of them were there before" if counts["there"] else ""
        typer.echo(
            f"{out}: {counts['predicted']} of {counts['clips']} clips predicted, "
            f"{counts['failed']} cannot be (see the column 'error'){there}"
        )
    if not counts["predicted"]:
        raise ZooError(f"no clip can be predicted; see the column 'error' of {out}")


def _show(predictions: list[Prediction], step_s: float) -> None:
    console = Console()
    for prediction in predictions:
        console.print(f"[bold]{escape(prediction.path)}[/]", highlight=False, soft_wrap=True)
        console.print(
            f"  offset {prediction.offset_s:+.2f} s (probability {prediction.probability:.2f}): "
            f"{prediction.meaning}",
            highlight=False,
            soft_wrap=True,
        )
        if prediction.synchronizability is not None:
            console.print(
                f"  {prediction.verdict} "
                f"(probability that they can: {prediction.synchronizability:.2f})",
                highlight=False,
                soft_wrap=True,
            )
        if len(prediction.over_time.stretches) > 1:
            meaning = prediction.over_time.meaning
            console.print(f"  over time: {meaning}", highlight=False, soft_wrap=True)
        for note in prediction.notes:
            console.print(f"  [yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
        if prediction.low_confidence:
            console.print(f"  [yellow]low confidence:[/] {escape(prediction.low_confidence)}")
    if len(predictions) == 1:
        console.print(_distribution(predictions[0], step_s))


def _distribution(prediction: Prediction, step_s: float) -> Table:
    """Draw the distribution over offsets as bars; a fine grid is shown around its peak."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    for offset_s, probability in prediction.distribution.items():
        if abs(offset_s - prediction.offset_s) > ROWS_AROUND * step_s:
            continue
        bar = "█" * round(40 * probability)
        table.add_row(f"  {offset_s:+.2f} s", f"{probability:6.3f}", f"[cyan]{bar}[/]")
    return table
