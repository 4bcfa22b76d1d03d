"""Opening a container: its streams, its clock and its packets, with every error in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.format import Flags
from av.stream import Discard

from zoo.errors import MediaError
from zoo.media.times import Times, frame_length_s, times_of
from zoo.media.tracks import Change, choose_audio, choose_video, seconds_of
from zoo.media.untrusted import (
    check_readable,
    demuxed,
    open_container,
    require_credible_length,
    require_sane,
)
from zoo.timeline import clock_tenths

# Containers that keep no presentation times, and what that does to the clock.
NO_CLOCK = {
    "avi": "AVI records no presentation times: sound and picture may be 50 ms or more apart",
    "aac": "bare AAC records no encoder delay: the sound may be 21 to 64 ms late",
}
# Containers that record where their streams end; of others all packets are read to know.
KNOWS_ENDS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "wav", "flac", "ogg", "nut", "mxf"}
CAN_SKIP = ("h264", "hevc")  # decoders that leave out single frames from one packet to the next
MIN_LATTICE_FPS = 10  # below, half a frame is too far to move the clock
MAX_FPS = 300  # what is said to be faster is the clock's tick, not the rate
BEFORE_ALL_S = 1e6  # hidden frames of an edit list have times long before the first that is shown
TAIL_S = 1.0  # how far before the end to start looking for the last packet
MIN_MISSING_S = 0.25  # below this, a claimed duration is merely inexact
FAR_S = 60.0  # streams whose ends lie so much and ten times apart are read to find out why
STEPS = 120  # video packets read to tell a variable frame rate from a constant one
MAX_REORDER = 20  # more than the 16 frames by which H.264 and H.265 may reorder


class UnsureError(Exception):
    """What a container says of its times does not hold: all packets are to be read."""


@dataclass
class Source:
    """An open clip and the clock its streams are read on.

    Attributes:
        path: the file.
        container: as it is open now; another one after `rewind` where it cannot seek.
        indices: of the video and the audio stream, or None.
        notes: what was assumed or left out.
        times: what all packets say, where they were read.
        origin_s: what the container's clock shows at time 0 of the clip.
        num_errors: packets that failed.
        skip_until_s: frames before may be left out where no other frame refers to them.
    """

    path: Path
    container: Any
    indices: tuple[int | None, int | None]
    notes: list[str]
    times: Times | None = None
    origin_s: float = 0.0
    num_errors: int = 0
    skip_until_s: float = -math.inf
    _step_s: float = field(default=0.0, repr=False)
    _retired: Any = None

    @property
    def video(self) -> Any:
        """The film, or None."""
        return None if self.indices[0] is None else self.container.streams[self.indices[0]]

    @property
    def audio(self) -> Any:
        """The sound, or None."""
        return None if self.indices[1] is None else self.container.streams[self.indices[1]]

    @property
    def streams(self) -> list[Any]:
        """Those of the two that are there."""
        return [stream for stream in (self.video, self.audio) if stream is not None]

    @property
    def low_confidence(self) -> str | None:
        """Why the clock cannot be trusted; None where it can."""
        return NO_CLOCK.get(self.container.format.name)

    @property
    def can_seek(self) -> bool:
        """Whether any place can be reached but by reading all before it."""
        has_times = not self.container.format.flags & Flags.no_timestamps.value
        return has_times and not (self.times and self.times.moves)

    def start_of(self, stream: Any) -> float:
        """Return the presentation time of the first frame of a stream, seconds."""
        if self.times and self.times.moves and stream.index in self.times.spans_s:
            return self.times.spans_s[stream.index][0] - self.origin_s
        return raw_start_s(stream) - self.origin_s

    def end_of(self, stream: Any) -> float:
        """Return the end of a stream, seconds: as its container claims, unless packets deny it.

        Raises:
            MediaError: if the file is far too small for it.
        """
        end_s = self._known_end(stream)
        require_credible_length(self.path, stream, end_s - self.start_of(stream))
        return end_s

    def _known_end(self, stream: Any) -> float:
        claimed_s = self._claimed_end(stream)
        if self.times is None:
            return self.start_of(stream) if claimed_s is None else claimed_s
        found_s = self.times.spans_s.get(stream.index, (0.0, 0.0))[1] - self.origin_s
        is_right = claimed_s is not None and abs(claimed_s - found_s) < MIN_MISSING_S
        return claimed_s if is_right and claimed_s is not None else found_s

    def _claimed_end(self, stream: Any) -> float | None:
        """Return what the container says; Matroska writes it as a tag."""
        if stream.duration:
            return raw_start_s(stream) - self.origin_s + float(stream.duration * stream.time_base)
        end_s = seconds_of(stream.metadata.get("DURATION", ""))
        return None if end_s is None else end_s - self.origin_s

    def learn_times(self) -> None:
        """Read all packets, unless that was done: where streams end, and whether times jump."""
        if self.times is not None:
            return
        claims_s = {stream.index: self._claimed_end(stream) for stream in self.streams}
        identity = self.path.stat()
        self.times = times_of(
            self.path, (identity.st_size, identity.st_mtime_ns, identity.st_ino), self.indices
        )
        self.notes.extend(self.times.notes)
        self._set_origin()
        if self.times.moves or self.container.format.name not in KNOWS_ENDS:
            return
        missing = [
            (self.end_of(stream), claims_s[stream.index] or 0.0, stream.type)
            for stream in self.streams
            if (claims_s[stream.index] or 0.0) - self.end_of(stream) > MIN_MISSING_S
        ]
        if missing:
            what = missing[0][2] if len(missing) < len(self.streams) else "file"
            end_s, claim_s = (
                clock_tenths(max(both)) for both in list(zip(*missing, strict=True))[:2]
            )
            self.notes.append(
                f"the {what} ends after {end_s} of the {claim_s} that it is said to have; the rest "
                "is not there"
            )

    def check_ends(self) -> None:
        """Read all packets if what is claimed of the streams' ends cannot be right."""
        ends_s = [self._claimed_end(stream) for stream in self.streams]
        known_s = [end_s for end_s in ends_s if end_s is not None]
        if len(known_s) < len(ends_s) or max(known_s) > FAR_S + 10 * min(known_s):
            self.learn_times()
        for stream, end_s in zip(self.streams, known_s, strict=False):
            if self.times is None and not self._reaches(stream, end_s):
                self.learn_times()

    def _reaches(self, stream: Any, end_s: float) -> bool:
        """Say whether there are packets up to shortly before a time."""
        if not self.seek(stream, end_s - TAIL_S, any_frame=True):
            return False
        for packet in self.packets(stream):
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * stream.time_base
                if float(end) - self.origin_s > end_s - MIN_MISSING_S:
                    return True
        return False

    def seek(self, stream: Any, time_s: float, *, any_frame: bool = False) -> bool:
        """Move to a random access point at or before a time; say whether that was possible."""
        if not self.can_seek:
            return False
        self._select(stream)  # MPEG-TS seeks by the packets it is allowed to see
        ticks = math.floor((time_s + self.origin_s) / stream.time_base)
        try:
            self.container.seek(ticks, stream=stream, backward=True, any_frame=any_frame)
        except (av.FFmpegError, OverflowError):
            return False
        return True

    def _select(self, stream: Any) -> None:
        for other in self.container.streams:
            other.discard = Discard.default if other is stream else Discard.all

    def rewind(self, stream: Any) -> Any:
        """Move to the first packet of a stream, and return it as it then is.

        What cannot seek is opened again.
        """
        if self.seek(stream, self.start_of(stream) - BEFORE_ALL_S):
            return stream
        if self._retired is not None:
            self._retired.close()
        # Whoever reads from the old one must let go of it first.
        self._retired, self.container = self.container, open_container(self.path)
        return self.container.streams[stream.index]

    def packets(self, stream: Any) -> Iterator[Any]:
        """Yield the packets of a stream; a read error is counted and ends them."""
        self._select(stream)
        moves = list(self.times.moves.get(stream.index, ())) if self.times else []
        demuxer = demuxed(self.container, stream)
        number, by = -1, 0
        while True:
            try:
                packet = next(demuxer)
            except StopIteration:
                return
            except av.FFmpegError:
                self.num_errors += 1
                return
            number += bool(packet.size)
            while moves and number >= moves[0][0]:
                by = round(moves.pop(0)[1] / stream.time_base)
            if by:
                packet.pts = None if packet.pts is None else packet.pts + by
                packet.dts = None if packet.dts is None else packet.dts + by
            yield packet

    def frames(self, stream: Any) -> Iterator[tuple[float, Any]]:
        """Yield ``(presentation time in seconds, frame)``; packets that fail are counted.

        Frames before ``skip_until_s`` may be left out where no other frame refers to them.
        AVI numbers frames in the order of decoding; where that differs, they are counted instead.
        """
        is_counted = self.low_confidence is not None and has_b_frames(stream)
        is_counted |= self.times is not None and not self.times.is_timed
        next_s: float | None = None
        video_frame_s = None if stream.type == "audio" else frame_length_s(stream)
        change = Change()
        for frame in self._decoded(stream, can_skip=not is_counted):
            if frame.pts is not None and (next_s is None or not is_counted):
                time_s = frame.time - self.origin_s
            else:
                time_s = self.start_of(stream) if next_s is None else next_s
            next_s = time_s + (video_frame_s or frame.samples / frame.sample_rate)
            if (note := change.see(frame, time_s)) and note not in self.notes:
                self.notes.append(note)
            yield time_s, frame

    def _decoded(self, stream: Any, *, can_skip: bool) -> Iterator[Any]:
        codec = stream.codec_context
        can_skip &= codec.name in CAN_SKIP
        tick_s = float(stream.time_base)
        wait = 0  # packets of video until one that seems incomplete counts
        for packet in self.packets(stream):
            # Where recordings are joined, the last packets before the key frame seem to be.
            self.num_errors += wait == 1 and not packet.is_keyframe
            wait = 0 if packet.is_keyframe else max(0, wait - 1)
            if can_skip:
                skip_until_s = self.skip_until_s + self.origin_s
                is_early = packet.pts is not None and packet.pts * tick_s < skip_until_s
                codec.skip_frame = "NONREF" if is_early else "DEFAULT"
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.num_errors += 1
                continue
            for frame in frames:
                require_sane(self.path, frame)
            if packet.is_corrupt and stream.type == "video":
                self.num_errors += wait > 0
                wait = 2
            elif packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                self.num_errors += 1
            yield from frames
        self.num_errors += wait > 0
        try:  # after a read error the decoder still holds frames; after a clean end it has none
            frames = stream.codec_context.decode(None)
        except av.FFmpegError:
            return
        for frame in frames:
            frame.time_base = stream.time_base  # which only packets bring along
            yield frame

    @property
    def frame_s(self) -> float:
        """How long a frame of the film lasts as a rule, seconds; moves the position."""
        if not self._step_s:
            stream = self.video
            rates = [float(rate or 0) for rate in (stream.average_rate, stream.guessed_rate)]
            is_said = 0 < rates[0] <= MAX_FPS and abs(rates[0] - rates[1]) < 0.01 * rates[0]
            is_said &= abs(float(stream.base_rate or 0) - rates[0]) < 0.01 * rates[0]
            steps_s = [] if is_said else self.first_steps_s()
            self._step_s = float(np.median(steps_s)) if len(steps_s) else frame_length_s(stream)
        return self._step_s

    def first_steps_s(self) -> Any:
        """Return the time from each of the first frames of the film to the next, seconds."""
        stream = self.rewind(self.video)
        shown = (packet for packet in self.packets(stream) if not packet.is_discard)
        packets = list(islice(shown, STEPS))
        pts = sorted(packet.pts for packet in packets if packet.pts is not None)
        if len(packets) == STEPS:
            pts = pts[:-MAX_REORDER]  # frames between the last ones may come in packets not read
        return np.diff(pts) * float(stream.time_base)

    def _set_origin(self) -> None:
        self.origin_s = 0.0  # of the clock that `start_of` answers on
        self.origin_s = self._find_origin()

    def _find_origin(self) -> float:
        """Return what the container's clock shows at time 0 of the clip, seconds.

        Broadcast streams count from an arbitrary moment, so there it is the first frame. Elsewhere
        it is 0, moved by less than half a frame to where frames of a constant rate fall on
        multiples of their length: remuxed files often start 21 ms late, and a lattice that is out
        of phase would show every frame that much too late.  A bare MP3 holds no times: FFmpeg
        counts from the start of the encoder's delay, which the decoder cuts off, so there it is
        the first sample.  Where the first time of a file is wild, FFmpeg takes others to have
        wrapped.
        """
        video, format = self.video, self.container.format
        first_s = self.start_of(self.streams[0])
        is_odd = self.times is not None and bool(self.times.moves) and first_s > FAR_S
        if format.flags & Flags.ts_discont.value or format.name == "mp3" or is_odd:
            return first_s
        rate = video.average_rate if video is not None else None
        if not rate or rate < MIN_LATTICE_FPS:
            return 0.0
        start_s = self.start_of(video)
        return start_s - round(start_s * rate) / float(rate)

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        if self._retired is not None:
            self._retired.close()


def has_b_frames(stream: Any) -> bool:
    """Say whether frames are stored in another order than they are shown."""
    return stream.type == "video" and bool(stream.codec_context.has_b_frames)


def raw_start_s(stream: Any) -> float:
    """Return the first presentation time of a stream on the container's own clock, seconds."""
    if stream.start_time is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


@contextmanager
def open_source(
    path: str | Path, audio_track: int | None = None, video_track: int | None = None
) -> Iterator[Source]:
    """Open a clip for reading; tracks count from 1, and are chosen where none is given.

    Raises:
        MediaError: if there is no such file, it is not media, or it has no such track.
    """
    source = new_source(path, audio_track, video_track)
    try:
        yield source
    finally:
        source.close()


def new_source(
    path: str | Path, audio_track: int | None = None, video_track: int | None = None
) -> Source:
    """Open a clip as `open_source` does; the caller closes it."""
    path = Path(path)
    check_readable(path)
    container = open_container(path)
    try:
        streams = container.streams
        video, notes = choose_video(path, streams.video, video_track)
        audio, others = choose_audio(path, streams.audio, audio_track)
        if video is None and audio is None:
            raise MediaError(f"{path} holds neither video nor audio; give a media file")
        indices = (video and video.index, audio and audio.index)
        source = Source(path, container, indices, [*notes, *others])
        source._set_origin()
        knows_ends = container.format.name in KNOWS_ENDS
        if not knows_ends or None in map(source._claimed_end, source.streams):
            source.learn_times()
    except BaseException:
        container.close()
        raise
    return source
