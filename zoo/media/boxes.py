"""What the index of an mp4 claims, read before a demuxer sets memory aside for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from zoo.errors import MediaError

FIRST = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"uuid")
PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
# Frames that a table may claim without a byte for each, whatever the size of the file; FFmpeg
# takes 72 and 14 bytes of memory for one.
CLAIMED = {b"trun": 2**22, b"stsz": 2**26}


def require_credible_index(path: Path) -> None:
    """Refuse an mp4 whose index claims more frames than the file has bytes.

    Raises:
        MediaError: naming both numbers.
    """
    try:
        stat = path.stat()
        num = _most_frames(path, (stat.st_size, stat.st_mtime_ns, stat.st_ino))
    except OSError:  # whoever opens it says so
        return
    if num:
        raise MediaError(
            f"{path.name} is damaged: its index claims {num:,} frames, which {stat.st_size:,} "
            "bytes cannot hold",
            "copy or download it again",
        )


@lru_cache(maxsize=4096)  # a clip is opened for every window of it that training reads
def _most_frames(path: Path, identity: tuple[int, ...]) -> int:
    """Return the first number of frames that cannot be; 0 if all can, or this is no mp4."""
    num_bytes = identity[0]
    with path.open("rb") as file:
        if file.read(8)[4:] not in FIRST:
            return 0
        for kind, start in _boxes(file, num_bytes):
            if kind in CLAIMED:
                file.seek(start)
                fields = [int.from_bytes(file.read(4)) for _ in range(3)]
                # Of a run of frames: flags, number. Of sizes: flags, the size of all, number.
                num = fields[1] if kind == b"trun" else fields[2] * (fields[1] > 0)
                if num > max(CLAIMED[kind], num_bytes):
                    return num
    return 0


def _boxes(file: BinaryIO, num_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Yield the kind of every box, and where its content starts; parents give their children."""
    place = 0
    while place + 8 <= num_bytes:
        file.seek(place)
        size, kind, long_size = (file.read(n) for n in (4, 4, 8))
        length, header = int.from_bytes(size), 8
        if length == 1:
            length, header = int.from_bytes(long_size), 16
        if length and length < header:
            return
        yield kind, place + header
        place += header if kind in PARENTS else (length or num_bytes)
