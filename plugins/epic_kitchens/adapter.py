"""Reading the annotations of EPIC-KITCHENS-100 and matching them to files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from plugins.epic_kitchens import EpicKitchensConfig
from zoo.data.labels import ClassifiedList, ClassList, Row, list_clips
from zoo.data.listed import ClipList, ListedDataset, Meta, NotListedError, read_rows
from zoo.data.manifest import Split
from zoo.errors import ManifestError

WHERE = "the repository epic-kitchens/epic-kitchens-100-annotations"
LISTS: dict[Split, str] = {"train": "EPIC_100_train.csv", "test": "EPIC_100_validation.csv"}
CLASSES = {"verb": "EPIC_100_verb_classes.csv", "noun": "EPIC_100_noun_classes.csv"}
COLUMNS = (
    *("narration_id", "video_id", "start_timestamp", "stop_timestamp"),
    *(f"{kind}_class" for kind in CLASSES),
)
MARGIN_S = 5.0  # cut at key frames, a clip is a little too long; a whole video is much longer
TIME = re.compile(r"(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


class EpicKitchens(ListedDataset):
    """The train list, and the validation list as test: the labels of the test set are withheld."""

    name: ClassVar[str] = "epic_kitchens"
    naming: ClassVar[str] = (
        "it takes one file per action, cut beforehand from start_timestamp to stop_timestamp and "
        "named <narration_id>"
    )
    where: ClassVar[str] = WHERE
    config: EpicKitchensConfig

    def __init__(self, config: EpicKitchensConfig):
        super().__init__(config)
        self._first: dict[str, tuple[str, str, str]] = {}  # action of a video: id, start, stop

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by the name of the file."""
        listed = set(ids)

        def match(path: Path) -> str:
            if path.stem in listed:
                return path.stem
            if path.stem in self._first:
                name, start, stop = self._first[path.stem]
                raise NotListedError(
                    "a whole video: cut it into its actions, such as ffmpeg -ss "
                    f"{start} -to {stop} -i {path.name} {name}.mp4"
                )
            raise NotListedError("in none of the lists")

        return match

    def read_lists(self, meta: Meta) -> ClipList:
        """Take the actions of both lists; classes are all verbs, then all nouns."""
        self._first = {}
        classes = _read_classes(meta)
        lists = []
        for split, file in LISTS.items():
            if self.config.needs(split):
                path = meta.need(file, f"the {split} clips", WHERE)
                lists.append(ClassifiedList(split, path, self._rows(path)))
        return ClipList(list_clips(lists, classes, self.config), {}, classes.names)

    def _rows(self, path: Path) -> Iterator[Row]:
        for row in _read_table(path, COLUMNS):
            name, video, start, stop, *numbers = row
            seconds = _seconds(path, name, stop) - _seconds(path, name, start)
            if seconds <= 0:
                raise ManifestError(f"{path}: {name} ends before it starts ({start} to {stop})")
            self._first.setdefault(video, (name, start, stop))
            labels = (f"{kind} {n}" for kind, n in zip(CLASSES, numbers, strict=True))
            yield Row(name, tuple(labels), seconds + MARGIN_S)


def _read_classes(meta: Meta) -> ClassList:
    """Read the names of verbs and nouns, in the order of their numbers.

    Raises:
        ManifestError: if a list is missing, or does not number its classes from 0.
    """
    names, name_of = [], {}
    for kind, file in CLASSES.items():
        path = meta.need(file, f"the names of the {kind}s", WHERE)
        rows = sorted(
            (_number(path, number), key) for number, key in _read_table(path, ("id", "key"))
        )
        if not rows or [number for number, _ in rows] != list(range(len(rows))):
            raise ManifestError(f"{path} does not number its {kind}s from 0, each once")
        if len({key for _, key in rows}) < len(rows) or not all(key for _, key in rows):
            raise ManifestError(f"{path} names a {kind} twice, or has one without a name")
        for number, key in rows:
            names.append(f"{kind}:{key}")
            name_of[f"{kind} {number}"] = names[-1]
    return ClassList(meta.folder, tuple(names), name_of)


def _read_table(path: Path, columns: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield some columns of a CSV file with a header.

    Raises:
        ManifestError: if it lacks a column, or a row is of another length.
    """
    rows = read_rows(path)
    header = [cell.strip() for cell in next(rows, [])]
    missing = [column for column in columns if column not in header]
    if missing:
        raise ManifestError(
            f"{path} is not a list of EPIC-KITCHENS-100: its first line has no {missing[0]!r}"
        )
    places = [header.index(column) for column in columns]
    for row in rows:
        if len(row) != len(header):
            raise ManifestError(
                f"{path} has the row '{','.join(row)[:80]}' of {len(row)} columns, expected "
                f"{len(header)}"
            )
        yield [row[place].strip() for place in places]


def _number(path: Path, text: str) -> int:
    if not text.isdecimal():
        raise ManifestError(f"{path} has the class number {text!r}, expected a whole number")
    return int(text)


def _seconds(path: Path, name: str, text: str) -> float:
    found = TIME.fullmatch(text)
    if found is None:
        raise ManifestError(f"{path}: {name} has the time {text!r}, expected HH:MM:SS.ff")
    hours, minutes, seconds = found.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
