"""Shifting the audio of a clip without re-encoding anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from zoo.errors import MediaError
from zoo.media.container import Source, open_source
from zoo.media.encode import reason, replacing

logger = logging.getLogger(__name__)

EDIT_LIST_SUFFIXES = {".mp4", ".m4a", ".m4v", ".mov"}  # these can hide what lies before time 0


def shift_audio(path: str | Path, out: str | Path, delay_s: float) -> None:
    """Write a copy of a clip whose audio is presented later; no stream is re-encoded.

    All other streams, chapters and tags are kept, except data tracks of cameras.

    Args:
        path: the clip's file, which stays as it is.
        out: file to write; its suffix chooses the container.
        delay_s: how much later the audio is presented, seconds; negative is earlier.

    Raises:
        MediaError: if the clip cannot be read, has no audio, or does not fit the new container.
    """
    path, out = Path(path), Path(out)
    if out.exists() and path.exists() and out.samefile(path):
        raise MediaError(f"{out} is the clip itself; write the corrected copy to another file")
    with open_source(path) as source, replacing(out) as temporary:
        if source.audio is None:
            raise MediaError(f"{path.name} has no audio stream")
        try:
            with av.open(f"file:{temporary}", "w") as target:
                _copy(source, target, delay_s, hides_start=out.suffix.lower() in EDIT_LIST_SUFFIXES)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(f"cannot write {path.name} as {out.name}: {reason(error)}") from error


def _copy(source: Source, target: Any, delay_s: float, hides_start: bool) -> None:
    streams: dict[int, Any] = {}
    for stream in source.container.streams:
        if stream.type == "data":  # no muxer takes these back; mov writes its timecode anew
            logger.warning("%s: data track %d is left out", source.path.name, stream.index)
        else:
            streams[stream.index] = _copy_stream(stream, target)
    target.metadata.update(source.container.metadata)
    target.set_chapters(source.container.chapters())
    earliest: dict[int, int] = {}
    for packet in _with_dts(source.container.demux()):
        stream = packet.stream
        if stream.index not in streams:
            continue
        if stream.type == "audio":
            earliest.setdefault(stream.index, min(0, packet.pts or 0))
            shift = round(delay_s / packet.time_base)
            if packet.pts is not None:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            is_before_start = (packet.pts or 0) < earliest[stream.index]
            if delay_s < 0 and is_before_start and not hides_start:
                continue
        packet.stream = streams[stream.index]
        target.mux(packet)


def _copy_stream(stream: Any, target: Any) -> Any:
    copy = target.add_stream_from_template(stream)
    copy.disposition = stream.disposition
    # "DURATION" and the statistics tags of Matroska would no longer be true.
    kept = {k: v for k, v in stream.metadata.items() if k != "DURATION" and not k.startswith("_")}
    copy.metadata.update(kept)
    return copy


def _with_dts(packets: Iterator[Any]) -> Iterator[Any]:
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
