"""Opening a container: its streams, its clock and its packets, with every error in one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from av.format import Flags
from av.stream import Discard, Disposition

from zoo.errors import MediaError
from zoo.media.untrusted import (
    demuxed,
    open_container,
    require_credible_length,
    require_sane,
)

# Containers that keep no presentation times, and what that does to the clock.
NO_CLOCK = {
    "avi": "AVI records no presentation times: sound and picture may be 50 ms or more apart",
    "aac": "bare AAC records no encoder delay: the sound may be 21 to 64 ms late",
}
PICTURES = ("mjpeg", "png", "bmp", "gif", "webp", "tiff")  # codecs of thumbnails
CAN_SKIP = ("h264", "hevc")  # decoders that leave out single frames from one packet to the next
MIN_LATTICE_FPS = 10  # below, half a frame is too far to move the clock
TAIL_S = 1.0  # how far before the end to start looking for the last packet


@dataclass
class Source:
    """An open clip and the clock its streams are read on."""

    path: Path
    container: Any
    video: Any | None
    audio: Any | None
    origin_s: float = 0.0
    num_errors: int = 0
    _ends_s: dict[int, float] = field(default_factory=dict)

    @property
    def low_confidence(self) -> str | None:
        """Why the clock cannot be trusted; None where it can."""
        return NO_CLOCK.get(self.container.format.name)

    def start_of(self, stream: Any) -> float:
        """Return the presentation time of the first frame of a stream, seconds."""
        return raw_start_s(stream) - self.origin_s

    def end_of(self, stream: Any) -> float:
        """Return the end of a stream as its container claims it, seconds.

        Matroska writes it as a tag. Where nothing is written, the last packets are read.

        Raises:
            MediaError: if the file is far too small for it.
        """
        if stream.index not in self._ends_s:
            end_s = self._find_end(stream)
            require_credible_length(self.path, stream, end_s - self.start_of(stream))
            self._ends_s[stream.index] = end_s
        return self._ends_s[stream.index]

    def _find_end(self, stream: Any) -> float:
        if stream.duration:
            return self.start_of(stream) + float(stream.duration * stream.time_base)
        tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
        if tag:
            hours, minutes, seconds = (float(part) for part in tag.groups())
            return hours * 3600 + minutes * 60 + seconds - self.origin_s
        return self._last_packet_end(stream)

    def _last_packet_end(self, stream: Any) -> float:
        total_s = (self.container.duration or 0) / av.time_base
        end_s = self.start_of(stream)
        self.seek(stream, end_s + total_s - TAIL_S)
        for packet in self.packets(stream):
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * stream.time_base
                end_s = max(end_s, float(end) - self.origin_s)
        return end_s

    def seek(self, stream: Any, time_s: float) -> bool:
        """Move to a random access point at or before a time; say whether that was possible."""
        self._select(stream)  # MPEG-TS seeks by the packets it is allowed to see
        ticks = math.floor((time_s + self.origin_s) / stream.time_base)
        try:
            self.container.seek(ticks, stream=stream, backward=True)
        except (av.FFmpegError, OverflowError):
            return False
        return True

    def _select(self, stream: Any) -> None:
        for other in self.container.streams:
            other.discard = Discard.default if other is stream else Discard.all

    def rewind(self, stream: Any) -> None:
        """Move to the first packet of a stream.

        Raises:
            MediaError: if the container cannot be read a second time.
        """
        if self.seek(stream, self.start_of(stream) - 1.0):
            return
        try:
            self.container.seek(0)
        except av.FFmpegError as error:
            raise MediaError(f"{self.path} cannot be read twice; remux it to mkv first") from error

    def packets(self, stream: Any) -> Iterator[Any]:
        """Yield the packets of a stream; a read error is counted and ends them."""
        self._select(stream)
        demuxer = demuxed(self.container, stream)
        while True:
            try:
                packet = next(demuxer)
            except StopIteration:
                return
            except av.FFmpegError:
                self.num_errors += 1
                return
            yield packet

    def frames(self, stream: Any, skip_until_s: float = -math.inf) -> Iterator[tuple[float, Any]]:
        """Yield ``(presentation time in seconds, frame)``; packets that fail are counted.

        Frames before ``skip_until_s`` may be left out where no other frame refers to them.
        AVI numbers frames in the order of decoding; where that differs, they are counted instead.
        """
        is_counted = self.low_confidence is not None and has_b_frames(stream)
        next_s: float | None = None
        video_frame_s = _frame_length_s(stream)
        if is_counted:
            skip_until_s = -math.inf
        for frame in self._decoded(stream, skip_until_s):
            if frame.pts is not None and (next_s is None or not is_counted):
                time_s = frame.time - self.origin_s
            else:
                time_s = self.start_of(stream) if next_s is None else next_s
            next_s = time_s + (video_frame_s or frame.samples / frame.sample_rate)
            yield time_s, frame

    def _decoded(self, stream: Any, skip_until_s: float) -> Iterator[Any]:
        codec = stream.codec_context
        can_skip = codec.name in CAN_SKIP
        skip_until_s += self.origin_s
        tick_s = float(stream.time_base)
        for packet in self.packets(stream):
            if can_skip:
                is_early = packet.pts is not None and packet.pts * tick_s < skip_until_s
                codec.skip_frame = "NONREF" if is_early else "DEFAULT"
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.num_errors += 1
                continue
            for frame in frames:
                require_sane(self.path, frame)
            if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                self.num_errors += 1
            yield from frames
        try:  # after a read error the decoder still holds frames; after a clean end it has none
            frames = stream.codec_context.decode(None)
        except av.FFmpegError:
            return
        for frame in frames:
            frame.time_base = stream.time_base  # which only packets bring along
            yield frame


def has_b_frames(stream: Any) -> bool:
    """Say whether frames are stored in another order than they are shown."""
    return stream.type == "video" and bool(stream.codec_context.has_b_frames)


def _frame_length_s(stream: Any) -> float | None:
    """Return how long a frame of video lasts, seconds; None for audio, where it varies."""
    if stream.type == "audio":
        return None
    rate = stream.average_rate or stream.guessed_rate or 25
    return float(1 / rate)


def raw_start_s(stream: Any) -> float:
    """Return the first presentation time of a stream on the container's own clock, seconds."""
    if stream.start_time is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


@contextmanager
def open_source(path: str | Path, audio_track: int | None = None) -> Iterator[Source]:
    """Open a clip for reading.

    Args:
        path: the clip's file.
        audio_track: which audio track to read, from 1; by default the first that can be decoded.

    Raises:
        MediaError: if there is no such file, it is not media, or it has no such track.
    """
    path = Path(path)
    _check_readable(path)
    with open_container(path) as container:
        video = _film(container.streams.video)
        audio = _first(container.streams.audio)
        if video is None and audio is None:
            raise MediaError(f"{path} holds neither video nor audio; give a media file")
        if audio_track is not None:
            audio = _audio_track(path, container.streams.audio, audio_track)
        source = Source(path, container, video, audio)
        source.origin_s = _origin_s(container, video, audio)
        yield source


def _origin_s(container: Any, video: Any | None, audio: Any | None) -> float:
    """Return what the container's clock shows at time 0 of the clip, seconds.

    Broadcast streams count from an arbitrary moment, so there it is the first frame. Elsewhere it
    is 0, moved by less than half a frame to where frames of a constant rate fall on multiples
    of their length: remuxed files often start 21 ms late, and a lattice that is out of phase would
    show every frame that much too late.  A bare MP3 holds no times: FFmpeg counts from the start
    of the encoder's delay, which the decoder cuts off, so there it is the first sample.
    """
    if container.format.flags & Flags.ts_discont.value:
        return raw_start_s(video or audio)
    if container.format.name == "mp3":
        return raw_start_s(audio)
    rate = video.average_rate if video is not None else None
    if not rate or rate < MIN_LATTICE_FPS:
        return 0.0
    start_s = raw_start_s(video)
    return start_s - round(start_s * rate) / float(rate)


def _decodable(streams: Any) -> list[Any]:
    """Return the streams that can be decoded and are no cover images."""
    return [
        stream
        for stream in streams
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic
    ]


def _first(streams: Any) -> Any | None:
    return next(iter(_decodable(streams)), None)


def _film(streams: Any) -> Any | None:
    """Pick the film: not a picture beside it, and the one that is marked as the default.

    Phones and cameras put a thumbnail before the film, as a stream of one picture.
    """
    found = _decodable(streams)
    films = [stream for stream in found if stream.codec_context.name not in PICTURES] or found
    marked = [stream for stream in films if stream.disposition & Disposition.default]
    return next(iter(marked or films), None)


def _audio_track(path: Path, streams: Any, number: int) -> Any:
    if not 1 <= number <= len(streams):
        have = {0: "no audio track", 1: "one audio track"}.get(
            len(streams), f"{len(streams)} audio tracks"
        )
        raise MediaError(f"{path} has {have}, so there is no track {number}")
    if streams[number - 1].codec_context is None:
        raise MediaError(f"audio track {number} of {path} cannot be decoded")
    return streams[number - 1]


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder; give a media file")
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except FileNotFoundError:
        raise MediaError(f"there is no file {path}") from None
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}") from error
    if is_empty:
        raise MediaError(f"{path} is empty; copy or download it again")
