"""Which clips are meant: files, folders, patterns, manifests, and lists in CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from zoo.data.find import find_clips, find_videos
from zoo.errors import ManifestError
from zoo.features.feature_folder import SUFFIX, NamedClip


def list_clips(named: Iterable[str | Path], lists: Iterable[str | Path] = ()) -> list[NamedClip]:
    """List clips, each once; in a folder they are named by their place below it.

    A file that does not exist is listed too: it is for the reader of the clip to say so.

    Args:
        named: files, folders (searched recursively), patterns such as ``"clips/*.mp4"``, and
            manifests (``.parquet``).
        lists: CSV files with a column ``path``; relative paths are relative to the CSV file.

    Raises:
        ManifestError: if a list cannot be read, a pattern fits nothing, or there is no clip at all.
    """
    found: dict[Path, NamedClip] = {}
    for path in named:
        for clip, name in _behind(Path(path)):
            found.setdefault(clip.resolve(), NamedClip(clip, name))
    for file in lists:
        for clip in _listed(Path(file)):
            found.setdefault(clip.resolve(), NamedClip(clip, clip.stem))
    if not found:
        raise ManifestError("no clips were named: give files, folders, or lists")
    return list(found.values())


def _behind(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_dir():
        for clip in find_videos(path):
            yield clip, clip.relative_to(path).with_suffix("").as_posix()
    elif has_magic(str(path)) and not path.exists():
        matches = sorted(glob(str(path), recursive=True))
        if not matches:
            raise ManifestError(f"no file matches {path}")
        for match in map(Path, matches):
            yield from _behind(match)
    elif path.suffix == SUFFIX:
        raise ManifestError(f"{path} is not a clip but a file of tensors")
    else:
        yield from ((clip, clip.stem) for clip in find_clips([path]))


def _listed(file: Path) -> list[Path]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if "path" not in (rows.fieldnames or ()):
                raise ManifestError(f"{file} has no column 'path'; write it above the clips")
            return [file.parent / row["path"] for row in rows if row["path"]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not a CSV file"
        raise ManifestError(f"cannot read {file}: {reason}") from None
