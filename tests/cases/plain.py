"""What a file holds, read with PyAV alone, so that no error of our own readers is shared."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

HIDDEN_S = -0.001  # what lies before is not shown, where edit lists say so
FLASH_LEVEL = 170  # mean of a white frame, of 255
CLICK_LEVEL = 0.2
QUIET_S = 0.1  # between two clicks
FILE_TAGS = {  # about the file, not about what is in it
    "major_brand", "minor_version", "compatible_brands", "encoder", "software", "duration",
}  # fmt: skip


@dataclass
class Track:
    """A stream and all that is shown of it.

    Attributes:
        kind: video, audio, subtitle, attachment or data.
        codec: its name; None where there is no decoder.
        language: as the container says.
        title: of the track.
        marks: dispositions.
        facts: size, aspect of the pixels, colours, rate, and other parameters, by name.
        times_s: of the frames shown, or of the subtitles; in the order they are shown.
        digests: of the same.
        starts_s: when flashes or clicks begin.
        end_s: of the last frame.
        shown_s: how much sound there is behind time 0.
    """

    kind: str
    codec: str | None
    language: str | None
    title: str | None
    marks: Disposition
    facts: dict[str, Any] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    end_s: float = 0.0
    shown_s: float = 0.0

    @property
    def is_cover(self) -> bool:
        """Whether it is a picture that belongs to the file."""
        return bool(self.marks & Disposition.attached_pic)


@dataclass
class Content:
    """A file.

    Attributes:
        tracks: in the order of the container.
        chapters: title and start of each, seconds.
        tags: of the file.
        length_s: that the container claims.
        begin_s: where its clock begins.
    """

    tracks: list[Track]
    chapters: list[tuple[str, float]]
    tags: dict[str, str]
    length_s: float | None
    begin_s: float

    def of(self, kind: str) -> list[Track]:
        """Return the tracks of a kind that can be read, covers last."""
        found = [t for t in self.tracks if t.kind == kind]
        if kind in {"audio", "video"}:
            found = [t for t in found if t.codec is not None]
        return sorted(found, key=lambda t: t.is_cover)

    @property
    def film(self) -> Track:
        """The video track with the most frames."""
        return max(self.of("video"), key=lambda t: len(t.times_s))


def read_content(path: Path) -> Content:
    """Decode a whole file as a player does: what lies before time 0 is not shown."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        tracks = [_described(stream) for stream in container.streams]
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.thread_type = "NONE"
        sounds: dict[int, list[tuple[float, Any, int]]] = {}
        hidden_s = HIDDEN_S if "mp4" in container.format.name else -math.inf
        _read_packets(container, tracks, sounds, hidden_s)
        for index, sound in sounds.items():
            _find_clicks(tracks[index], sound, hidden_s)
        chapters = [
            (c["metadata"].get("title", ""), float(c["start"] * c["time_base"]))
            for c in container.chapters()
        ]  # fmt: skip
        length_s = None if container.duration is None else container.duration / av.time_base
        has_origin = container.format.name in {"mpegts", "mpeg"}
        begin_s = (container.start_time or 0) / av.time_base if has_origin else 0.0
        return Content(tracks, chapters, _content_tags(container.metadata), length_s, begin_s)


def _content_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in tags.items() if key.lower() not in FILE_TAGS}


def _described(stream: Any) -> Track:
    codec, tags = stream.codec_context, stream.metadata
    track = Track(
        kind=stream.type,
        codec=None if codec is None else codec.name,
        language=tags.get("language"),
        title=tags.get("title"),
        marks=Disposition(stream.disposition),
    )
    if stream.type == "video" and codec is not None:
        names = ("width", "height", "color_range", "color_primaries", "color_trc",
                 "colorspace", "profile", "codec_tag")  # fmt: skip
        track.facts = {name: getattr(codec, name) for name in names}
        track.facts["aspect"] = stream.sample_aspect_ratio or 1
    elif stream.type == "audio" and codec is not None:
        names = ("sample_rate", "codec_tag", "profile")
        track.facts = {name: getattr(codec, name) for name in names}
        track.facts["layout"] = codec.layout.name
        if len(codec.layout.channels) <= 2 or "channels" in codec.layout.name:
            track.facts["layout"] = len(codec.layout.channels)  # mono or stereo, said or not
    elif stream.type == "attachment":
        track.facts = {"name": stream.name, "kind": stream.mimetype}
        track.digests = [hashlib.md5(stream.data).hexdigest()]
    return track


def _read_packets(
    container: Any, tracks: list[Track], sounds: dict[int, Any], hidden_s: float
) -> None:
    streams = [s for s in container.streams if s.type not in {"attachment", "data"}]
    packets = container.demux([s for s in streams if s.codec_context is not None])
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError, av.FFmpegError):
            break
        track, index = tracks[packet.stream.index], packet.stream.index
        if track.kind == "subtitle":
            _take_text(track, packet)
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        for frame in frames:
            if track.kind == "video":
                _take_picture(track, frame, hidden_s)
            else:
                samples = _loudest(frame)
                sounds.setdefault(index, []).append((frame.time or 0.0, samples, frame.sample_rate))


def _take_text(track: Track, packet: Any) -> None:
    text = bytes(packet).strip(b"\0")
    if len(text) > 2 and packet.pts is not None:  # mp4 fills the pauses with empty ones
        track.times_s.append(float(packet.pts * packet.time_base))
        track.digests.append(f"{float((packet.duration or 0) * packet.time_base):.2f} {text!r}")


def _take_picture(track: Track, frame: Any, hidden_s: float) -> None:
    if not track.facts.get("frame"):
        track.facts["frame"] = True
        track.facts["rotation"] = frame.rotation
        track.facts["pix_fmt"] = frame.format.name
        track.facts["matrix"] = next(
            (bytes(d).hex() for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), ""
        )
        names = (d.type.name for d in frame.side_data)
        track.facts["side data"] = sorted({n for n in names if n in KEPT_SIDE_DATA})
    time_s = frame.time
    if time_s is not None and time_s < hidden_s:
        return
    grey = frame.reformat(format="gray").to_ndarray()
    is_white = bool(grey.mean() > FLASH_LEVEL)
    if is_white and not track.facts.get("white"):
        track.starts_s.append(time_s or 0.0)
    track.facts["white"] = is_white
    track.times_s.append(time_s or 0.0)
    track.digests.append(hashlib.md5(grey.tobytes()).hexdigest())
    track.end_s = max(track.end_s, (time_s or 0.0) + (frame.duration or 0) * float(frame.time_base))


KEPT_SIDE_DATA = {
    "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "STEREO3D", "SPHERICAL", "ICC_PROFILE"
}  # fmt: skip


def _loudest(frame: Any) -> Any:
    """Return the loudest channel of each sample, 0 to 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if np.issubdtype(samples.dtype, np.integer):
        bits = 8 * samples.dtype.itemsize
        samples = samples.astype(np.float32) / 2 ** (bits - 1) - (samples.dtype == np.uint8)
    return np.abs(samples).max(0)


def _find_clicks(track: Track, sound: list[tuple[float, Any, int]], hidden_s: float) -> None:
    last_s = -math.inf
    for time_s, samples, rate in sound:
        times_s = time_s + np.arange(len(samples)) / rate
        track.times_s.append(time_s)
        track.shown_s += float((times_s >= hidden_s).sum()) / rate
        track.end_s = max(track.end_s, time_s + len(samples) / rate)
        for at in times_s[(samples > CLICK_LEVEL) & (times_s >= hidden_s)]:
            if at - last_s > QUIET_S:
                track.starts_s.append(float(at))
            last_s = float(at)
