"""What a copy takes over from a clip: streams with their marks, covers, chapters, packets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Discard

from zoo.media.container import open_source

EDIT_LIST_SUFFIXES = {".mp4", ".m4a", ".m4v", ".mov"}  # these can hide what lies before time 0
ATTACHES = {".mkv", ".mka", ".webm"}  # these hold a cover as an attached file
APPLE = "mov,mp4,m4a,3gp,3g2,mj2"  # one family of containers, under FFmpeg's names


def options_for(container: Any, suffix: str) -> dict[str, str]:
    """Return what the container of a copy must be told to keep all that it can.

    Without it, FFmpeg leaves out the place of 360 degree video and all tags but its own.  Phones
    name theirs as domains, and keep them apart from the common ones.
    """
    if suffix not in EDIT_LIST_SUFFIXES:
        return {}
    has_phone_tags = any(key.startswith("com.") for key in container.metadata)
    tags = {"movflags": "+use_metadata_tags"} if has_phone_tags else {}
    return {"strict": "unofficial", **tags}


def is_kept_otherwise(stream: Any, suffix: str) -> bool:
    """Say whether a data track holds what the container of a copy keeps in its own way.

    Chapters are compared as such; Matroska has a tag for the timecode.
    """
    if stream.discard == Discard.all:  # as FFmpeg marks the track of chapters
        return bool(stream.container.chapters())
    return "timecode" in stream.metadata and suffix in EDIT_LIST_SUFFIXES | ATTACHES


def add_copy(stream: Any, target: Any) -> Any:
    """Add a stream to a copy with all that is known of it.

    Raises:
        ValueError: if the container does not take it.
    """
    # Opaque, as there may be no encoder: AV1 has a decoder of another name.
    copy = target.add_stream_from_template(stream, opaque=True)
    copy.disposition = stream.disposition
    # "DURATION" and the statistics tags of Matroska would no longer be true.
    kept = {k: v for k, v in stream.metadata.items() if k != "DURATION" and not k.startswith("_")}
    copy.metadata.update(kept)
    is_kin = stream.container.format.name == APPLE and target.format.name in APPLE.split(",")
    if is_kin and stream.type in {"video", "audio"}:
        tag = stream.codec_context.codec_tag
        if takes(stream, target, tag):
            copy.codec_context.codec_tag = tag
    return copy


def takes(stream: Any, target: Any, tag: str | None = None) -> bool:
    """Say whether a container takes a stream, under the name that another gives to its codec.

    Apple's players want `hvc1`, where FFmpeg would write `hev1`.
    """
    trial = av.open(io.BytesIO(), "w", format=target.format.name)
    copy = trial.add_stream_from_template(stream, opaque=True)
    if tag is not None:
        copy.codec_context.codec_tag = tag
    try:
        trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    trial.close()
    return True


def attach_cover(path: Path, stream: Any, target: Any) -> None:
    """Keep a cover as Matroska does: as a file."""
    with open_source(path) as source:
        picture = next(p for p in source.packets(source.container.streams[stream.index]) if p.size)
    kind = {"mjpeg": "jpeg"}.get(stream.codec_context.name, stream.codec_context.name)
    target.add_attachment(f"cover.{kind.replace('jpeg', 'jpg')}", f"image/{kind}", bytes(picture))


def number_of(stream: Any) -> int:
    """Return which track of its kind a stream is, from 1."""
    same = [s.index for s in stream.container.streams if s.type == stream.type]
    return 1 + same.index(stream.index)


def shifted(chapters: list[Any], by_s: Fraction) -> list[Any]:
    """Move chapters along with the picture."""
    moved = []
    for chapter in chapters:
        ticks = round(by_s / chapter["time_base"])
        moved.append({**chapter, "start": chapter["start"] + ticks, "end": chapter["end"] + ticks})
    return moved


def with_dts(packets: Iterator[Any]) -> Iterator[Any]:
    """Fill missing decoding times backwards from the first known one.

    Matroska gives none for the first packets of a stream with B-frames, the key frame among them.
    """
    waiting: dict[int, list[Any]] = {}
    known: set[int] = set()
    for packet in packets:
        if packet.size == 0:
            continue
        index = packet.stream.index
        if packet.dts is None and index not in known:
            waiting.setdefault(index, []).append(packet)
            continue
        if packet.dts is None:
            packet.dts = packet.pts
        known.add(index)
        early = waiting.pop(index, [])
        step = max(packet.duration or 1, 1)
        for place, missing in enumerate(early):
            missing.dts = packet.dts - step * (len(early) - place)
        yield from early
        yield packet
    for left in waiting.values():
        for packet in left:
            packet.dts = packet.pts
        yield from left
