"""``zoo predict``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.catalog.entries import BY_CATALOG, NO_MODEL
from zoo.cli.options import AudioTrack, Precision, Synchronizability, VideoTrack
from zoo.cli.output import file_name, print_json, progress_bar
from zoo.errors import ConfigError, MediaError, NothingToMeasureError, ZooError
from zoo.inference.batch_table import Options

if TYPE_CHECKING:
    from zoo.inference.prediction import Prediction
    from zoo.inference.predictor import ClipAnswer

ROWS_AROUND = 20  # offsets shown on either side of the peak

Clips = Annotated[
    list[Path], typer.Argument(help="Clips of any container, rate and size, or folders.")
]
Step = Annotated[
    float | None,
    typer.Option(help="Choose among offsets this far apart, seconds (head correlation)."),
]
Audio = Annotated[Path | None, typer.Option(help="Take the sound of the one clip from this file.")]
Every = Annotated[
    float | None,
    typer.Option(help="Seconds between the crops of a clip; default: as the model suits."),
]
MaxOffset = Annotated[
    float | None,
    typer.Option(help="Search so far either way, seconds; default: the model's own grid."),
]
Plot = Annotated[
    Path | None,
    typer.Option(help="Draw the answer along the one clip: its offset, or what happens when."),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say beside it what a rule without learning finds.")
]
Csv = Annotated[
    Path | None, typer.Option(help="Write a table of thousands of clips, or go on with it.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes for --csv; 0 is one per processor.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the plot or table if it exists.")
]


def predict(
    model: Annotated[str, typer.Argument(help="Catalog name or model folder.")],
    clips: Clips,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    step: Step = None,
    audio: Audio = None,
    audio_track: AudioTrack = None,
    video_track: VideoTrack = None,
    every: Every = None,
    max_offset: MaxOffset = None,
    synchronizability: Synchronizability = BY_CATALOG,
    plot: Plot = None,
    explain: Explain = False,
    csv: Csv = None,
    workers: Workers = 0,
    overwrite: Overwrite = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Say what a model makes of each clip: how far its audio is off, or what its task asks.

    A clip that cannot be read is reported and the others go on; the exit code is then 2. With
    --csv it is a row with the reason, and the exit code is 2 only if no clip can be read.

    Example: zoo predict tiny-synthetic clip.mp4 --json
    """
    from zoo.data.find import find_clips

    clips = find_clips(clips)
    _check_options(clips, audio, every, max_offset, plot, csv, overwrite)
    if explain and csv is not None:
        raise ConfigError("--explain has no column in a table; leave it out with --csv")
    second = None if synchronizability in (BY_CATALOG, NO_MODEL) else synchronizability
    for_offsets = {
        "--step": step,
        "--max-offset": max_offset,
        "--synchronizability": second,
        "--explain": explain or None,
    }
    _refuse_for_other_tasks(
        model, [name for name, given in for_offsets.items() if given is not None], plot
    )
    options = Options(
        step, audio_track, every, max_offset, synchronizability, precision, video_track
    )
    if csv is not None:
        _to_csv(model, clips, csv, options, device, workers, overwrite, as_json)
        return
    _one_by_one(model, clips, audio, options, plot, device, explain, as_json)


def _check_options(
    clips: list[Path],
    audio: Path | None,
    every: float | None,
    max_offset: float | None,
    plot: Path | None,
    csv: Path | None,
    overwrite: bool,
) -> None:
    for option, given in (("--audio", audio), ("--plot", plot)):
        if given is not None and len(clips) > 1:
            raise ConfigError(f"{option} is for one clip, and {len(clips)} are given")
        if given is not None and csv is not None:
            raise ConfigError(f"{option} is for one clip; leave it out with --csv")
    for option, seconds in (("--every", every), ("--max-offset", max_offset)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise ConfigError(f"{option} {seconds:g} is not above 0 seconds, or not finite")
    if plot is not None:
        from zoo.inference.offset_plot import require_plot

        require_plot(plot, overwrite=overwrite)


def _refuse_for_other_tasks(model: str, options: list[str], plot: Path | None) -> None:
    """Refuse options that need offsets, or a plot, for a model that is about something else."""
    if not options and plot is None:
        return
    from zoo.inference.load import read_task

    task = read_task(model)
    if plot is not None and not task.answers_offsets and not task.draws_answers:
        raise ConfigError(
            "--plot is for models that find offsets, and others whose answers run along a clip; "
            f"'{model}' {task.says}: leave it out"
        )
    if options and not task.answers_offsets:
        raise ConfigError(
            f"{options[0]} is for models that find offsets, and '{model}' {task.says}: leave it out"
        )


def _one_by_one(
    model: str,
    clips: list[Path],
    audio: Path | None,
    options: Options,
    plot: Path | None,
    device: str,
    explain: bool,
    as_json: bool,
) -> None:
    from zoo.inference.load import load
    from zoo.media.apart import reading_apart

    predictor = load(model, device, options.synchronizability, options.precision)
    given = options.arguments(predictor.task) | ({"explain": True} if explain else {})
    predictions: list[Any] = []
    failures: list[tuple[Path, MediaError]] = []
    for clip in clips:
        try:
            bar = progress_bar("crops", hidden=as_json or not sys.stderr.isatty())
            with reading_apart(), bar as progress:
                predictions.append(predictor.predict(clip, audio=audio, progress=progress, **given))
        except MediaError as error:
            failures.append((clip, error))
    if plot is not None and predictions:
        predictor.draw(
            predictions[0],
            plot,
            audio=audio,
            audio_track=options.audio_track,
            video_track=options.video_track,
        )
    if as_json:
        failed = [_failed(clip, error) for clip, error in failures]
        print_json([p.as_dict() for p in predictions] + failed)
    elif predictor.task.answers_offsets:
        _show_offsets(predictions, options.step_s or 0.2)
    else:
        _show_answers(predictions)
    if plot is not None and predictions:
        typer.echo(f"plot: {plot}", err=as_json)
    if failures:
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise ZooError(f"{failures[0][1].typed}{others}")


def _failed(clip: Path, error: MediaError) -> dict[str, str]:
    """Return a clip without an answer as JSON types; with a reason if it could be read."""
    failed = {"path": str(clip), "error": error.typed}
    return failed | ({"reason": error.reason} if isinstance(error, NothingToMeasureError) else {})


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


def _show_answers(answers: list[ClipAnswer]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for answer in answers:
        console.print(f"[bold]{file_name(answer.path)}[/]")
        for line in answer.lines():
            console.print(f"  {escape(line)}")
        _show_notes(console, answer)


def _show_offsets(predictions: list[Prediction], step_s: float) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for prediction in predictions:
        console.print(f"[bold]{file_name(prediction.path)}[/]")
        console.print(f"  {_answer(prediction)}")
        if prediction.synchronizability is not None:
            console.print(
                f"  {prediction.verdict} "
                f"(probability that they can: {prediction.synchronizability:.2f})"
            )
        if prediction.rule is not None:
            console.print(f"  rule without learning: {prediction.rule}")
        if len(prediction.over_time.stretches) > 1:
            console.print(f"  over time: {prediction.over_time.meaning}")
        _show_notes(console, prediction)
    if len(predictions) == 1:
        Console().print(_distribution(predictions[0], step_s))


def _answer(prediction: Prediction) -> str:
    """Say the offset, unless there is no single one."""
    if prediction.over_time.drift is not None:
        return f"the offset {prediction.over_time.meaning}"
    if prediction.repeats is not None:
        return prediction.meaning
    return (
        f"offset {prediction.offset_s:+.2f} s (probability {prediction.probability:.2f}): "
        f"{prediction.meaning}"
    )


def _show_notes(console: Console, answer: ClipAnswer | Prediction) -> None:
    for note in answer.notes:
        console.print(f"  [yellow]note:[/] {escape(note)}")
    if answer.low_confidence:
        console.print(f"  [yellow]low confidence:[/] {escape(answer.low_confidence)}")


def _distribution(prediction: Prediction, step_s: float) -> Table:
    """Draw the distribution over offsets as bars; a fine grid is shown around its peak."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    for offset_s, probability in prediction.distribution.items():
        if abs(offset_s - prediction.offset_s) > ROWS_AROUND * step_s:
            continue
        bar = "█" * round(40 * probability)
        table.add_row(f"  {offset_s:+.2f} s", f"{probability:6.3f}", f"[cyan]{bar}[/]")
    return table
