"""Shifting the audio of a clip without re-encoding anything, and nothing else about it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.format import Flags

from zoo.errors import MediaError, option
from zoo.media.apart import reads_clip
from zoo.media.container import NO_CLOCK, Source, has_b_frames, open_source, raw_start_s
from zoo.media.copies import Contents, Copied, lost_tags, read_contents, what_differs
from zoo.media.encode import reason, replacing
from zoo.media.streams import (
    ATTACHES,
    EDIT_LIST_SUFFIXES,
    add_copy,
    attach_cover,
    is_kept_otherwise,
    number_of,
    options_for,
    shifted,
    takes,
    with_dts,
)
from zoo.media.untrusted import demuxed
from zoo.timeline import clock_tenths

logger = logging.getLogger(__name__)

MAY_CHANGE = {"mpegts", "mpeg", "flv"}  # formats whose streams may change size or rate half-way
LATE_S = 1.0  # a clock that begins so late counts from another moment than the clip's beginning
JUMP_S = 10.0  # between two packets of a stream in such a format
PRIMING_S = 0.1  # sound that is hidden for so long is what an encoder begins with, more was cut off


@reads_clip
def shift_audio(path: str | Path, out: str | Path, delay_s: float) -> None:
    """Write a copy of a clip whose audio is presented later; no stream is re-encoded.

    Everything else stays: packets, times, streams, languages, titles, chapters and tags.  The copy
    is compared with the clip before it gets its name.  Left out, with a warning, are data tracks of
    cameras and tracks that FFmpeg cannot decode.  A clock that counts from another moment, such as
    that of a broadcast, begins at 0 in the copy.

    Args:
        path: the clip's file, which stays as it is.
        out: file to write; its suffix chooses the container.
        delay_s: how much later the audio is presented, seconds; negative is earlier.  A container
            that can hide the beginning of a stream does so; in others the rest is presented later.

    Raises:
        MediaError: if the clip cannot be read, has no audio, or cannot be written to the new
            container without losing, adding or revealing something.
    """
    path, out = Path(path), Path(out)
    require_writable(path, out, overwrite=True)
    with open_source(path) as source:  # which is then somewhere in its middle
        if source.audio is None:
            raise MediaError(f"{path.name} has no audio stream")
        _check_delay(source, delay_s)
        _check_constant(source, out)
    with open_source(path) as source, replacing(out) as temporary:
        options = options_for(source.container, out.suffix.lower())
        with _refused_as(path, out):
            with av.open(f"file:{temporary}", "w", container_options=options) as target:
                written = _Copy(source, target, out, delay_s).write()
            found = read_contents(temporary)
        difference = what_differs(temporary, written, found)
        if difference:
            raise MediaError(
                f"{path.name} cannot be copied to {out.name} as it is: {difference}",
                _own_kind(path, out),
            )
    lost = lost_tags(written, found)
    if lost:
        logger.warning("%s: %s does not keep the tags %s", path.name, out.suffix, ", ".join(lost))


def _own_kind(path: Path, out: Path) -> str:
    """Say what helps where another container does not fit."""
    own = path.suffix.lower()
    is_no_help = own in {out.suffix.lower(), ".avi"}
    return "" if is_no_help else f"write it as {own}, the clip's own kind"


@contextmanager
def _refused_as(path: Path, out: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"cannot write {path.name} as {out.name}: {reason(error)}") from error


def require_writable(path: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse at once what could not be written in the end.

    Args:
        path: the clip.
        out: the copy.
        overwrite: whether ``out`` may be replaced.

    Raises:
        MediaError: if ``out`` is the clip, exists, or lies in no folder.
    """
    if out.exists() and path.exists() and out.samefile(path):
        raise MediaError(f"{out} is the clip itself; write the copy to another file")
    if out.is_dir():
        raise MediaError(f"{out} is a folder; give a file to write the copy to")
    if out.exists() and path.exists() and not overwrite:
        raise MediaError(
            f"{out} exists", f"choose another file, or replace it with {option('overwrite')}"
        )
    if not out.parent.is_dir():
        raise MediaError(f"there is no folder {out.parent} to write {out.name} to")
    if out.suffix.lower() == ".avi":
        raise MediaError(
            f"{out.name}: AVI keeps no times, so sound cannot be moved in it",
            "write it as .mkv or .mp4",
        )


def _check_delay(source: Source, delay_s: float) -> None:
    """Refuse a delay that leaves no sound beside the picture.

    Raises:
        MediaError: naming the delay and how long the clip is.
    """
    streams = [s for s in (source.video, source.audio) if s is not None]
    length_s = min(source.end_of(s) for s in streams) - min(map(source.start_of, streams))
    if not math.isfinite(delay_s) or abs(delay_s) >= length_s:
        raise MediaError(
            f"a delay of {delay_s:g} s leaves no sound beside the picture of {source.path.name}, "
            f"which lasts {length_s:.2f} s"
        )
    if abs(delay_s) > length_s / 2:
        left_s = length_s - abs(delay_s)
        logger.warning("%s: only %.2f s of sound and picture meet", source.path.name, left_s)


def _check_constant(source: Source, out: Path) -> None:
    """Refuse streams that change half-way, unless the copy may do so too.

    Raises:
        MediaError: naming the stream and where it changes.
    """
    path = source.path
    if source.container.format.name not in MAY_CHANGE or out.suffix.lower() in {".ts", ".m2ts"}:
        return
    streams = source.container.streams
    for index in [s.index for s in streams.audio + streams.video if s.codec_context is not None]:
        stream = source.container.streams[index]  # of a file that may be opened anew
        before: tuple[Any, ...] | None = None
        for time_s, frame in source.frames(source.rewind(stream)):
            now = _shape_of(frame)
            if before is not None and now != before:
                raise MediaError(
                    f"the {stream.type} of {path.name} changes at {clock_tenths(time_s)} from "
                    f"{_words(before)} to {_words(now)}, which {out.suffix} cannot hold",
                    f"write it as {path.suffix}, or make one recording of it first",
                )
            before = now


def _shape_of(frame: Any) -> tuple[Any, ...]:
    if isinstance(frame, av.AudioFrame):
        return frame.sample_rate, frame.layout.name
    return frame.width, frame.height


def _words(shape: tuple[Any, ...]) -> str:
    first, second = shape
    return f"{first} Hz {second}" if isinstance(second, str) else f"{first} x {second} pixels"


@dataclass
class _Copy:
    """A copy at work.

    Attributes:
        source: the clip.
        target: the open container.
        out: name of the copy.
        delay_s: of the audio.
        copies: stream of the copy for every stream that is copied.
        copied: what was written, to be compared with what is there.
        last_s: decoding time of the last packet of each stream, seconds.
        cut: streams whose sound was cut off by an edit list.
        reveals: whether the copy shows what an edit list hides.
    """

    source: Source
    target: Any
    out: Path
    delay_s: float
    copies: dict[int, Any] = field(default_factory=dict)
    copied: list[Copied] = field(default_factory=list)
    last_s: dict[int, float] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    reveals: bool = False

    def write(self) -> Contents:
        """Copy everything; say what the copy must hold."""
        container = self.source.container
        for stream in container.streams:
            if not self._can_keep(stream):
                continue
            self.copied.append(Copied.of(stream))
            if self.suffix in ATTACHES and self.copied[-1].is_cover:
                attach_cover(self.source.path, stream, self.target)
            else:
                self.copies[stream.index] = self._add(stream)
        by_index = {track.index: track for track in self.copied}
        shifts = self._shifts()
        ticks = {
            s.index: round(shifts["audio" if s.type == "audio" else "others"] / s.time_base)
            for s in container.streams
            if s.index in self.copies
        }
        chapters = shifted(container.chapters(), shifts["others"])
        contents = Contents.of(self.copied, chapters, container.metadata)
        self.target.metadata.update(container.metadata)
        self.target.set_chapters(chapters)
        self._start()
        for packet in with_dts(demuxed(container)):
            index = packet.stream.index
            if index not in self.copies or self._was_cut_off(packet):
                continue
            track = by_index[index]
            self._check(packet, track.tick_s)
            track.look_at(packet)
            if packet.pts is not None:
                packet.pts, packet.dts = packet.pts + ticks[index], packet.dts + ticks[index]
            track.take(packet)
            packet.stream = self.copies[index]
            self.target.mux(packet)
        self._check_at_end()
        return contents

    def _add(self, stream: Any) -> Any:
        """Add a stream to the copy.

        Raises:
            MediaError: naming the track, if the container cannot hold it.
        """
        try:
            return add_copy(stream, self.target)
        except ValueError:
            raise self._not_taken(stream) from None

    def _start(self) -> None:
        """Write the header.

        Raises:
            MediaError: naming the track, if the container cannot hold one.
        """
        try:
            self.target.start_encoding()
        except (av.FFmpegError, ValueError):
            streams = self.source.container.streams
            for stream in (streams[index] for index in self.copies):
                if not takes(stream, self.target):
                    raise self._not_taken(stream) from None
            raise

    def _not_taken(self, stream: Any) -> MediaError:
        context = stream.codec_context
        codec = "unknown" if context is None else context.codec.canonical_name
        return MediaError(
            f"cannot write {self.source.path.name} as {self.out.name}: {self.out.suffix} does not "
            f"take {stream.type} track {number_of(stream)} ({codec})",
            _own_kind(self.source.path, self.out),
        )

    def _can_keep(self, stream: Any) -> bool:
        """Say whether a stream is copied; what is left out is said."""
        name = self.source.path.name
        if stream.type == "data":  # no muxer takes these back
            if not is_kept_otherwise(stream, self.suffix):
                logger.warning("%s: data track %d is left out", name, stream.index)
            return False
        if stream.type in {"audio", "video"} and stream.codec_context is None:
            number = number_of(stream)
            logger.warning(
                "%s: %s track %d cannot be decoded and is left out", name, stream.type, number
            )
            return False
        return True

    @property
    def suffix(self) -> str:
        """Which container it is."""
        return self.out.suffix.lower()

    @property
    def hides_start(self) -> bool:
        """Whether the copy can hide what lies before time 0."""
        return self.suffix in EDIT_LIST_SUFFIXES

    def _was_cut_off(self, packet: Any) -> bool:
        """Say whether an edit list hides a packet of sound, which the copy might play."""
        stream = packet.stream
        if stream.type != "audio" or not packet.is_discard or packet.pts is None:
            return False
        if packet.pts * packet.time_base < -PRIMING_S:
            self.cut.add(stream.index)
        is_past = packet.pts + (packet.duration or 0) <= 0
        return is_past and stream.index in self.cut

    def _check_at_end(self) -> None:
        """Refuse a hidden beginning that would be shown, and frames whose order is not known.

        Raises:
            MediaError: naming the clip.
        """
        if self.reveals:  # and no other cut, for which another container would be no help
            raise MediaError(
                f"an edit list hides the beginning of {self.source.path.name}, and "
                f"{self.out.suffix or 'the copy'} would show it again",
                "write it as .mp4 or .mov",
            )
        video, format = self.source.video, self.source.container.format.name
        if video is None or format not in NO_CLOCK or not has_b_frames(video):
            return
        if not any(track.is_reordered for track in self.copied if track.index == video.index):
            raise MediaError(
                f"{self.source.path.name} does not say when its frames are shown, only in which "
                "order they are stored, and a copy would mix them up",
                "convert it to .mp4 with a program that decodes it",
            )

    def _shifts(self) -> dict[str, Fraction]:
        """Return by how much audio and all else move, seconds."""
        starts = {s.index: _start_of(s) for s in self.source.container.streams}
        timed = [s for s in self.source.container.streams if s.type in {"audio", "video"}]
        zero = min(starts[s.index] for s in timed if s.index in self.copies)
        format = self.source.container.format
        counts_otherwise = bool(format.flags & Flags.ts_discont.value) or (
            zero >= LATE_S and "mp4" not in format.name
        )
        if not counts_otherwise:
            zero = Fraction(0)
        audio = [starts[s.index] - zero for s in timed if s.type == "audio"]
        first, delay = min(audio), Fraction(self.delay_s)
        later = max(Fraction(0), min(Fraction(0), first) - (first + delay))
        others = -zero if self.hides_start else later - zero
        return {"others": others, "audio": others + delay}

    def _check(self, packet: Any, tick_s: float) -> None:
        """Refuse times that no copy can have, and pictures that it would bring back.

        Raises:
            MediaError: naming the stream and the moment.
        """
        stream, name = packet.stream, self.source.path.name
        if packet.dts is None:
            return
        time_s = packet.dts * tick_s
        is_shown = packet.pts is not None and packet.pts >= 0
        if stream.type == "video" and packet.is_discard and is_shown:
            raise MediaError(
                f"an edit list cuts parts out of {name}, and a copy would not keep the cuts",
                "make one recording of what is left first",
            )
        self.reveals |= stream.type == "video" and packet.is_discard and not self.hides_start
        last_s = self.last_s.get(stream.index)
        self.last_s[stream.index] = time_s
        if last_s is None or stream.type not in {"audio", "video"}:
            return
        may_jump = self.source.container.format.name not in MAY_CHANGE  # a screen that stands still
        if time_s <= last_s or (time_s > last_s + JUMP_S and not may_jump):
            first_s = min(raw_start_s(stream), last_s, time_s)
            raise MediaError(
                f"the times of the {stream.type} of {name} jump from "
                f"{clock_tenths(last_s - first_s)} to {clock_tenths(time_s - first_s)}",
                "it was joined of several recordings, or is damaged; make one of it first",
            )


def _start_of(stream: Any) -> Fraction:
    return Fraction(0) if stream.start_time is None else stream.start_time * stream.time_base
