"""What a copy must hold, and what of it is otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from zoo.media.untrusted import demuxed

TOLERANCE_S = 0.003  # containers round times to a millisecond
LATER_S = 0.15  # a copy may begin so much later, all of it alike: by the delay of an encoder
KINDS = ("video", "audio", "subtitle", "attachment")
NO_LANGUAGE = {None, "", "und"}
MUXER_DELAY = {".ts", ".m2ts", ".mpg", ".vob"}  # these begin at a time of their own


@dataclass
class Copied:
    """A stream as it was written.

    Attributes:
        index: of the stream in the clip.
        kind: audio, video, subtitle or attachment.
        codec: its name; None where there is no decoder.
        language: None if it is not said.
        title: of the track.
        dispositions: flags such as ``forced``.
        shape: aspect of the pixels, of video.
        num_packets: written.
        num_shown: written with an end behind time 0.
        first_s: earliest presentation time, seconds.
        last_s: latest one.
    """

    index: int
    kind: str
    codec: str | None
    language: str | None
    title: str | None
    dispositions: Disposition
    shape: tuple[Any, ...] = ()
    num_packets: int = 0
    num_shown: int = 0
    first_s: float = math.inf
    last_s: float = -math.inf

    @classmethod
    def of(cls, stream: Any) -> Copied:
        """Say what a stream is, before its packets are seen."""
        codec = stream.codec_context
        language = stream.metadata.get("language")
        return cls(
            index=stream.index,
            kind=stream.type,
            codec=None if codec is None else codec.name,
            language=None if language in NO_LANGUAGE else language,
            title=stream.metadata.get("title"),
            dispositions=Disposition(stream.disposition),
            shape=(codec.sample_aspect_ratio or 1,) if stream.type == "video" and codec else (),
        )

    @property
    def is_cover(self) -> bool:
        """Whether it is a picture that belongs to the file."""
        return bool(self.dispositions & Disposition.attached_pic)

    def take(self, packet: Any) -> None:
        """Count a packet."""
        self.num_packets += 1
        if packet.pts is None:
            return
        start_s = float(packet.pts * packet.time_base)
        self.num_shown += start_s + float((packet.duration or 0) * packet.time_base) > TOLERANCE_S
        self.first_s, self.last_s = min(self.first_s, start_s), max(self.last_s, start_s)


def what_differs(path: Path, written: list[Copied]) -> str:
    """Compare a copy with what was written to it; name the first difference, or return ``""``."""
    try:
        found = _read(path)
    except av.FFmpegError:
        return "it could not be read again"
    pairs = {kind: (_of_kind(written, kind), _of_kind(found, kind)) for kind in KINDS}
    for kind, (ours, theirs) in pairs.items():
        if len(ours) != len(theirs):
            return f"it would have {len(theirs)} instead of {len(ours)} {kind} tracks"
    for kind, (ours, theirs) in pairs.items():
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
            difference = _difference(one, other, has_others=len(ours) > 1)
            if difference:
                return f"{difference} of {kind} track {number} would be lost"
    return _time_difference(path, written, found)


def _of_kind(tracks: list[Copied], kind: str) -> list[Copied]:
    """Return the tracks of a kind, covers last, which containers keep apart."""
    return sorted((track for track in tracks if track.kind == kind), key=lambda t: t.is_cover)


def _difference(ours: Copied, theirs: Copied, *, has_others: bool) -> str:
    if ours.codec != theirs.codec:
        return f"the codec {ours.codec}"
    if ours.language != theirs.language:
        return f"the language {ours.language}"
    if ours.title != theirs.title:
        return f"the title '{ours.title}'"
    if ours.shape != theirs.shape:
        return "the aspect of the pixels"
    # Which track is the default says nothing where there is one.
    mask = ~Disposition(0) if has_others else ~Disposition.default
    lost = ours.dispositions & ~theirs.dispositions & mask
    return f"the mark '{lost.name}'" if lost else ""


def _time_difference(path: Path, written: list[Copied], found: list[Copied]) -> str:
    """Say which stream has other packets or other times than were written."""
    later_s: float | None = None
    for kind in ("video", "audio"):
        pairs = zip(_of_kind(written, kind), _of_kind(found, kind), strict=True)
        for number, (ours, theirs) in enumerate(pairs, 1):
            name = f"{kind} track {number}"
            if ours.is_cover:
                continue
            if not ours.num_shown <= theirs.num_packets <= ours.num_packets:
                return f"{name} would have {theirs.num_packets} of {ours.num_shown} packets"
            if not math.isfinite(ours.last_s) or not math.isfinite(theirs.last_s):
                continue
            moved = [theirs.last_s - ours.last_s]
            if theirs.num_packets == ours.num_packets:
                moved.append(theirs.first_s - ours.first_s)
            later_s = moved[0] if later_s is None else later_s
            furthest = max((by - later_s for by in moved), key=abs)
            if abs(furthest) > 2 * TOLERANCE_S:
                return f"the times of {name} would change by {furthest:+.3f} s"
    if later_s is not None and path.suffix not in MUXER_DELAY and abs(later_s) > LATER_S:
        return f"it would begin {later_s:.2f} s later"
    return ""


def _read(path: Path) -> list[Copied]:
    """Read what a file holds, with the counts of its packets."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        tracks = {stream.index: Copied.of(stream) for stream in container.streams}
        for packet in demuxed(container):
            if packet.size:
                tracks[packet.stream.index].take(packet)
        return list(tracks.values())
