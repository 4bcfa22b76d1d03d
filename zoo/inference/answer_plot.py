"""The plot of an answer along a clip: filmstrip, spectrogram, and what the task draws below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from zoo.errors import MediaError
from zoo.inference.clip_plot import HOP_S, draw_film, draw_spectrogram
from zoo.inference.offset_plot import save_whole
from zoo.media import decode
from zoo.models.task import Task
from zoo.plots import CHANCE
from zoo.timeline import clock_tenths

if TYPE_CHECKING:
    from zoo.inference.predictor import ClipAnswer

WIDTH, HEIGHTS = 10.0, (1.0, 1.2, 1.6)  # inches: of film, spectrogram and answer
FRAMES = 48  # that are decoded, of which as many are shown as fit
MOST_FPS, SHORT_SIDE = 10.0, 96
SAMPLE_RATE_HZ, COLUMNS = 16_000, 2000  # of the spectrogram


def draw(
    answer: ClipAnswer,
    task: Task,
    path: Path,
    *,
    audio: str | Path | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
) -> Path:
    """Draw a clip and what a model says about it; reads the clip once more.

    Args:
        answer: of one clip.
        task: of the model, which draws its answers.
        path: plot to write; its suffix chooses the format.
        audio: file of the sound, where it is another.
        audio_track: which of its tracks, from 1; None is the first.
        video_track: which track of the video, from 1; None is the film.

    Raises:
        MediaError: if the plot cannot be written.
    """
    figure = Figure(figsize=(WIDTH, sum(HEIGHTS) + 0.9), layout="constrained")
    film, sound, said = figure.subplots(3, 1, sharex=True, height_ratios=HEIGHTS)
    _try(
        film, lambda: _draw_video(film, Path(answer.path), answer.duration_s, video_track), "video"
    )
    heard = Path(audio or answer.path)
    _try(sound, lambda: _draw_audio(sound, heard, answer.duration_s, audio_track), "audio")
    film.set_ylabel("video", fontsize=9)
    sound.set_ylabel("audio", fontsize=9)
    task.draw_answer(said, answer.answer.facts)
    said.set_xlim(0, answer.duration_s)
    said.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock_tenths(seconds)))
    said.set_xlabel("time in the clip")
    name, model = (Path(text).name.replace("$", r"\$") for text in (answer.path, answer.model))
    figure.suptitle(f"{name}, by {model}", fontsize=11)
    return save_whole(figure, path)


def _try(axis: Axes, work: Callable[[], None], name: str) -> None:
    """Draw a stream; what the model could read is worth a plot even where this fails."""
    axis.set_yticks([])
    try:
        work()
    except MediaError:
        text = f"{name} cannot be drawn"
        axis.text(0.5, 0.5, text, ha="center", va="center", color=CHANCE, transform=axis.transAxes)


def _draw_video(axis: Axes, clip: Path, end_s: float, track: int | None) -> None:
    fps = min(MOST_FPS, FRAMES / end_s)
    window = decode(
        clip, duration_s=end_s, fps=fps, short_side=SHORT_SIDE, audio=False, video_track=track
    )
    assert window.frames is not None
    aspect = window.frames.shape[2] / window.frames.shape[1]
    draw_film(axis, window.frames, (0.0, end_s), round(WIDTH / HEIGHTS[0] / aspect))


def _draw_audio(axis: Axes, clip: Path, end_s: float, track: int | None) -> None:
    window = decode(
        clip, duration_s=end_s, sample_rate_hz=SAMPLE_RATE_HZ, video=False, audio_track=track
    )
    assert window.samples is not None
    span_s, hop_s = (0.0, end_s), max(HOP_S, end_s / COLUMNS)
    draw_spectrogram(axis, window.samples, SAMPLE_RATE_HZ, span_s, hop_s)
