"""Streams in the order they are stored, their presentation times ignored.

Public evaluation scripts read clips like this; numbers that are to equal theirs need it.  Whatever
asks *when* something is seen or heard takes `zoo.media.decode`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from zoo.errors import MediaError
from zoo.media.apart import reads_clip, reads_frames
from zoo.media.audio import resample, to_mono
from zoo.media.container import Source, open_source
from zoo.timeline import clock_tenths

LONGEST_STILL_S = 600.0  # until the next frame


@reads_frames
def pictures_in_order(
    path: Path, fps: float, most: int | None = None
) -> Generator[npt.NDArray[np.uint8]]:
    """Yield the frames of a clip, converted to a constant rate from the first one on.

    Frames are ``(H, W, 3)`` RGB as they are stored: the display matrix is not applied.

    Args:
        path: the clip's file.
        fps: frames per second, by FFmpeg's ``fps`` filter.
        most: so many frames at the most; by default all.

    Raises:
        MediaError: if the file cannot be read or has no video stream.
    """
    with open_source(path) as source:
        if source.video is None:
            raise MediaError(f"{path.name} has no video stream")
        for frame in islice(_through_fps_filter(source, fps), most):
            yield frame.to_ndarray()


def _through_fps_filter(source: Source, fps: float) -> Iterator[Any]:
    assert source.video is not None
    if source.video.codec_context.format is None:
        raise MediaError(f"{source.path.name} is damaged: not one frame can be decoded")
    graph = av.filter.Graph()
    head = graph.add_buffer(template=source.video)
    filters = [
        head,
        graph.add("fps", f"fps={fps!r}"),
        graph.add("format", "pix_fmts=rgb24"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*filters).configure()
    last_s: float | None = None
    for time_s, frame in source.frames(source.video):
        if last_s is not None and time_s - last_s > LONGEST_STILL_S:  # which the filter would fill
            raise MediaError(
                f"the times of the video of {source.path.name} jump from {clock_tenths(last_s)} "
                f"to {clock_tenths(time_s)}; it was joined of several recordings, or is damaged"
            )
        last_s = time_s
        if float((frame.duration or 0) * frame.time_base) > LONGEST_STILL_S:  # filled at the end
            frame.duration = 0
        graph.push(frame)
        yield from _ready(graph)
    graph.push(None)
    yield from _ready(graph)


def _ready(graph: Any) -> Iterator[Any]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame


@reads_clip
def samples_in_order(path: Path, seconds: float) -> tuple[npt.NDArray[np.float32], int]:
    """Return the first samples of a clip as mono at the rate of the first, and that rate in Hz.

    Args:
        path: the clip's file.
        seconds: stop reading when so much is there; the answer may be a little longer.

    Raises:
        MediaError: if the file cannot be read or has no audio stream.
    """
    with open_source(path) as source:
        if source.audio is None:
            raise MediaError(f"{path.name} has no audio stream")
        runs: list[tuple[int, list[npt.NDArray[np.float32]]]] = []
        read_s = 0.0
        for _, frame in source.frames(source.audio):
            if not runs or frame.sample_rate != runs[-1][0]:
                runs.append((frame.sample_rate, []))
            runs[-1][1].append(to_mono([frame]))
            read_s += frame.samples / frame.sample_rate
            if read_s >= seconds:
                break
    if not runs:
        raise MediaError(f"{path.name} is damaged: not one sample can be decoded")
    rate_hz = runs[0][0]
    return np.concatenate([resample(np.concatenate(r), hz, rate_hz) for hz, r in runs]), rate_hz
