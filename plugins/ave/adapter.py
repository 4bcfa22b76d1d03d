"""The clips of AVE by their annotations and split lists (Tian et al., arXiv 1803.08842)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from plugins.ave import AveConfig
from zoo.data.listed import ClipList, ListedClip, ListedDataset, Meta, log, read_lines
from zoo.data.manifest import SPLITS, Split
from zoo.data.youtube import FreeNames
from zoo.errors import ManifestError, option

ANNOTATIONS = "Annotations.txt"
WHERE = "the data/ folder of the authors' repository, YapengTian/AVE-ECCV18"
COLUMNS = "category&video id&quality&start&end"
# Either list of a split: lines as in the annotations, or numbers of their lines from 0.
SPLIT_FILES: dict[Split, tuple[str, str]] = {
    "train": ("trainSet.txt", "train_order.txt"),
    "valid": ("valSet.txt", "val_order.txt"),
    "test": ("testSet.txt", "test_order.txt"),
}
CLIP_S = 10  # an event that ends here lasts to the end of the clip, which may be a little earlier
LONGEST_S = 15.0  # longer files are not the clip but the video


class Row(NamedTuple):
    """A line of the annotations: one clip, and from when to when its event lasts, seconds."""

    video: str
    label: str
    start_s: float
    end_s: float

    @property
    def events(self) -> tuple[tuple[float, float, str], ...]:
        """The event; none where it starts as it ends: nothing is both audible and visible."""
        if self.start_s == self.end_s:
            return ()
        end_s = math.inf if self.end_s >= CLIP_S else self.end_s
        return ((self.start_s, end_s, self.label),)


class Ave(ListedDataset):
    """AVE's clips; all classes of the annotations in alphabetical order."""

    name: ClassVar[str] = "ave"
    naming: ClassVar[str] = "AVE's clips are called like their videos, <id>.mp4"
    where: ClassVar[str] = WHERE
    config: AveConfig

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by the id of the video."""
        return FreeNames({name: name for name in ids})

    def read_lists(self, meta: Meta) -> ClipList:
        """Read the annotations, and the lists of the configured splits."""
        path = meta.need(ANNOTATIONS, "the event of every clip", WHERE)
        rows = read_annotations(path)
        classes = {row.label for row in rows}
        clips: dict[str, ListedClip] = {}
        for split in SPLITS:
            if split not in self.config.splits:
                continue
            found = _read_split(meta, split, rows)
            classes |= {row.label for row in found}
            _require_new(split, found, clips)
            clips |= _clips_of(split, found)
        return ClipList(clips, {}, tuple(sorted(classes)))


def read_annotations(path: Path) -> list[Row]:
    """Read the lines of a file of AVE's format; a line of titles is skipped.

    Raises:
        ManifestError: if it lists nothing, or a line is of another format.
    """
    lines = read_lines(path, once=False)  # other lists number the lines
    if lines and lines[0].rpartition("&")[2].strip().lower().startswith("end"):
        lines = lines[1:]
    if not lines:
        raise ManifestError(f"{path} lists no clip")
    return [_read_row(line, path) for line in lines]


def _read_row(line: str, path: Path) -> Row:
    try:
        label, video, _, start, end = (cell.strip() for cell in line.split("&"))
        row = Row(video, label, float(start), float(end))
    except ValueError:
        raise ManifestError(f"{path} has the line '{line}', expected {COLUMNS}") from None
    if not label or not video or not 0 <= row.start_s <= row.end_s < math.inf:
        raise ManifestError(
            f"{path} has the line '{line}': it needs a category, a video, and a start from 0 up to "
            "the end"
        )
    return row


def _read_split(meta: Meta, split: Split, rows: list[Row]) -> list[Row]:
    annotated, numbered = SPLIT_FILES[split]
    path = meta.find(annotated)
    if path is not None:
        return read_annotations(path)
    path = meta.find(numbered)
    if path is None:
        raise ManifestError(
            f"{meta.folder} has neither {annotated} nor {numbered}, which hold the {split} clips",
            f"copy one from {WHERE} (the numbers of {Path(numbered).stem}.h5, one to a line), or "
            f"leave the split out: {option('set')} splits=...",
        )
    lines = read_lines(path)
    if not lines:
        raise ManifestError(f"{path} lists no clip")
    return [_row_of(line, path, rows) for line in lines]


def _row_of(line: str, path: Path, rows: list[Row]) -> Row:
    try:
        number = int(line)
    except ValueError:
        raise ManifestError(f"{path} has the line '{line}', expected a number") from None
    if not 0 <= number < len(rows):
        raise ManifestError(
            f"{path} names line {number}, and {ANNOTATIONS} has {len(rows)}, counted from 0"
        )
    return rows[number]


def _require_new(split: Split, rows: Iterable[Row], clips: Mapping[str, ListedClip]) -> None:
    doubled = [row.video for row in rows if row.video in clips]
    if doubled:
        raise ManifestError(
            f"{split} clips of AVE are in the list of another split as well, the first: "
            f"{doubled[0]} ({len(doubled)} in all)",
            "a clip that is tested on must not be trained on",
        )


def _clips_of(split: Split, rows: Iterable[Row]) -> dict[str, ListedClip]:
    """Return the clips of a split; a video with several lines has all of their events."""
    by_video: dict[str, list[Row]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)
    several = [video for video, found in by_video.items() if len(found) > 1]
    if several:
        log.warning(
            "%s clips with several lines, whose events are taken together: %d, the first: %s",
            *(split, len(several), several[0]),
        )
    clips = {}
    for video, found in by_video.items():
        labels = tuple(dict.fromkeys(row.label for row in found))
        clips[video] = ListedClip(
            split,
            label=labels[0] if len(labels) == 1 else None,
            labels=labels,
            longest_s=LONGEST_S,
            events=tuple(event for row in found for event in row.events),
        )
    return clips
