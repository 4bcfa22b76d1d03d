"""AudioSet with its 527 classes, as it is classified: Google's lists, nothing filtered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from plugins.audioset.adapter import CLASSES, GOOGLE, MARGIN_S, NAMING, read_segments
from zoo.data.labels import ClassifiedList, LabelledConfig, Row, list_clips, read_class_list
from zoo.data.listed import ClipList, ListedDataset, Meta
from zoo.data.manifest import Split
from zoo.data.youtube import YouTubeNames, clip_id
from zoo.errors import ManifestError


class AudioSet20k(ListedDataset):
    """The balanced segments as train, the eval segments as test."""

    name: ClassVar[str] = "audioset_20k"
    naming: ClassVar[str] = NAMING
    where: ClassVar[str] = GOOGLE
    lists: ClassVar[dict[Split, str]] = {
        "train": "balanced_train_segments.csv",
        "test": "eval_segments.csv",
    }
    config: LabelledConfig

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by the id of the video and the times in the name."""
        return YouTubeNames(ids)

    def read_lists(self, meta: Meta) -> ClipList:
        """Take all listed segments, with classes in the order of Google's class list."""
        classes = read_class_list(meta.need(CLASSES, "the names and order of the classes", GOOGLE))
        lists = []
        for split, file in self.lists.items():
            if self.config.needs(split):
                path = meta.need(file, f"the {split} segments", GOOGLE)
                lists.append(ClassifiedList(split, path, _rows(path)))
        return ClipList(list_clips(lists, classes, self.config), {}, classes.names)


class AudioSet2m(AudioSet20k):
    """The unbalanced segments as train, the eval segments as test."""

    name: ClassVar[str] = "audioset_2m"
    lists: ClassVar[dict[Split, str]] = {
        "train": "unbalanced_train_segments.csv",
        "test": "eval_segments.csv",
    }


def _rows(path: Path) -> Iterator[Row]:
    segments = read_segments(path)
    if not segments:
        raise ManifestError(f"{path} lists no segment")
    for video, start_s, end_s, classes in segments:
        yield Row(clip_id(video, start_s, end_s), classes, end_s - start_s + MARGIN_S)
