"""The plot of a search: the query above its hits, each as a filmstrip and a spectrogram."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.errors import MediaError
from zoo.inference.clip_plot import draw_film, draw_spectrogram
from zoo.inference.offset_plot import save_whole
from zoo.media import decode, probe
from zoo.plots import CHANCE, OTHER, VALID
from zoo.retrieval.search import Retrieval

LONGEST_S = 10.0  # of a clip, from its start
FPS, SHORT_SIDE = 10.0, 96
STRIP = 7.0  # square frames that fit side by side
SAMPLE_RATE_HZ = 16_000
WIDTH, ROW_HEIGHT = 9.6, 1.0  # inches
LONGEST_NAME = 48  # letters


def draw(found: Retrieval, path: Path) -> Path:
    """Draw a query and its hits; reads the start of each clip once more.

    Streams that were compared have a frame: of the query in one colour, of the hits in another.

    Args:
        found: of a search.
        path: plot to write; its suffix chooses the format.

    Raises:
        MediaError: if the plot cannot be written.
    """
    rows = 1 + len(found.hits)
    figure = Figure(figsize=(WIDTH, ROW_HEIGHT * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False, gridspec_kw={"width_ratios": [1.5, 1]})
    is_video_found = found.find == "video"
    _draw_clip(axes[0], found.query, f"query: {_short(found.query)}")
    _mark(axes[0, int(is_video_found)], OTHER)
    for row, (rank, hit) in zip(axes[1:], enumerate(found.hits, start=1), strict=True):
        _draw_clip(row, hit.path, f"{rank}. similarity {hit.similarity:.3f}: {_short(hit.path)}")
        _mark(row[int(not is_video_found)], VALID)
    other = "audio" if is_video_found else "video"
    figure.suptitle(
        f"{found.find.capitalize()}s of {found.num_searched} clips for the {other} of the query, "
        f"by {_short(Path(found.model))}",
        fontsize=10,
    )
    return save_whole(figure, path)


def _short(path: Path) -> str:
    name = path.name if len(path.name) <= LONGEST_NAME else f"{path.name[: LONGEST_NAME - 1]}…"
    return name.replace("$", r"\$")


def _draw_clip(axes: tuple[Axes, Axes], clip: Path, title: str) -> None:
    """Draw both streams of a clip, as far as it has them and they can be read."""
    info = probe(clip)
    axes[0].set_title(title, fontsize=8.5, loc="left")
    for axis, stream, name, draw_stream in (
        (axes[0], info.video, "video", _draw_video),
        (axes[1], info.audio, "audio", _draw_audio),
    ):
        axis.set_yticks([])
        if stream is None:
            _say(axis, f"no {name}")
        else:
            try:
                draw_stream(axis, clip, min(LONGEST_S, stream.end_s))
            except MediaError:  # it was compared all the same, and the others are worth a plot
                _say(axis, f"{name} cannot be drawn")
        axis.set_xticks([])


def _draw_video(axis: Axes, clip: Path, length_s: float) -> None:
    window = decode(clip, duration_s=length_s, fps=FPS, short_side=SHORT_SIDE, audio=False)
    assert window.frames is not None
    aspect = window.frames.shape[2] / window.frames.shape[1]
    draw_film(axis, window.frames, (0.0, length_s), round(STRIP / aspect))


def _draw_audio(axis: Axes, clip: Path, length_s: float) -> None:
    window = decode(clip, duration_s=length_s, sample_rate_hz=SAMPLE_RATE_HZ, video=False)
    assert window.samples is not None
    draw_spectrogram(axis, window.samples, SAMPLE_RATE_HZ, (0.0, length_s))


def _say(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, ha="center", va="center", color=CHANCE, transform=axis.transAxes)


def _mark(axis: Axes, color: str) -> None:
    for spine in axis.spines.values():
        spine.set(color=color, linewidth=2.5)
