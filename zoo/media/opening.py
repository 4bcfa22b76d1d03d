"""Opening a file for reading, with every error in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from zoo.errors import MediaError


def check_readable(path: Path) -> None:
    """Refuse what is no file, or is empty.

    Raises:
        MediaError: saying which.
    """
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


def _why_unreadable(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return f"{path} is cut short: its index (moov) is missing; copy or download it again"
    return f"{path} is not a media file, or is damaged from its first bytes"


def open_container(path: Path) -> Any:
    """Open a local file, to be decoded by one thread.

    Raises:
        MediaError: if it is not media.
    """
    try:
        # Playlists must not reach out: only local files are opened.
        container = av.open(
            f"file:{path}",
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(_why_unreadable(path)) from error
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.thread_type = "NONE"
    return container
