"""The pairs of AV-SyncBench: an original sound, and a copy of it that is moved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.data.manifest import Clip
from zoo.errors import ManifestError
from zoo.evaluation.protocol import SHIFTS_MS

DIRECTIONS = ("advance", "delay")
SHIFTED = ("time_shifted", "global_offset")  # what the benchmark calls these pairs

Sound = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Moved:
    """A sound that does not fit.

    Attributes:
        id: of the pair.
        shift_ms: by how much it is moved.
        direction: ``delay`` or ``advance``.
        audio: its file; None if the original is to be moved.
    """

    id: str
    shift_ms: int
    direction: str
    audio: Path | None = None

    def apply(self, samples: Sound, sample_rate_hz: int) -> Sound:
        """Move a sound ``(N,)``; silence takes the place of what is missing."""
        by = round(self.shift_ms / 1000 * sample_rate_hz)
        if self.direction == "delay":
            return np.pad(samples, (by, 0))[: len(samples)]
        return np.pad(samples, (0, by))[by:]


@dataclass(frozen=True)
class Film:
    """A video with its own sound, and sounds that do not fit it.

    Attributes:
        video: file.
        audio: file of the original sound; None if it is in the video.
        moved: the others.
    """

    video: Path
    audio: Path | None
    moved: tuple[Moved, ...]


def pairs_of_clips(clips: Sequence[Clip]) -> list[Film]:
    """Move the sound of every clip, which is in sync, by every amount and either way."""
    return [
        Film(
            clip.path,
            None,
            tuple(
                Moved(f"{clip.path.stem}-{direction}-{shift_ms}", shift_ms, direction)
                for shift_ms in SHIFTS_MS
                for direction in DIRECTIONS
            ),
        )
        for clip in clips
    ]


def read_pairs(path: Path) -> tuple[list[Film], int]:
    """Read the benchmark's own manifest: a JSON object per line, files relative to its folder.

    Returns:
        The videos, each with all its pairs, and how many pairs of other kinds were passed over.

    Raises:
        ManifestError: if it cannot be read, or holds no pair of this kind.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot read {path}: {error}") from None
    films: dict[tuple[Path, Path | None], list[Moved]] = {}
    num_others, ids = 0, set[str]()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _parse(line, f"{path}, line {number}")
        if record.get("edit_type", record.get("task_type")) not in SHIFTED:
            num_others += 1
            continue
        files, moved = _pair(record, path.parent.resolve(), f"{path}, line {number}")
        if moved.id in ids:
            raise ManifestError(f"{path} has the sample_id '{moved.id}' twice")
        ids.add(moved.id)
        films.setdefault(files, []).append(moved)
    if not films:
        raise ManifestError(
            f"{path} holds no pair whose edit_type is {' or '.join(SHIFTED)}: it is not the "
            "manifest of AV-SyncBench's temporal part"
        )
    return [Film(*files, tuple(moved)) for files, moved in films.items()], num_others


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ManifestError(f"{where}: not a JSON object")
    return record


def _pair(record: dict[str, Any], root: Path, where: str) -> tuple[tuple[Path, Path | None], Moved]:
    needed = ("sample_id", "original_video", "edited_audio", "offset_ms", "direction")
    missing = [name for name in needed if record.get(name) in (None, "")]
    if missing:
        raise ManifestError(f"{where}: it has no {missing[0]}")
    direction = str(record["direction"]).lower()
    if direction not in DIRECTIONS:
        raise ManifestError(f"{where}: direction '{direction}' is neither advance nor delay")
    try:
        shift_ms = abs(round(float(record["offset_ms"])))
    except (ValueError, TypeError, OverflowError):
        raise ManifestError(f"{where}: offset_ms '{record['offset_ms']}' is no number") from None
    own = record.get("original_audio")
    video, edited = (_inside(root, record[name], where) for name in needed[1:3])
    audio = _inside(root, own, where) if own else None
    return (video, audio), Moved(str(record["sample_id"]), shift_ms, direction, edited)


def _inside(root: Path, name: Any, where: str) -> Path:
    """Return a file below the manifest's folder, and nowhere else."""
    path = (root / str(name)).resolve()
    if not path.is_relative_to(root):
        raise ManifestError(f"{where}: '{name}' lies outside the folder of the manifest")
    return path
