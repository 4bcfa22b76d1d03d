"""When a film of flashes and clicks shows and plays them, beside when it should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from zoo.media import ClipInfo, Decoder, Window, probe

RATE_HZ, CLICK_HZ, CLICK_S = 16_000, 1000, 0.03
WHITE = 180  # level of a flash; all else is darker
FAINT = 0.05  # amplitude; what is fainter is no click
FRAME_S = 0.04  # of the film, as it is made
WINDOW_S = 7.0  # files are read in windows, as by everything else
APART_S = 0.3  # at most half of what lies between two events
EDGE_S = 0.1  # from where something was cut; what is there may be half an event
CUT_S = 1.0  # from where a file breaks off: its last packets may be there or not
BEGINS_LATE = {"mkv", "flv", "ts"}  # by up to 0.1 s, pictures and sound alike

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Events:
    """What is seen and heard in a file.

    Attributes:
        info: as probed.
        fps: at which it was looked at.
        flashes_s: starts of the flashes, seconds; none without video.
        clicks_s: starts of the clicks, seconds; none without audio.
        changes: mean change of every frame from the one before, levels.
        is_upright: the gradient behind the film is dark above and bright below.
    """

    info: ClipInfo
    fps: float
    flashes_s: Array
    clicks_s: Array
    changes: Array
    is_upright: bool


def find_events(path: Path) -> Events:
    """Read a file in windows, and find its flashes and clicks."""
    info = probe(path)
    fps = 25.0 if info.video is None or info.video.is_variable_rate else info.video.fps
    rate = Fraction(fps).limit_denominator(1001)
    levels, changes, samples, rows = [], [], [np.zeros(0, np.float32)], np.zeros(2)
    for window in _windows(path, info, rate):
        if window.frames is not None:
            changed = np.abs(np.diff(window.frames.astype(np.int16), axis=0)).mean((1, 2, 3))
            changes += [0.0, *changed]
            rows = np.median(window.frames[:20].mean(3), axis=(0, 2)) if not levels else rows
            levels += window.frames.mean((1, 2, 3)).tolist()
        samples += [] if window.samples is None else [window.samples]
    is_white = np.array([0, *levels]) > WHITE
    return Events(
        info=info,
        fps=fps,
        flashes_s=np.flatnonzero(is_white[1:] & ~is_white[:-1]) / fps,
        clicks_s=find_clicks(np.concatenate(samples)),
        changes=np.array(changes),
        is_upright=bool(rows[-1] - rows[0] > 20),
    )


def _windows(path: Path, info: ClipInfo, rate: Fraction) -> Iterator[Window]:
    window_s, start_s = float(round(WINDOW_S * rate) / rate), 0.0
    decoder = Decoder(path, fps=float(rate), sample_rate_hz=RATE_HZ)
    while start_s < info.duration_s - 0.02:
        yield decoder.window(
            start_s,
            min(window_s, info.duration_s - start_s),
            video=info.video is not None,
            audio=info.audio is not None,
        )
        start_s += window_s
    decoder.close()


def find_clicks(samples: Array) -> Array:
    """Return when tones of 1 kHz that last 30 ms begin, seconds."""
    length = round(CLICK_S * RATE_HZ)
    if len(samples) < length:
        return np.zeros(0)
    turned = samples * np.exp(-2j * np.pi * CLICK_HZ / RATE_HZ * np.arange(len(samples)))
    sums = np.concatenate([[0], np.cumsum(turned)])
    amplitude = 2 / length * np.abs(sums[length:] - sums[:-length])
    loud = np.flatnonzero(amplitude > max(FAINT, 0.1 * amplitude.max()))
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > EDGE_S * RATE_HZ) + 1)
    return np.array([np.average(g, weights=amplitude[g]) / RATE_HZ for g in groups if len(g)])


def compare(
    path: Path, events: Events, truth: dict[str, Any], apart_s: float, begins_s: float = 0.0
) -> Iterator[str]:
    """Yield what is wrong in what was seen and heard.

    Args:
        path: the file.
        events: found in it.
        truth: what the generator says of it.
        apart_s: how far flashes and clicks may be from where they belong, relative to each other.
        begins_s: how much later all of it may be.
    """
    until_s = there_s(path) if "kept" in truth else truth["seconds"] or np.inf
    margin_s = CUT_S if "kept" in truth else EDGE_S
    late, late_s = truth.get("late", (-1, 0.0))
    begin_s = late_s if late == 0 and path.suffix == ".ts" else 0.0  # time 0 is the first picture
    edges_s = [begin_s, late_s, until_s, truth.get("joined_at", 0.0), truth["seconds"]]
    edges_s += np.cumsum([b - a for a, b in truth.get("edits", [])]).tolist()
    errors_s: dict[str, Array] = {}
    for kind, seen_s in (("flashes", events.flashes_s), ("clicks", events.clicks_s)):
        found_s = seen_s + begin_s
        right_s = np.array([t for t in truth[kind] if begin_s <= t < until_s or "drift" in truth])
        lost = [t for t in right_s if _far(t, found_s) > APART_S and _far(t, edges_s) > margin_s]
        extra = [t for t in found_s if _far(t, right_s) > APART_S and _far(t, edges_s) > margin_s]
        if lost or extra:
            yield f"{kind}: {_times(lost)} lost, {_times(extra)} too many"
        near_s = [t for t in right_s if _far(t, edges_s) > margin_s and _far(t, found_s) <= APART_S]
        errors_s[kind] = np.array([min(found_s - t, key=abs) for t in near_s])
    apart = [abs(f - c) for f in errors_s["flashes"] for c in errors_s["clicks"]]
    if apart and max(apart) > apart_s + 1e-6:
        yield f"flashes and clicks are up to {max(apart):.3f} s from where they belong"
    starts_s = max(begins_s, 0.1 * (path.suffix[1:] in BEGINS_LATE), 0.5 / events.fps, apart_s)
    for kind, late_s in errors_s.items():
        if len(late_s) and not -apart_s - 0.5 / events.fps < np.median(late_s) <= starts_s:
            yield f"all {kind} are {np.median(late_s):+.3f} s late"
    yield from _look_at_picture(events, truth, until_s - begin_s)


def _look_at_picture(events: Events, truth: dict[str, Any], until_s: float) -> Iterator[str]:
    duration_s = events.info.duration_s
    is_known = truth["pictures"] and "drift" not in truth
    if is_known and abs(duration_s - until_s) > (CUT_S if "kept" in truth else 0.15):
        yield f"lasts {duration_s:.2f} instead of {until_s:.2f} s"
    video = events.info.video
    if video is None:
        return
    if not events.is_upright:
        yield "the picture is not upright"
    size = truth.get("size", (video.width, video.height))
    if (video.width, video.height) != tuple(size[::-1] if "turn" in truth else size):
        yield f"{video.width}x{video.height} instead of {size}"
    begin_s, end_s = truth.get("frozen", (0.0, 0.0))
    shown_s = np.arange(len(events.changes)) / events.fps
    if events.changes[(shown_s > begin_s + FRAME_S) & (shown_s < end_s - FRAME_S)].any():
        yield "the picture before a freeze does not stand"
    fps = truth["pictures"] / truth["seconds"]
    is_even = not {"frozen", "sound_s", "edits", "kept"} & set(truth)
    if is_even and abs(video.fps - fps) > 0.02 * fps:
        yield f"{video.fps:g} frames per second instead of {fps:g}"


def there_s(path: Path) -> float:
    """Return how much of a file that was cut short is there, seconds: up to its shorter stream."""
    spans_s: dict[int, tuple[float, float]] = {}
    try:
        with av.open(str(path)) as file:
            for packet in file.demux(*file.streams.video, *file.streams.audio):
                if packet.pts is not None and packet.size:
                    start_s = float(packet.pts * packet.time_base)
                    end_s = start_s + float((packet.duration or 0) * packet.time_base)
                    first_s, last_s = spans_s.get(packet.stream_index, (start_s, end_s))
                    spans_s[packet.stream_index] = min(first_s, start_s), max(last_s, end_s)
    except av.FFmpegError:
        pass
    return min((last_s - first_s for first_s, last_s in spans_s.values()), default=0.0)


def _far(time_s: float, others_s: Sequence[float] | Array) -> float:
    return float(min((abs(time_s - other_s) for other_s in others_s), default=np.inf))


def _times(times_s: Sequence[float]) -> str:
    return ", ".join(f"{t:.2f}" for t in times_s[:3]) + (" ..." if len(times_s) > 3 else "") or "0"
