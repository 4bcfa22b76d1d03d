"""A stretch of a clip, frames and audio, on one clock."""

from __future__ import annotations

import weakref
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.contracts import Resize
from zoo.errors import MediaError
from zoo.media.apart import is_reading_apart, reads_clip
from zoo.media.audio import AudioReader
from zoo.media.container import MIN_MISSING_S, Source, UnsureError, new_source
from zoo.media.times import frame_length_s
from zoo.media.untrusted import blamed_on, require_packets
from zoo.media.video import Scaler, VideoReader

_NUMBERS = count()
_KEPT: dict[int, Decoder] = {}  # the last ones, in a process that reads for others
MOST_KEPT = 4
MAX_MISSING = 0.1  # a window may lack this part before the clip counts as damaged


@dataclass(frozen=True)
class Window:
    """A decoded stretch: ``frames`` ``(Tv, H, W, 3)`` RGB, ``samples`` float32 mono ``(N,)``.

    Frames are uint8; ``bicubic_square`` gives float32 around 0 to 255.  Frame k shows time
    ``start_s + k / fps``, sample n is at ``start_s + n / sample_rate_hz``.  ``num_errors`` counts
    the packets that failed to decode.
    """

    start_s: float
    frames: npt.NDArray[Any] | None
    samples: npt.NDArray[np.float32] | None
    fps: float
    sample_rate_hz: int
    num_errors: int


class Decoder:
    """Reads windows of one clip, every frame and sample placed by its presentation time.

    A window that begins where the one before it ended goes on there: a file with one key frame, or
    without an index, is then decoded once, however many windows are read.  The file stays open
    until the decoder is closed or forgotten.  Not for several threads at once.

    Args:
        path: the clip's file.
        fps: frames per second of the answer.
        short_side: resize the shorter side to so many pixels; by default the native size.
        sample_rate_hz: audio samples per second of the answer.
        exact: False averages areas instead of bicubic scaling, which takes half the time and
            changes the frames slightly, never their times.
        audio_track: which audio track to read, from 1; by default the first that can be decoded.
        video_track: which video track to read, from 1; by default the film.
        resize: how frames are resized, if they are.
        goes_on: whether more windows will follow; if not, both streams are read by turns.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float = 25.0,
        short_side: int | None = None,
        sample_rate_hz: int = 16_000,
        exact: bool = True,
        audio_track: int | None = None,
        video_track: int | None = None,
        resize: Resize = "ffmpeg",
        goes_on: bool = True,
    ) -> None:
        self.path, self.fps, self.sample_rate_hz = Path(path), fps, sample_rate_hz
        self._goes_on, self._number = goes_on, next(_NUMBERS)
        self._given: dict[str, Any] = {
            "fps": fps,
            "short_side": short_side,
            "sample_rate_hz": sample_rate_hz,
            "exact": exact,
            "audio_track": audio_track,
            "video_track": video_track,
            "resize": resize,
        }
        self._told: list[str] = []  # notes from where the clip is read
        self._video: VideoReader | None = None
        self._audio: AudioReader | None = None
        self._sources: list[Source] = []
        self._must_learn = False  # what the container says of its times does not hold
        self._when_forgotten = weakref.finalize(self, _close, self._sources)

    def close(self) -> None:
        """Close the file; another window opens it again."""
        self._video = self._audio = None
        _close(self._sources)

    @property
    def notes(self) -> list[str]:
        """What was assumed or left out, as far as the clip was read."""
        found = self._told + [note for source in self._sources for note in source.notes]
        found += self._audio.mix.notes if self._audio else []
        return list(dict.fromkeys(found))

    def window(
        self,
        start_s: float = 0.0,
        duration_s: float | None = None,
        *,
        video: bool = True,
        audio: bool = True,
    ) -> Window:
        """Read a window; arguments and errors are those of `decode`."""
        if not video and not audio:
            raise MediaError("nothing to decode: ask for video, audio or both")
        window = start_s, duration_s, video, audio
        if self._goes_on and is_reading_apart():
            decoded, self._told = _window_there(self.path, self._number, self._given, *window)
            return decoded
        with blamed_on(self.path):
            try:
                return self._window(*window)
            except UnsureError:
                self.close()
                self._must_learn = True
                return self._window(*window)

    def _window(self, start_s: float, duration_s: float | None, video: bool, audio: bool) -> Window:
        seen = self._video = self._video_reader() if video else self._video
        heard = self._audio = self._audio_reader() if audio else self._audio
        wanted = [(seen.source, "video")] if seen and video else []
        wanted += [(heard.source, "audio")] if heard and audio else []
        end_s = _window_end(wanted, start_s, duration_s, self.fps)
        duration_s = end_s - start_s if duration_s is None else duration_s
        for source, kind in wanted:
            stream = source.video if kind == "video" else source.audio
            require_packets(source.path, stream, self._bytes_per_s(stream) * duration_s, duration_s)
        errors = sum(source.num_errors for source in self._sources)
        frames = samples = None
        if seen and video:
            frames = _read_frames(seen, start_s, end_s, max(1, round(duration_s * self.fps)))
        if heard and audio:
            num_samples = round(duration_s * self.sample_rate_hz)
            samples = _read_samples(heard, start_s, end_s, num_samples)
        return Window(
            start_s=start_s,
            frames=frames,
            samples=samples,
            fps=self.fps,
            sample_rate_hz=self.sample_rate_hz,
            num_errors=sum(source.num_errors for source in self._sources) - errors,
        )

    def _bytes_per_s(self, stream: Any) -> float:
        """Return about how much memory a second of a stream takes while it is decoded."""
        codec, short_side = stream.codec_context, self._given["short_side"]
        if stream.type == "audio":
            return 5.0 * max(self.sample_rate_hz, codec.sample_rate)
        pixels = codec.width * codec.height if short_side is None else 2 * short_side**2
        return 3 * self.fps * pixels

    def _video_reader(self) -> VideoReader:
        if self._video is not None:
            return self._video
        exact, resize = self._given["exact"], self._given["resize"]
        scaler = Scaler(self._given["short_side"], exact=exact, resize=resize)
        return VideoReader(self._source(), self.fps, scaler)

    def _audio_reader(self) -> AudioReader:
        return self._audio or AudioReader(self._source(), self.sample_rate_hz)

    def _source(self) -> Source:
        """Open the file: once for each stream, so that each stays where its last window ended."""
        if self._goes_on or not self._sources:
            tracks = self._given["audio_track"], self._given["video_track"]
            self._sources.append(new_source(self.path, *tracks))
            if self._must_learn:
                self._sources[-1].learn_times()
        return self._sources[-1]


def _close(sources: list[Source]) -> None:
    while sources:
        sources.pop().close()


@reads_clip
def _window_there(
    path: Path, number: int, given: dict[str, Any], *window: Any
) -> tuple[Window, list[str]]:
    """Read a window and the notes where clips are read apart; the decoder waits for the next one.

    Args:
        path: the clip.
        number: of the decoder that asks.
        given: what that was made with.
        window: what `Decoder.window` is asked for.
    """
    decoder = _KEPT.pop(number, None) or Decoder(path, **given)
    _KEPT[number] = decoder
    if len(_KEPT) > MOST_KEPT:
        _KEPT.pop(next(iter(_KEPT))).close()
    start_s, duration_s, video, audio = window
    return decoder.window(start_s, duration_s, video=video, audio=audio), decoder.notes


@reads_clip
def decode(
    path: str | Path,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    fps: float = 25.0,
    short_side: int | None = None,
    sample_rate_hz: int = 16_000,
    video: bool = True,
    audio: bool = True,
    exact: bool = True,
    audio_track: int | None = None,
    video_track: int | None = None,
    resize: Resize = "ffmpeg",
) -> Window:
    """Decode a window of a clip.

    Where the window reaches beyond a stream, the first or last frame is repeated and the audio
    is silent.

    Args:
        path: the clip's file.
        start_s: start of the window, seconds on the clip's clock.
        duration_s: length of the window, seconds; by default up to where a stream ends first.
        fps: see `Decoder`, as for all others.
        short_side: of the frames.
        sample_rate_hz: of the audio.
        video: read the frames.
        audio: read the sound.
        exact: how frames are scaled.
        audio_track: from 1.
        video_track: from 1.
        resize: how frames are resized.

    Raises:
        MediaError: if the file cannot be read, lacks a stream that was asked for, is damaged in
            the window, or ends before it.
    """
    decoder = Decoder(
        path,
        fps=fps,
        short_side=short_side,
        sample_rate_hz=sample_rate_hz,
        exact=exact,
        audio_track=audio_track,
        video_track=video_track,
        resize=resize,
        goes_on=False,
    )
    with closing(decoder):
        return decoder.window(start_s, duration_s, video=video, audio=audio)


def _window_end(
    wanted: list[tuple[Source, str]], start_s: float, duration_s: float | None, fps: float
) -> float:
    starts_s, ends_s = [], []
    for source, kind in wanted:
        stream = source.video if kind == "video" else source.audio
        if stream is None:
            raise MediaError(f"{source.path.name} has no {kind} stream")
        starts_s.append(source.start_of(stream))
        ends_s.append(source.end_of(stream))
    if duration_s is None:
        end_s = min(ends_s)
    elif duration_s * fps >= 0.5:
        end_s = start_s + duration_s
    else:
        raise MediaError(f"a window of {duration_s:g} s is shorter than a frame at {fps:g} fps")
    first_s, last_s = min(starts_s), max(ends_s)
    if start_s > last_s + 1 / fps or end_s < first_s - 1 / fps or (end_s - start_s) * fps < 0.5:
        raise MediaError(
            f"{wanted[0][0].path.name} lasts from {first_s:.2f} to {last_s:.2f} s; "
            f"the window from {start_s:.2f} to {max(start_s, end_s):.2f} s lies outside"
        )
    return end_s


def _read_frames(
    reader: VideoReader, start_s: float, end_s: float, num_frames: int
) -> npt.NDArray[Any]:
    """Read the frames, unless too many are repeats of what was decoded last."""
    source = reader.source
    num_errors = source.num_errors
    window = reader.read(start_s, num_frames)
    if window is None:
        raise MediaError(f"{source.path.name} is damaged: not one frame can be decoded")
    stream = source.video
    until_s = min(end_s, source.end_of(stream))
    lost_s = (source.num_errors - num_errors) * frame_length_s(stream)
    missing_s = max(0.0, until_s - window.end_s) + lost_s
    _refuse_damage(source, "video", missing_s, until_s - max(start_s, source.start_of(stream)))
    return window.frames


def _read_samples(
    reader: AudioReader, start_s: float, end_s: float, num_samples: int
) -> npt.NDArray[np.float32]:
    """Read the samples, unless too many are silence for want of packets."""
    source = reader.source
    num_errors = source.num_errors
    sound = reader.read(start_s, num_samples)
    stream = source.audio
    until_s = min(end_s, source.end_of(stream))
    expected_s = until_s - max(start_s, source.start_of(stream))
    # Without errors, what is missing in the middle is a hole that its author left.
    has_errors = source.num_errors > num_errors
    missing_s = expected_s - sound.decoded_s if has_errors else until_s - sound.end_s
    _refuse_damage(source, "audio", missing_s, expected_s)
    return sound.samples


def _refuse_damage(source: Source, name: str, missing_s: float, expected_s: float) -> None:
    missing_s = min(missing_s, expected_s)
    if missing_s <= max(MIN_MISSING_S, MAX_MISSING * expected_s):
        return
    if source.times is None:
        raise UnsureError  # it may end earlier than it says
    raise MediaError(
        f"{source.path.name} is damaged: {missing_s:.2f} of {expected_s:.2f} s of {name} "
        f"cannot be decoded; copy or download it again"
    )
