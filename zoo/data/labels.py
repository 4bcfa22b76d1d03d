"""Data sets with labels: class lists, the labels of clips, and clips to validate on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from zoo.data.listed import ListedClip, ListedConfig, log, read_rows
from zoo.data.manifest import Split
from zoo.data.sampling import place_of
from zoo.data.youtube import video_of
from zoo.errors import ManifestError

COLUMNS = ("index", "mid", "display_name")


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order of a classifier's outputs.

    Attributes:
        path: the list.
        names: what the classes are called, by index.
        name_of: what a class is called, by index, by machine id (``/m/09x0r``) and by name.
    """

    path: Path
    names: tuple[str, ...]
    name_of: Mapping[str, str]


def read_class_list(path: Path) -> ClassList:
    """Read a CSV file with the columns ``index``, ``mid`` and ``display_name``.

    Raises:
        ManifestError: if it has other columns, misses an index, or names a class twice.
    """
    header, *rows = [*read_rows(path)] or [[]]
    header = [cell.strip() for cell in header]
    if not set(COLUMNS) <= set(header):
        raise ManifestError(
            f"{path} is not a class list: its first line is '{','.join(header)}', "
            f"expected {','.join(COLUMNS)}"
        )
    places = [header.index(column) for column in COLUMNS]
    wrong = next((row for row in rows if len(row) != len(header)), None)
    if wrong is not None:
        raise ManifestError(
            f"{path} has the row '{','.join(wrong)}' of {len(wrong)} columns, expected "
            f"{len(header)}",
            "a name with a comma must stand in quotes",
        )
    columns = [[row[place].strip() for row in rows] for place in places]
    for what, values in zip(COLUMNS, columns, strict=True):
        _require_different(path, what, values)
    return _in_order(path, *columns)


def _require_different(path: Path, what: str, values: list[str]) -> None:
    if "" in values:
        raise ManifestError(f"{path} has a row without {what}")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ManifestError(f"{path} has the {what} '{twice[0]}' twice")


def _in_order(path: Path, indices: list[str], mids: list[str], names: list[str]) -> ClassList:
    name_of_index = dict(zip(indices, names, strict=True))
    expected = [str(index) for index in range(len(names))]
    missing = next((index for index in expected if index not in name_of_index), None)
    if missing is not None or not names:
        raise ManifestError(f"{path} has no class of index {missing or 0}: they count from 0")
    name_of = {**dict(zip(names, names, strict=True)), **name_of_index}
    name_of |= dict(zip(mids, names, strict=True))
    return ClassList(path, tuple(name_of_index[index] for index in expected), name_of)


class LabelledConfig(ListedConfig):
    """What a data set whose lists know train and test can be told."""

    min_seconds: float = Field(0.0, ge=0, description="shorter clips are rejected, seconds")
    valid: float = Field(0.05, ge=0, lt=1, description="share of the training clips for validation")
    seed: int = Field(0, description="another seed takes other clips for validation")
    validate_on_test: bool = Field(
        False, description="train on all training clips and validate on those of the test list"
    )

    @property
    def holds_out(self) -> bool:
        """Whether some training clips are for validation."""
        return "valid" in self.splits and not self.validate_on_test

    def needs(self, listed: Split) -> bool:
        """Say whether the list of a split holds clips that are asked for."""
        if listed == "test" and self.validate_on_test:
            return "valid" in self.splits
        return listed in self.splits or (listed == "train" and self.holds_out)

    def split_of(self, name: str, listed: Split) -> Split:
        """Return the split of a clip; which videos are held out depends on their names only."""
        if listed == "test" and self.validate_on_test:
            return "valid"
        if listed != "train" or not self.holds_out:
            return listed
        return "valid" if place_of(self.held_out_with(name), self.seed) < self.valid else listed

    def held_out_with(self, name: str) -> str:
        """Return what a clip shares with those that must be in the same split: its video."""
        return video_of(name)


class Row(NamedTuple):
    """What a list says of a clip: its id, its classes as the list calls them, its length."""

    id: str
    labels: tuple[str, ...]
    longest_s: float = float("inf")


class ClassifiedList(NamedTuple):
    """The list of one split."""

    split: Split
    path: Path
    rows: Iterable[Row]
    """Read once."""


def list_clips(
    lists: Iterable[ClassifiedList], classes: ClassList | None, config: LabelledConfig
) -> dict[str, ListedClip]:
    """Return the clips of some lists by id, with the names of their classes.

    Labels that the class list does not know are left out.  These, clips without a label and ids
    that a list holds twice are counted in a warning.

    Args:
        lists: one per split.
        classes: the class list; without one, labels stay as they are.
        config: says which splits to take, and what to validate on.

    Raises:
        ManifestError: if a clip is in two lists, or the class list knows no label of a list.
    """
    clips: dict[str, ListedClip] = {}
    for part in lists:
        found: dict[str, ListedClip] = {}
        labels, twice = _Labels(part.path, classes), []
        for row in part.rows:
            if row.id in found:
                twice.append(row.id)
                continue
            split = config.split_of(row.id, part.split)
            names = labels.names(row.labels)
            found[row.id] = ListedClip(split, None, None, row.longest_s, names)
        labels.report(len(found))
        if twice:
            log.warning(
                "%s lists %d ids more than once; the first entry counts, the first such id: %s",
                *(part.path, len(set(twice)), twice[0]),
            )
        _require_one_split(part, [name for name in found if name in clips])
        clips |= found
    kept = {name: clip for name, clip in clips.items() if clip.split in config.splits}
    return _with_label(kept)


def _require_one_split(part: ClassifiedList, doubled: list[str]) -> None:
    if doubled:
        raise ManifestError(
            f"clips of {part.path} ({part.split}) are in the list of another split as well, the "
            f"first: {doubled[0]} ({len(doubled)} in all)",
            "a clip that is tested on must not be trained on",
        )


def _with_label(clips: dict[str, ListedClip]) -> dict[str, ListedClip]:
    """Fill in the one label of clips where no clip has several."""
    if any(len(clip.labels or ()) > 1 for clip in clips.values()):
        return clips
    return {n: replace(c, label=c.labels[0]) if c.labels else c for n, c in clips.items()}


class _Labels:
    """Names the labels of one list, and counts those that it cannot name."""

    def __init__(self, path: Path, classes: ClassList | None):
        self._path, self._classes = path, classes
        self._named = self._bare = self._clips = 0
        self._unknown: dict[str, int] = {}

    def names(self, labels: Iterable[str]) -> tuple[str, ...] | None:
        """Return the names of a clip's classes, each once; None where there is none."""
        given = dict.fromkeys(labels)
        self._bare += not given
        if self._classes is None:
            return tuple(given) or None
        name_of = self._classes.name_of
        unknown = [label for label in given if label not in name_of]
        for label in unknown:
            self._unknown[label] = self._unknown.get(label, 0) + 1
        self._clips += bool(unknown)
        names = tuple(dict.fromkeys(name_of[label] for label in given if label in name_of))
        self._named += len(names)
        return names or None

    def report(self, num_clips: int) -> None:
        """Warn of what is missing.

        Raises:
            ManifestError: if all labels are unknown.
        """
        if self._bare:
            log.warning("%d of %d clips in %s have no label", self._bare, num_clips, self._path)
        if not self._unknown or self._classes is None:
            return
        first, known = next(iter(self._unknown)), self._classes.path
        if not self._named:
            raise ManifestError(
                f"{known} knows no label of {self._path}, the first: {first}",
                "give the class list of this data set",
            )
        log.warning(
            "%d labels of %d clips in %s are unknown to %s and left out; the first: %s",
            *(len(self._unknown), self._clips, self._path, known.name, first),
        )
