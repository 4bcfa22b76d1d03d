"""Matching the entries of a list to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from plugins.cavmae_list import CavMaeListConfig
from plugins.cavmae_list.lists import read_list
from zoo.data.labels import ClassifiedList, ClassList, Row, list_clips, read_class_list
from zoo.data.listed import ClipList, ListedDataset, Meta
from zoo.data.manifest import SPLITS
from zoo.data.youtube import FreeNames
from zoo.errors import ManifestError, option

CLASS_LISTS = ("class_labels_indices.csv", "class_labels_indices_vgg.csv")
WHERE = (
    "the data files that CAV-MAE (YuanGongND/cav-mae) links to, or the folder sql of AVSiam "
    "(genjib/AVSiam on Hugging Face)"
)


class CavMaeList(ListedDataset):
    """The clips of lists that name clips and machine ids of classes."""

    name: ClassVar[str] = "cavmae_list"
    naming: ClassVar[str] = "files are called as the list calls them (video_id)"
    where: ClassVar[str] = WHERE
    config: CavMaeListConfig

    def __init__(self, config: CavMaeListConfig):
        super().__init__(config)
        self._names: dict[str, str] = {}  # id by every name of a clip

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by id, or by the name of the wav or video file that the list mentions."""
        listed = set(ids)
        return FreeNames({name: id for name, id in self._names.items() if id in listed})

    def read_lists(self, meta: Meta) -> ClipList:
        """Take the clips of the lists."""
        self._names = {}
        lists, has_labels = [], False
        for split in SPLITS:
            file = getattr(self.config, f"{split}_list")
            if file is not None and self.config.needs(split):
                path = meta.need(file, f"the {split} clips", WHERE)
                rows = list(self._rows(path))
                has_labels = has_labels or any(row.labels for row in rows)
                lists.append(ClassifiedList(split, path, rows))
        if not lists:
            raise ManifestError(
                f"'{self.name}' has no list to read: give {option('set')} train_list=FILE, "
                "valid_list=FILE or test_list=FILE"
            )
        classes = self._class_list(meta) if has_labels else None
        clips = list_clips(lists, classes, self.config)
        return ClipList(clips, {}, classes.names if classes else ())

    def _class_list(self, meta: Meta) -> ClassList:
        """Read the class list that is named, or the one that is there."""
        names = CLASS_LISTS if self.config.class_list is None else (self.config.class_list,)
        found = [path for path in map(meta.find, names) if path is not None]
        if len(found) > 1:
            raise ManifestError(
                f"{meta.folder} holds {' and '.join(names)}: say which one names the labels with "
                f"{option('set')} class_list=FILE"
            )
        what = "the names and order of the classes"
        return read_class_list(found[0] if found else meta.need(names[0], what, WHERE))

    def _rows(self, path: Path) -> Iterator[Row]:
        for entry in read_list(path):
            self._names[entry.id] = entry.id
            for name in entry.names:
                self._names.setdefault(name, entry.id)
            yield Row(entry.id, entry.labels)
