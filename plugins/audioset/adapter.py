"""Reading the lists of AudioSet and matching them to files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from zoo.data.fixed_offsets import SHORT_FOLDERS
from zoo.data.labels import read_class_list
from zoo.data.listed import AUTHORS_FOLDER, ClipList, ListedClip, ListedDataset, Meta, read_rows
from zoo.data.manifest import Split
from zoo.data.youtube import YouTubeNames, clip_id
from zoo.errors import ManifestError

if TYPE_CHECKING:
    from plugins.audioset import AudioSetConfig

FOLDERS: dict[Split, str] = {"train": "unbalanced", "valid": "balanced", "test": "eval"}
LONG_FOLDERS = {short: long for long, short in SHORT_FOLDERS.items()}
FILTERS = "filtered_examples_audioset"
NAMING = "files are named <id>_<start>_<end>, in milliseconds or seconds"
CLASSES = "class_labels_indices.csv"  # Google's list of index, id and name of every class
GOOGLE = "AudioSet's download page"
MARGIN_S = 5.0  # a clip cut at key frames is a little too long; a whole video is much longer


class Segment(NamedTuple):
    """One row of a list; the classes are indices or Google's ids, as the list has them."""

    video: str
    start_s: float
    end_s: float
    classes: tuple[str, ...]


class AudioSet(ListedDataset):
    """AudioSet's segments; a clip's id is ``<unbalanced|balanced|eval>/<id>_<ms>_<ms>``."""

    name: ClassVar[str] = "audioset"
    naming: ClassVar[str] = NAMING
    config: AudioSetConfig

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by the id of the video and the times in the name; no video is in two splits."""
        return YouTubeNames(ids)

    def read_lists(self, meta: Meta) -> ClipList:
        """Take the listed segments that are not filtered."""
        filters = [FILTERS] * self.config.filtered
        reasons = meta.filters([*filters, *filter(None, [self.config.also_filter])])
        dropped = {_short(name): reason for name, reason in reasons.items()}
        draws = meta.fixed_offsets("audioset", self.config.splits)
        found = meta.find(CLASSES)
        names = read_class_list(found).name_of if found else {}
        clips = {}
        for split in self.config.splits:
            for video, start_s, end_s, classes in self._segments(meta, split):
                name = f"{FOLDERS[split]}/{clip_id(video, start_s, end_s)}"
                if name not in dropped:
                    longest_s = end_s - start_s + MARGIN_S
                    labels = tuple(names.get(label, label) for label in classes) or None
                    clips[name] = ListedClip(split, None, draws.get(name), longest_s, labels)
        self.warn_without_sample(clips)
        return ClipList(clips, dropped)

    def _segments(self, meta: Meta, split: Split) -> Iterator[Segment]:
        """Yield the segments of a split."""
        ours = meta.find(self.config.list_file)
        if ours is not None:
            # The published list has rows such as  unbalanced/NFap9qgsI_s,30,40,"137,4",train
            segments = read_segments(ours, f"{FOLDERS[split]}/")
        else:
            google = f"{LONG_FOLDERS[FOLDERS[split]]}.csv"
            where = f"{AUTHORS_FOLDER}, or take Google's {google} from {GOOGLE}"
            path = meta.find(google) or meta.need(self.config.list_file, "the segments", where)
            segments = read_segments(path)
        if not segments:
            source = ours or google
            raise ManifestError(f"{source} lists no segment of {FOLDERS[split]} ({split})")
        return iter(segments)


def read_segments(path: Path, prefix: str = "") -> list[Segment]:
    """Read the rows whose first column starts with a prefix, which is taken off.

    Raises:
        ManifestError: if one of them has no times.
    """
    segments = []
    for row in read_rows(path):
        if row[0].startswith(prefix):
            try:
                video = row[0].removeprefix(prefix)
                segments.append(Segment(video, float(row[1]), float(row[2]), _classes(row)))
            except (IndexError, ValueError):
                if segments:  # a header, if there is one, is no row
                    raise ManifestError(f"{path} has a row without times: {row}") from None
    return segments


def _classes(row: list[str]) -> tuple[str, ...]:
    """Return what the fourth column lists; equal words are kept once, for millions of rows."""
    words = (word.strip() for word in (row[3] if len(row) > 3 else "").split(","))
    return tuple(sys.intern(word) for word in words if word)


def _short(name: str) -> str:
    folder, _, clip = name.rpartition("/")
    return f"{SHORT_FOLDERS.get(folder, folder)}/{clip}" if folder else clip
