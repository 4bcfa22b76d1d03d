"""Writing a clip from arrays."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec.codec import UnknownCodecError

from zoo.errors import MediaError
from zoo.files import part_beside

Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

# Encoders that would write their own log to the terminal.
QUIET = {"libx265": {"x265-params": "log-level=none"}}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a file; on success it takes the file's place, else it goes.

    Raises:
        MediaError: if there is no such folder, or it cannot be written to.
    """
    if not path.parent.is_dir():
        raise MediaError(f"there is no folder {path.parent} to write {path.name} to")
    try:
        with part_beside(path) as part:
            yield part
            part.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def own_priority() -> Iterator[None]:
    """Give this thread back the scheduling it had.

    As root, SVT-AV1 makes whoever encodes a real-time process, which starves all others.
    """
    if not hasattr(os, "sched_getscheduler"):  # Linux alone has it
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def cannot_write(path: Path, error: OSError) -> MediaError:
    """Say why a file cannot be written."""
    return MediaError(f"{path.name} cannot be written to {path.parent}: {error.strerror or error}")


def encode(
    path: str | Path,
    frames: npt.NDArray[np.uint8] | Iterable[Image] | None,
    samples: npt.NDArray[np.float32] | Iterable[Samples] | None,
    *,
    fps: float | Fraction = 25,
    sample_rate_hz: int = 16_000,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    crf: int | None = None,
    gop: int | None = None,
    audio_delay_s: float = 0.0,
    video_options: Mapping[str, str] | None = None,
    audio_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> None:
    """Write a clip; it appears under its name only when it is complete.

    Args:
        path: file to write; its suffix chooses the container.
        frames: ``(T, H, W, 3)`` RGB, or an iterator of ``(H, W, 3)``; None for none.
        samples: audio in -1..1, ``(N,)`` or ``(N, C)``, or an iterator of such pieces; None for
            none.
        fps: frames per second.
        sample_rate_hz: rate of ``samples``.
        video_codec: FFmpeg encoder, such as ``libx264``.
        audio_codec: FFmpeg encoder, such as ``aac``.
        crf: quality of the encoder, lower is better; by default its own.
        gop: frames from one key frame to the next; by default the encoder's own.
        audio_delay_s: presents the audio so much later (negative: earlier, its start is cut).
        video_options: further options of the video encoder.
        audio_options: further options of the audio encoder.
        container_options: options of the container, such as ``movflags``.

    Raises:
        MediaError: if the container cannot hold the codecs, or the arrays do not fit them.
    """
    path = Path(path)
    rate = as_rate(fps)
    of_container = dict(container_options or {})
    with replacing(path) as temporary, own_priority():
        try:
            with av.open(f"file:{temporary}", "w", container_options=of_container) as out:
                video, track = None, None
                images: Iterator[Image] = iter(())
                if frames is not None:
                    options = QUIET.get(video_codec, {}) | _quality(crf, gop)
                    options |= dict(video_options or {})
                    video, images = _add_video(out, iter(frames), rate, video_codec, options)
                if samples is not None:
                    options = dict(audio_options or {})
                    track = _add_audio(
                        out, samples, sample_rate_hz, audio_codec, options, audio_delay_s
                    )
                for packet in _packets(video, images, rate, track):
                    out.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(
                f"cannot write {path.name} with {video_codec} and {audio_codec}: {reason(error)}"
            ) from error


def reason(error: Exception) -> str:
    """Say in a few words what FFmpeg did not like."""
    if isinstance(error, UnknownCodecError):
        return f"there is no encoder {error}"
    if isinstance(error, av.FFmpegError) and error.strerror:
        log = f" ({error.log[2].strip()})" if error.log else ""
        return f"{error.strerror}{log}"
    return str(error)


def _pieces(samples: npt.NDArray[np.float32] | Iterable[Samples], cut: int) -> Iterator[Samples]:
    """Yield the samples as ``(C, n)``, without the first ``cut``."""
    for given in [samples] if isinstance(samples, np.ndarray) else samples:
        piece = np.asarray(given, np.float32)
        channels = piece[None] if piece.ndim == 1 else piece.T
        yield np.ascontiguousarray(channels[:, cut:])
        cut = max(0, cut - channels.shape[1])


def _quality(crf: int | None, gop: int | None) -> dict[str, str]:
    given = {"crf": crf, "g": gop}
    return {name: str(value) for name, value in given.items() if value is not None}


def _add_video(
    out: Any, frames: Iterator[Image], rate: Fraction, codec: str, options: dict[str, str]
) -> tuple[Any, Iterator[Image]]:
    """Add a video stream of the first frame's size; give that frame back with the others."""
    first = next(frames, None)
    if first is None:
        raise ValueError("there is no frame")
    if first.ndim != 3 or first.shape[2] != 3 or first.dtype != np.uint8:
        raise ValueError(f"frames must be (H, W, 3) uint8, not {first.shape} {first.dtype}")
    height, width = first.shape[:2]
    if width % 2 or height % 2:
        raise ValueError(f"width and height must be even, not {width}x{height}")
    stream = out.add_stream(codec, rate=rate, options=options)
    stream.width, stream.height = width, height
    if "pix_fmt" not in options:
        stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream, chain([first], frames)


def _add_audio(
    out: Any,
    samples: npt.NDArray[np.float32] | Iterable[Samples],
    rate_hz: int,
    codec: str,
    options: dict[str, str],
    delay_s: float,
) -> Track:
    """Add an audio stream with the first piece's channels."""
    delay = round(delay_s * rate_hz)
    pieces = _pieces(samples, max(0, -delay))
    first = next(pieces, None)
    if first is None:
        raise ValueError("there is no sample")
    layout = {1: "mono", 2: "stereo"}.get(len(first))
    if layout is None:
        raise ValueError(f"audio must have one or two channels, not {len(first)}")
    stream = out.add_stream(codec, rate=rate_hz, layout=layout, options=options)
    return Track(stream, chain([first], pieces), rate_hz, max(0, delay))


def as_rate(fps: float | Fraction) -> Fraction:
    """Return a frame rate as the fraction a container stores: 29.97 means 30000/1001."""
    rate = Fraction(fps).limit_denominator(1001)
    ntsc = Fraction(round(fps) * 1000, 1001)
    return ntsc if rate.denominator > 1 and abs(float(ntsc) - float(fps)) < 0.005 else rate


class Track:
    """An audio stream being written: which samples are out, and where they go in time."""

    def __init__(self, stream: Any, pieces: Iterator[Samples], rate_hz: int, delay: int):
        self.stream = stream
        self.rate_hz = rate_hz
        self.delay = delay
        self.written = 0
        self._pieces = pieces  # (C, n)
        self._rest = next(pieces)

    def encode_until(self, end: int) -> Iterator[Any]:
        """Yield the packets of the samples up to ``end``, at most a second per frame."""
        while self.written < end:
            part = self._take(min(end - self.written, self.rate_hz))
            if part is None:
                return
            frame = av.AudioFrame.from_ndarray(
                part, format="fltp", layout="mono" if len(part) == 1 else "stereo"
            )
            frame.sample_rate = self.rate_hz
            frame.pts, frame.time_base = self.written + self.delay, Fraction(1, self.rate_hz)
            yield from self.stream.encode(frame)
            self.written += part.shape[1]

    def encode_rest(self) -> Iterator[Any]:
        """Yield the packets of all samples that are left."""
        yield from self.encode_until(sys.maxsize)
        yield from self.stream.encode(None)

    def _take(self, most: int) -> Samples | None:
        while not self._rest.shape[1]:
            following = next(self._pieces, None)
            if following is None:
                return None
            self._rest = following
        part, self._rest = self._rest[:, :most], self._rest[:, most:]
        return np.ascontiguousarray(part)


def _packets(
    video: Any | None, images: Iterable[Image], rate: Fraction, track: Track | None
) -> Iterator[Any]:
    """Encode both streams side by side, so that the muxer never waits long for either."""
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = index, 1 / rate
        assert video is not None
        yield from video.encode(frame)
        if track is not None:
            yield from track.encode_until(int((index + 1) / rate * track.rate_hz) - track.delay)
    if track is not None:
        yield from track.encode_rest()
    if video is not None:
        yield from video.encode(None)
