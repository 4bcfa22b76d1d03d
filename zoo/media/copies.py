"""What a copy must hold, and what of it is otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
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
LOOKED_AT = 300  # packets, one of which gives a frame: a recording may begin between key frames
# What is said of a whole film, beside each frame.
SAID = {
    "DISPLAYMATRIX": "the rotation",
    "SPHERICAL": "the projection of 360 degree video",
    "STEREO3D": "the two views of 3D video",
    "MASTERING_DISPLAY_METADATA": "the brightness of the screen it was made for",
    "CONTENT_LIGHT_LEVEL": "the brightness of the brightest frames",
    "ICC_PROFILE": "the colour profile",
}
OF_THE_FILE = {
    "major_brand", "minor_version", "compatible_brands", "encoder", "software", "duration"
}  # fmt: skip


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
        tick_s: unit of the times of its packets, seconds.
        shape: aspect of the pixels, of video.
        num_packets: written.
        num_shown: written with an end behind time 0.
        num_bytes: written.
        first_s: earliest presentation time, seconds.
        last_s: latest one; its end where packets may be cut anew.
        is_reordered: whether packets are stored in another order than they are shown.
        is_decoded: whether a frame was seen.
        said: what is said of the whole film beside its first frame, by its kind in ``SAID``.
    """

    index: int
    kind: str
    codec: str | None
    language: str | None
    title: str | None
    dispositions: Disposition
    tick_s: float = 0.0
    shape: tuple[Any, ...] = ()
    num_packets: int = 0
    num_shown: int = 0
    num_bytes: int = 0
    first_s: float = math.inf
    last_s: float = -math.inf
    is_reordered: bool = False
    is_decoded: bool = False
    said: dict[str, bytes] = field(default_factory=dict)

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
            tick_s=float(stream.time_base or 0),
            shape=(codec.sample_aspect_ratio or 1,) if stream.type == "video" and codec else (),
        )

    @property
    def is_cover(self) -> bool:
        """Whether it is a picture that belongs to the file."""
        return bool(self.dispositions & Disposition.attached_pic)

    @property
    def is_cut_anew(self) -> bool:
        """Whether containers cut the packets as they like."""
        return (self.codec or "").startswith("pcm_")

    def look_at(self, packet: Any) -> None:
        """Decode packets until the first frame."""
        if self.kind not in {"audio", "video"} or self.is_decoded or self.num_packets > LOOKED_AT:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames[:1]:
            self.is_decoded = True
            if self.kind == "video":
                seen = {data.type.name: bytes(data) for data in frame.side_data}
                self.said = {name: seen[name] for name in SAID if name in seen}

    def take(self, packet: Any) -> None:
        """Count a packet."""
        self.num_packets += 1
        self.num_bytes += packet.size
        if packet.pts is None:
            return
        start_s = packet.pts * self.tick_s
        end_s = start_s + (packet.duration or 0) * self.tick_s
        self.is_reordered |= start_s < self.last_s
        self.num_shown += end_s > TOLERANCE_S
        last_s = end_s if self.is_cut_anew else start_s
        self.first_s, self.last_s = min(self.first_s, start_s), max(self.last_s, last_s)


@dataclass
class Contents:
    """What a file holds.

    Attributes:
        tracks: its streams.
        chapters: title and start of each, seconds.
        tags: names of the tags of the file.
    """

    tracks: list[Copied]
    chapters: list[tuple[str, float]]
    tags: set[str]

    @classmethod
    def of(cls, tracks: list[Copied], chapters: list[Any], tags: dict[str, str]) -> Contents:
        """Say what a file holds, in the words of PyAV."""
        named = [
            (c["metadata"].get("title", ""), float(c["start"] * c["time_base"])) for c in chapters
        ]
        return cls(tracks, named, {tag.lower() for tag in tags} - OF_THE_FILE)


def lost_tags(written: Contents, found: Contents) -> list[str]:
    """Return the tags of a clip that its copy does not have."""
    return sorted(written.tags - found.tags)


def what_differs(path: Path, written: Contents, found: Contents) -> str:
    """Compare a copy with what was written to it; name the first difference, or return ``""``."""
    if [title for title, _ in written.chapters] != [title for title, _ in found.chapters]:
        return "its chapters would be lost"
    for (title, ours_s), (_, theirs_s) in zip(written.chapters, found.chapters, strict=True):
        if abs(theirs_s - ours_s) > LATER_S:
            return f"its chapter '{title}' would begin at {theirs_s:.2f} s, not at {ours_s:.2f} s"
    pairs = {k: (_of_kind(written.tracks, k), _of_kind(found.tracks, k)) for k in KINDS}
    for kind, (ours, theirs) in pairs.items():
        if len(ours) != len(theirs):
            verb = "lose" if len(theirs) < len(ours) else "gain"
            return f"it would {verb} {abs(len(ours) - len(theirs))} of {len(ours)} {kind} tracks"
    for kind, (ours, theirs) in pairs.items():
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
            difference = _difference(one, other, has_others=len(ours) > 1)
            if difference:
                return f"{difference} of {kind} track {number} would be lost"
    return _time_difference(path, written.tracks, found.tracks)


def _of_kind(tracks: list[Copied], kind: str) -> list[Copied]:
    """Return the tracks of a kind, covers last, which containers keep apart."""
    return sorted((track for track in tracks if track.kind == kind), key=lambda t: t.is_cover)


def _difference(ours: Copied, theirs: Copied, *, has_others: bool) -> str:
    if ours.codec != theirs.codec or (ours.is_decoded and not theirs.is_decoded):
        return f"the codec {ours.codec}"
    if ours.language != theirs.language:
        return f"the language {ours.language}"
    if ours.title != theirs.title:
        return f"the title '{ours.title}'"
    if ours.shape != theirs.shape:
        return "the aspect of the pixels"
    for name, data in ours.said.items():
        if theirs.said.get(name) != data:
            return SAID[name]
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
            is_whole = ours.is_cut_anew and theirs.num_bytes == ours.num_bytes
            if not (is_whole or ours.num_shown <= theirs.num_packets <= ours.num_packets):
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
        return f"it would begin {abs(later_s):.2f} s {'later' if later_s > 0 else 'earlier'}"
    return ""


def read_contents(path: Path) -> Contents:
    """Read what a copy holds, with the counts of its packets."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        tracks = {stream.index: Copied.of(stream) for stream in container.streams}
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.thread_type = "NONE"
        for packet in demuxed(container):
            if packet.size:
                tracks[packet.stream.index].look_at(packet)
                tracks[packet.stream.index].take(packet)
        return Contents.of(list(tracks.values()), container.chapters(), container.metadata)
