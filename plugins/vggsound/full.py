"""All of VGGSound with its classes, as it is classified: only ``vggsound.csv`` is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from plugins.vggsound.adapter import CSV, CSV_WHERE, LONGEST_S, NAMING, Annotation
from zoo.data.labels import (
    ClassifiedList,
    LabelledConfig,
    Row,
    list_clips,
    read_class_list,
)
from zoo.data.listed import ClipList, ListedDataset, Meta
from zoo.data.manifest import Split
from zoo.data.youtube import YouTubeNames
from zoo.errors import ManifestError

CLASSES = "class_labels_indices_vgg.csv"  # CAV-MAE's list, which says the order of its outputs
LISTED: tuple[Split, ...] = ("train", "test")


class VggSoundFull(ListedDataset):
    """Every clip of ``vggsound.csv``, in the split that it names."""

    name: ClassVar[str] = "vggsound_full"
    naming: ClassVar[str] = NAMING
    where: ClassVar[str] = CSV_WHERE
    config: LabelledConfig

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by the id of the video and the times in the name."""
        return YouTubeNames(ids)

    def read_lists(self, meta: Meta) -> ClipList:
        """Take the annotated clips; classes follow CAV-MAE's class list where it is there."""
        path = meta.need(CSV, "the class and the split of every clip", CSV_WHERE)
        annotation = Annotation.read(path)
        wrong = next((row for row in annotation.rows if row[3] not in LISTED), None)
        if wrong is not None:
            raise ManifestError(
                f"{path} puts {wrong[0]} into the split '{wrong[3]}', expected train or test"
            )
        found = meta.find(CLASSES)
        classes = read_class_list(found) if found else None
        lists = [
            ClassifiedList(
                split,
                path,
                [Row(c, (label,), LONGEST_S) for c, _, label, s in annotation.rows if s == split],
            )
            for split in LISTED
            if self.config.needs(split)
        ]
        clips = list_clips(lists, classes, self.config)
        names = classes.names if classes else tuple(sorted(set(annotation.label_of_clip.values())))
        return ClipList(clips, {}, names)
