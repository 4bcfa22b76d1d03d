"""What may be worked on: real clips of a bounded size, out of the upload folder."""

from __future__ import annotations

from pathlib import Path

from demo.demo_settings import Settings
from zoo.errors import MediaError
from zoo.media import probe, require_streams

MAX_PIXELS = 4096 * 2304  # 4K of cinemas; larger frames take too much memory to decode
MAX_FPS = 240
HEAD_BYTES = 400
# How containers of sound and picture begin, and where. Everything else is refused before it is
# opened: some text formats, such as playlists, would make the decoder read other files.
BEGINNINGS = [
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (4, b"free"),
    (4, b"skip"),
    (4, b"styp"),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI "),
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75"),  # ASF, WMV
    (0, b"\x06\x0e\x2b\x34"),  # MXF
]
TS_PACKETS = [(0, 188), (4, 192)]  # where the first packet of MPEG-TS starts, and the next after it


def require_clip(given: str | None, settings: Settings) -> Path:
    """Return the path of an uploaded clip that may be worked on.

    Raises:
        MediaError: if there is none, or it is no clip, or beyond the bounds.
    """
    if not given:
        raise MediaError("there is no clip yet: upload one, record one, or take an example")
    path = Path(given)
    if not path.is_file():
        raise MediaError(f"{path.name} is not here any more: upload it again")
    if path.stat().st_size > settings.max_mb * 1_000_000:
        raise MediaError(f"{path.name} is larger than {settings.max_mb} MB")
    if not _looks_like_media(path):
        raise MediaError(f"{path.name} is not a video file that this page knows")
    info = probe(path)
    require_streams(info)
    assert info.video is not None
    if info.duration_s > settings.max_minutes * 60:
        raise MediaError(
            f"{path.name} lasts {info.duration_s / 60:.1f} minutes, and this page takes up to "
            f"{settings.max_minutes:g}"
        )
    if info.video.width * info.video.height > MAX_PIXELS or info.video.fps > MAX_FPS:
        raise MediaError(
            f"{path.name} has {info.video.width} x {info.video.height} pixels at "
            f"{info.video.fps:.0f} frames per second, and this page takes up to 4K and {MAX_FPS}"
        )
    return path


def _looks_like_media(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if any(head[at : at + len(what)] == what for at, what in BEGINNINGS):
        return True
    return any(
        len(head) > at + step and head[at] == head[at + step] == 0x47 for at, step in TS_PACKETS
    )
