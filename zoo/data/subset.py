"""Subsets of a data set as lists of clip ids: read, matched with clips, chosen, written."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.find import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from zoo.data.manifest import Clip
from zoo.errors import ManifestError
from zoo.files import write_whole

ID_KEYS = ("video_id", "id", "path", "clip")
VIDEO_ID = re.compile(r"Y?([0-9A-Za-z_-]{11})([_-][\d.]+)*")
MORE_HINT = "write a JSON list of ids, or a text file with an id on every line"


def read_ids(path: Path) -> list[str]:
    """Read clip ids, each once.

    A JSON list of ids or of objects with ``video_id``, ``id`` or ``path``; such a list under
    ``data``, as CAV-MAE publishes its subsets; a CSV with one of these columns; or text with an id
    on every line, where ``#`` begins a comment.

    Raises:
        ManifestError: if the file cannot be read or holds no id.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ManifestError(f"cannot read the subset {path}: {reason}") from None
    try:
        found = _of_json(json.loads(text), path)
    except json.JSONDecodeError as error:
        if path.suffix.lower() == ".json":
            raise ManifestError(f"{path} is not valid JSON: {error}", MORE_HINT) from None
        found = _of_text(text)
    ids = list(dict.fromkeys(one.strip() for one in found if one.strip()))
    if not ids:
        raise ManifestError(f"the subset {path} holds no clip id", MORE_HINT)
    return ids


def _of_json(value: Any, path: Path) -> list[str]:
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if not isinstance(value, list):
        raise ManifestError(f"{path} is not a list of clip ids", MORE_HINT)
    ids = []
    for entry in value:
        key = next((k for k in ID_KEYS if k in entry), None) if isinstance(entry, dict) else None
        one = entry if key is None else entry[key]
        if not isinstance(one, str):
            raise ManifestError(f"{path} has an entry without an id: {str(entry)[:80]}", MORE_HINT)
        ids.append(one)
    return ids


def _of_text(text: str) -> list[str]:
    lines = [line.partition("#")[0] for line in text.splitlines()]
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    column = next((name for name in ID_KEYS if name in header), None)
    if column is None:
        return lines
    return [row[column] or "" for row in csv.DictReader(io.StringIO(text), skipinitialspace=True)]


def match_ids(clips: Sequence[Clip], ids: Sequence[str], where: str) -> tuple[list[int], list[str]]:
    """Find the clips of a list of ids.

    An id is a file's name without its suffix, or the end of its path, that only one clip has; or it
    begins with the same YouTube video as the name of one clip only, and no other id does.

    Args:
        clips: to choose from.
        ids: of the clips that are wanted.
        where: the name of the list, for messages.

    Returns:
        Indices of the clips in their order, and the ids that no clip has.

    Raises:
        ManifestError: if not one clip is found.
    """
    tails = Counter(tail for clip in clips for tail in _tails(clip.path))
    by_tail = {t: i for i, clip in enumerate(clips) for t in _tails(clip.path) if tails[t] == 1}
    by_video = _unique(enumerate(clip.path.stem for clip in clips))
    videos = _unique(enumerate(Path(one).name for one in ids))
    found, missing = set(), []
    for number, one in enumerate(ids):
        index = by_tail.get(_bare(one))
        if index is None:
            video = _video(Path(one).name)
            is_clear = video is not None and videos.get(video) == number
            index = by_video.get(video or "") if is_clear else None
        if index is None:
            missing.append(one)
        else:
            found.add(index)
    if not found:
        raise ManifestError(
            f"{where} names none of {len(clips)} clips: its ids look like '{ids[0]}', the first "
            f"clip is {clips[0].path}"
        )
    return sorted(found), missing


def _bare(one: str) -> str:
    """Return an id without the suffix that some lists write."""
    path = Path(one)
    is_file = path.suffix.lower() in AUDIO_SUFFIXES + VIDEO_SUFFIXES
    return (path.with_suffix("") if is_file else path).as_posix()


def _tails(path: Path) -> list[str]:
    parts = path.with_suffix("").parts
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _video(name: str) -> str | None:
    found = VIDEO_ID.fullmatch(_bare(name))
    return None if found is None else found[1]


def _unique(names: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Return the number of every YouTube video that only one of the names begins with."""
    videos = [(number, video) for number, name in names if (video := _video(name)) is not None]
    counts = Counter(video for _, video in videos)
    return {video: number for number, video in videos if counts[video] == 1}


def choose_per_class(clips: Sequence[Clip], per_class: int, seed: int) -> list[int]:
    """Choose about so many clips of every class, rare classes first.

    A clip of several classes counts for each of them, so that common classes may get more.

    Args:
        clips: to choose from.
        per_class: clips of every class; fewer where there are not so many.
        seed: of the choice.

    Returns:
        Indices, rising.

    Raises:
        ManifestError: if no clip has a class.
    """
    of_class: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        for label in clip.all_labels:
            of_class.setdefault(label, []).append(index)
    if not of_class:
        raise ManifestError(
            "no clip has a class to choose by; make a manifest with labels (zoo data prepare)"
        )
    order = np.random.default_rng(seed).permutation(len(clips))
    place = {int(index): number for number, index in enumerate(order)}
    chosen: set[int] = set()
    for label in sorted(of_class, key=lambda name: (len(of_class[name]), name)):
        candidates = sorted(of_class[label], key=lambda index: place[index])
        have = sum(index in chosen for index in candidates)
        wanted = [index for index in candidates if index not in chosen]
        chosen.update(wanted[: max(0, per_class - have)])
    return sorted(chosen)


def write_ids(path: Path, ids: Sequence[str]) -> None:
    """Write clip ids as a JSON list, one on every line.

    Raises:
        ManifestError: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(list(ids), indent=0) + "\n")
    except OSError as error:
        raise ManifestError(f"cannot write {path}: {error.strerror}") from None


def ids_of(clips: Sequence[Clip], indices: Sequence[int]) -> list[str]:
    """Return the id of every chosen clip: its name, or where that is taken, the end of its path."""
    counts = Counter(tail for clip in clips for tail in _tails(clip.path))
    return [
        next((tail for tail in reversed(_tails(clips[i].path)) if counts[tail] == 1), "")
        or str(clips[i].path.with_suffix(""))
        for i in indices
    ]
