"""Streams in the order they are stored, their presentation times ignored.

Public evaluation scripts read clips like this; numbers that are to equal theirs need it.  Whatever
asks *when* something is seen or heard takes `zoo.media.decode`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from zoo.errors import MediaError
from zoo.media.audio import resample, to_mono
from zoo.media.container import Source, open_source


def pictures_in_order(path: Path, fps: float) -> Generator[npt.NDArray[np.uint8]]:
    """Yield the frames of a clip, converted to a constant rate from the first one on.

    Frames are ``(H, W, 3)`` RGB as they are stored: the display matrix is not applied.

    Args:
        path: the clip's file.
        fps: frames per second, by FFmpeg's ``fps`` filter.

    Raises:
        MediaError: if the file cannot be read or has no video stream.
    """
    with open_source(path) as source:
        if source.video is None:
            raise MediaError(f"{path.name} has no video stream")
        try:
            for frame in _through_fps_filter(source, fps):
                yield frame.to_ndarray()
        except av.FFmpegError as error:
            raise MediaError(f"{path.name} is damaged: {error.strerror}") from error


def _through_fps_filter(source: Source, fps: float) -> Iterator[Any]:
    assert source.video is not None
    graph = av.filter.Graph()
    head = graph.add_buffer(template=source.video)
    filters = [
        head,
        graph.add("fps", f"fps={fps!r}"),
        graph.add("format", "pix_fmts=rgb24"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*filters).configure()
    for _, frame in source.frames(source.video):
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
