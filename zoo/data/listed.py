"""Data sets whose clips are published as lists of ids: splits, filters, fixed offsets, matching."""

from __future__ import annotations

import csv
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from zoo.contracts import ClipRecord, ComponentConfig, DatasetAdapter, LeftOut
from zoo.data.find import find_videos
from zoo.data.fixed_offsets import FixedOffset, read_fixed_offsets
from zoo.data.manifest import SPLITS, Split
from zoo.errors import ManifestError, option

AUTHORS_FOLDER = "the data/ folder of the authors' repository, v-iashin/Synchformer"
FIXED_NAME = "size21_crop5_min-2.00_max2.00.csv"  # 21 classes from -2 to +2 s, crops of 5 s
FIXED_SPLITS: tuple[Split, ...] = ("valid", "test")

log = logging.getLogger(__name__)


class ListedConfig(ComponentConfig):
    """What every data set with official lists can be told."""

    meta: Path | None = Field(None, description="folder with the official lists")
    splits: tuple[Split, ...] = Field(
        SPLITS, description="splits to take, such as 'test' or 'valid,test'"
    )
    min_seconds: float = Field(9.0, ge=0, description="shorter clips are rejected, seconds")

    @field_validator("splits", mode="before")
    @classmethod
    def _split_words(cls, value: Any) -> Any:
        return tuple(value.split(",")) if isinstance(value, str) else value


class FilteredConfig(ListedConfig):
    """What data sets whose authors filtered the clips for synchronization can be told."""

    filtered: bool = Field(True, description="leave out the clips that the authors filtered")
    also_filter: str | None = Field(
        None, description="another folder of filter lists in meta to apply"
    )


@dataclass(frozen=True, slots=True)
class ListedClip:
    """What the lists say about one clip; ``longest_s`` is where a file is too long to be it."""

    split: Split
    label: str | None = None
    fixed: FixedOffset | None = None
    longest_s: float = float("inf")
    labels: tuple[str, ...] | None = None
    """All classes, where the lists may give several; else ``label`` is the only one."""
    events: tuple[tuple[float, float, str], ...] | None = None
    """What happens when, as in `zoo.contracts.ClipRecord`, where the lists say so."""


@dataclass(frozen=True)
class ClipList:
    """The clips of a data set by id, those that are left out with the reason, all classes."""

    clips: Mapping[str, ListedClip]
    dropped: Mapping[str, str]
    classes: tuple[str, ...] = ()


class NotListedError(Exception):
    """A file that is none of the listed clips, and why."""


class Meta:
    """The folder with the official lists; every file that is missing from it is one sentence."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise ManifestError(
                f"{option('meta')} {folder} is not a folder; give the one with the lists"
            )
        self.folder = folder

    def find(self, name: str) -> Path | None:
        """Return a file or folder of lists; the root of the authors' repository will do too."""
        places = (self.folder / name, self.folder / "data" / name)
        return next((place for place in places if place.exists()), None)

    def need(self, name: str, what: str, where: str = AUTHORS_FOLDER) -> Path:
        """Return a file or folder of lists.

        Raises:
            ManifestError: if it is missing: which file, what for, and where there is one.
        """
        found = self.find(name)
        if found is None:
            raise ManifestError(
                f"{self.folder} has no {name}, which holds {what}; copy it from {where}"
            )
        return found

    def lines(self, name: str, what: str) -> list[str]:
        """Return the lines of a list, each once."""
        return read_lines(self.need(name, what))

    def filters(self, names: Iterable[str]) -> dict[str, str]:
        """Return the ids in the lists of filter folders, each with the reason to leave it out."""
        reasons: dict[str, str] = {}
        for name in names:
            folder = self.need(name, "the clips that the authors left out")
            lists = sorted(folder.glob("*.txt"))
            if not lists:
                raise ManifestError(
                    f"{folder} holds no list (*.txt); copy it from {AUTHORS_FOLDER}"
                )
            for path in lists:
                for line in read_lines(path):
                    # One published list has its ids with the suffix of a file.
                    reasons.setdefault(
                        line.removesuffix(".mp4"), f"left out by the authors ({name}/{path.name})"
                    )
        return reasons

    def fixed_offsets(self, name: str, splits: Iterable[Split]) -> dict[str, FixedOffset]:
        """Return the samples for valid and test, where they are there; warn where they are not."""
        found = []
        for split in (split for split in FIXED_SPLITS if split in splits):
            file = f"fixed_offsets_{name}/{split}_{FIXED_NAME}"
            path = self.find(file)
            if path is None:
                log.warning(
                    "no fixed offsets for %s: %s has no %s (it is in %s)",
                    split,
                    self.folder,
                    file,
                    AUTHORS_FOLDER,
                )
            else:
                found.append(path)
        return read_fixed_offsets(*found)


def read_lines(path: Path, *, once: bool = True) -> list[str]:
    """Return the lines of a text file, stripped, without empty ones, and each once unless not.

    Raises:
        ManifestError: if the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    lines = map(str.strip, text.splitlines())
    return [line for line in (dict.fromkeys(lines) if once else lines) if line]


def read_rows(path: Path, delimiter: str = ",") -> Iterator[list[str]]:
    """Yield the rows of a CSV file, without empty ones and comments.

    Raises:
        ManifestError: if the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.reader(file, delimiter=delimiter, skipinitialspace=True):
                if row and not row[0].startswith("#"):
                    yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ManifestError:
    is_text = not isinstance(error, UnicodeDecodeError)
    return ManifestError(f"cannot read the list {path}: {error if is_text else 'it is not UTF-8'}")


class ListedDataset(DatasetAdapter):
    """Finds the file of every listed clip, and keeps account of the others."""

    name: ClassVar[str]
    naming: ClassVar[str]
    """How files are named, for who has none."""
    where: ClassVar[str] = AUTHORS_FOLDER
    """Where the lists are, for who has none."""

    def __init__(self, config: ListedConfig):
        self.config = config
        self._left_out: list[LeftOut] | None = None
        self._classes: tuple[str, ...] = ()

    @abstractmethod
    def read_lists(self, meta: Meta) -> ClipList:
        """Read the official lists of the configured splits.

        Raises:
            ManifestError: if one is missing or is not what it should be.
        """

    @abstractmethod
    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Return a function that says which of the listed ids a file is.

        It raises NotListedError for a file that is none of them.
        """

    def left_out(self) -> list[LeftOut] | None:
        """Return the listed clips without a file, and the files without a use."""
        return self._left_out

    def classes(self) -> tuple[str, ...]:
        """Return the classes in the order of the lists, after a scan."""
        return self._classes

    def scan(self, videos: Path) -> Iterator[ClipRecord]:
        """Yield a record for every listed clip that is there, in the order of the lists.

        Raises:
            ManifestError: if the lists or the clips are missing.
        """
        paths = find_videos(videos)
        if self.config.meta is None:
            raise ManifestError(
                f"'{self.name}' needs its official lists: give their folder with {option('meta')} "
                f"(they are in {self.where})"
            )
        listed = self.read_lists(Meta(self.config.meta))
        self._classes = listed.classes
        files, unused = self._match(paths, listed)
        if not files:
            raise ManifestError(
                f"none of the {len(paths)} videos in {videos} is a clip of '{self.name}': "
                f"{self.naming}; "
                f"the first, {paths[0].name}: {unused[0].reason}"
            )
        missing = [
            LeftOut(id=name, split=clip.split, reason="there is no file")
            for name, clip in listed.clips.items()
            if name not in files
        ]
        self._left_out = [*missing, *unused]
        for name, clip in listed.clips.items():
            if name in files:
                yield self._record(files[name], clip)

    def _match(self, paths: list[Path], listed: ClipList) -> tuple[dict[str, Path], list[LeftOut]]:
        match = self.matcher([*listed.clips, *listed.dropped])
        files: dict[str, Path] = {}
        unused = []
        for path in paths:
            try:
                name = match(path)
            except NotListedError as error:
                unused.append(LeftOut(path=path, reason=str(error)))
                continue
            if name in listed.dropped:
                unused.append(LeftOut(path=path, reason=listed.dropped[name]))
            elif name in files:
                unused.append(LeftOut(path=path, reason="another file of the same clip is used"))
            else:
                files[name] = path
        return files, unused

    def _record(self, path: Path, clip: ListedClip) -> ClipRecord:
        return ClipRecord(
            path=path,
            split=clip.split,
            label=clip.label,
            labels=(clip.label,) if clip.labels is None and clip.label else clip.labels,
            events=clip.events,
            fixed_offset_s=clip.fixed.offset_s if clip.fixed else None,
            fixed_start_s=clip.fixed.start_s if clip.fixed else None,
            length_s=(self.config.min_seconds, clip.longest_s),
        )

    def warn_without_sample(self, clips: Mapping[str, ListedClip]) -> None:
        """Warn about clips that a list of fixed offsets should have, and has not."""
        bare = [n for n, clip in clips.items() if clip.split in FIXED_SPLITS and clip.fixed is None]
        if bare and len(bare) < sum(clip.split in FIXED_SPLITS for clip in clips.values()):
            log.warning("%d clips have no fixed offset; the first: %s", len(bare), bare[0])
