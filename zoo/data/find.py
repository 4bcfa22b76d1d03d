"""Finding the clips that a user names: files, folders and manifests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zoo.contracts import LeftOut
from zoo.data.manifest import Manifest
from zoo.errors import ManifestError
from zoo.files import PART

VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".m4v",
    ".mkv",
    ".webm",
    ".avi",
    ".ts",
    ".m2ts",
    ".mts",
    ".mpg",
    ".mpeg",
    ".flv",
    ".3gp",
    ".ogv",
    ".wmv",
)
AUDIO_SUFFIXES = (
    ".wav",
    ".flac",
    ".mp3",
    ".m4a",
    ".opus",
    ".ogg",
    ".oga",
    ".aac",
    ".ac3",
    ".aif",
    ".aiff",
    ".mka",
    ".weba",
    ".wma",
)


def find_videos(folder: Path) -> list[Path]:
    """List the videos below a folder, by their suffix, in the order of their names.

    Raises:
        ManifestError: if there is no such folder, or no video in it.
    """
    return find_files(folder, VIDEO_SUFFIXES, "video")


def find_audios(folder: Path) -> list[Path]:
    """List the files below a folder that may hold audio, videos included.

    Raises:
        ManifestError: if there is no such folder, or no such file in it.
    """
    return find_files(folder, AUDIO_SUFFIXES + VIDEO_SUFFIXES, "audio")


def find_files(folder: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    """List the files below a folder that have one of some suffixes, in the order of their names.

    Args:
        folder: where to look.
        suffixes: in lower case.
        what: the name of the kind, for the error.

    Raises:
        ManifestError: if there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise ManifestError(f"{folder} {problem}")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise ManifestError(
            f"{folder} holds no {what} (looked for {', '.join(suffixes[:5])} and the like)"
        )
    return found


def find_passed_over(folder: Path) -> list[LeftOut]:
    """List what `find_videos` passes over although it may be a video, each with the reason.

    Those are files without a suffix, hidden files, links that lead nowhere or to folders, and
    pipes and the like; not files with a suffix of something else.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        reason = _why_passed_over(path)
        if reason and not path.name.startswith(PART):
            found.append(LeftOut(path=path, reason=reason))
    return found


def _why_passed_over(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    if path.is_dir():
        return "a link to a folder, which is not followed" if path.is_symlink() else ""
    if path.name.startswith("."):
        return "a hidden file"
    if not path.suffix:
        return "a file without a suffix; give it that of its container, such as .mp4"
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_file():
        return "not a regular file"
    return ""


def find_clips(named: Iterable[Path]) -> list[Path]:
    """List the clips behind manifests (``.parquet``), folders and files, each once.

    A file that does not exist is listed too: it is for the reader of the clip to say so.

    Raises:
        ManifestError: if a manifest cannot be read or a folder holds no video.
    """
    found: dict[Path, None] = {}
    for path in named:
        if path.suffix == ".parquet":
            found |= dict.fromkeys(clip.path for clip in Manifest.read(path).clips)
        elif path.is_dir():
            found |= dict.fromkeys(find_videos(path))
        else:
            found[path] = None
    return list(found)
