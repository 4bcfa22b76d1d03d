"""Reading the lists of VGGSound and matching them to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zoo.data.fixed_offsets import FixedOffset, read_fixed_offsets
from zoo.data.listed import (
    ClipList,
    ListedClip,
    ListedDataset,
    Meta,
    log,
    read_rows,
)
from zoo.data.manifest import Split
from zoo.data.youtube import YouTubeNames, clip_id
from zoo.errors import ManifestError

if TYPE_CHECKING:
    from plugins.vggsound import VggSoundConfig

CLIP_S = 10
LONGEST_S = 15.0  # cut at key frames, a clip is a little too long; a whole video is much longer
CSV, CSV_WHERE = "vggsound.csv", "the VGGSound page of its authors (VGG, University of Oxford)"
SPARSE_CLASSES = "picked_sparse_classes.csv"
CLEAN_OFFSETS = "vggsound_sparse_clean_fixed_offsets.csv"
FILTERS = "filtered_examples_vggsound"
NAMING = "files are named <id>_<start>_<end>, in milliseconds or seconds"


@dataclass(frozen=True)
class Annotation:
    """``vggsound.csv``: the label of every clip, and of the last clip of every video."""

    label_of_clip: Mapping[str, str]
    rows: tuple[tuple[str, str, str, str], ...]
    """Clip, video, label, and train or test, in the order of the file."""

    @classmethod
    def read(cls, path: Path) -> Annotation:
        """Read the rows ``id, start second, label, train or test``.

        Raises:
            ManifestError: if there is no such row.
        """
        rows = []
        for row in read_rows(path):
            if len(row) >= 3 and row[1].isdigit():  # a header, if there is one, is no row
                start_s = int(row[1])
                clip = clip_id(row[0], start_s, start_s + CLIP_S)
                rows.append((clip, row[0], row[2].strip(), row[3].strip() if len(row) > 3 else ""))
        if not rows:
            raise ManifestError(
                f"{path} is not VGGSound's list: it has no row of id, start second, label, split"
            )
        return cls({clip: label for clip, _, label, _ in rows}, tuple(rows))


class VggSound(ListedDataset):
    """All of VGGSound: 154,077 train, 18,371 valid and 14,022 test clips after the filter."""

    name: ClassVar[str] = "vggsound"
    naming: ClassVar[str] = NAMING
    config: VggSoundConfig

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by the id of the video and the times in the name."""
        return YouTubeNames(ids)

    def read_lists(self, meta: Meta) -> ClipList:
        """Take the clips of the split files that are annotated and not filtered."""
        annotation = self._annotation(meta)
        dropped = self._dropped(meta)
        draws = self._draws(meta)
        labels = annotation.label_of_clip if annotation else {}
        clips = {}
        for split in self._splits():
            for name in meta.lines(f"vggsound_{split}.txt", f"the {split} clips"):
                if annotation and name not in labels:
                    dropped.setdefault(name, f"not in {CSV}")
                if name not in dropped:
                    clips[name] = ListedClip(split, labels.get(name), draws.get(name), LONGEST_S)
        kept = self._select(meta, clips, annotation, dropped)
        self.warn_without_sample(kept)
        return ClipList(kept, dropped)

    def _splits(self) -> tuple[Split, ...]:
        return self.config.splits

    def _annotation(self, meta: Meta) -> Annotation | None:
        """Return the labels; without them the manifest has none, but the clips are the same."""
        path = meta.find(CSV)
        if path is None:
            log.warning("no labels: %s has no %s (it is on %s)", meta.folder, CSV, CSV_WHERE)
            return None
        return Annotation.read(path)

    def _dropped(self, meta: Meta) -> dict[str, str]:
        folders = [FILTERS] * self.config.filtered
        return meta.filters([*folders, *filter(None, [self.config.also_filter])])

    def _draws(self, meta: Meta) -> dict[str, FixedOffset]:
        return meta.fixed_offsets("vggsound", self._splits())

    def _select(
        self,
        meta: Meta,
        clips: dict[str, ListedClip],
        annotation: Annotation | None,
        dropped: dict[str, str],
    ) -> dict[str, ListedClip]:
        """Narrow the clips down to those of the set; add the others to ``dropped``."""
        return clips


class VggSoundSparse(VggSound):
    """The clips of the 12 classes marked ``y`` in ``picked_sparse_classes.csv``."""

    name: ClassVar[str] = "vggsound_sparse"

    def _annotation(self, meta: Meta) -> Annotation:
        return Annotation.read(meta.need(CSV, "the class of every clip", CSV_WHERE))

    def _select(
        self,
        meta: Meta,
        clips: dict[str, ListedClip],
        annotation: Annotation | None,
        dropped: dict[str, str],
    ) -> dict[str, ListedClip]:
        assert annotation is not None
        sparse = _sparse_classes(meta.need(SPARSE_CLASSES, "the classes with sparse events"))
        # As published, the class is that of the video, which its last row decides.
        class_of_video = {
            video: label for name, video, label, _ in annotation.rows if name not in dropped
        }
        kept = {name: clip for name, clip in clips.items() if class_of_video[name[:11]] in sparse}
        dropped |= dict.fromkeys(clips.keys() - kept.keys(), "not of a class with sparse events")
        return kept


class VggSoundSparseClean(VggSound):
    """The test clips whose offset was annotated by hand: 439 after the filter."""

    name: ClassVar[str] = "vggsound_sparse_clean"

    def _splits(self) -> tuple[Split, ...]:
        return ("test",)

    def _draws(self, meta: Meta) -> dict[str, FixedOffset]:
        return read_fixed_offsets(meta.need(CLEAN_OFFSETS, "the offsets annotated by hand"))

    def _select(
        self,
        meta: Meta,
        clips: dict[str, ListedClip],
        annotation: Annotation | None,
        dropped: dict[str, str],
    ) -> dict[str, ListedClip]:
        kept = {}
        for name, clip in clips.items():
            if clip.fixed is None:
                dropped[name] = f"not in {CLEAN_OFFSETS}"
            elif not clip.fixed.is_sync:
                dropped[name] = f"not in sync by itself (is_sync in {CLEAN_OFFSETS} is not 1)"
            else:
                kept[name] = clip
        if not kept:
            raise ManifestError(f"no clip of vggsound_test.txt has is_sync 1 in {CLEAN_OFFSETS}")
        return kept


def _sparse_classes(path: Path) -> set[str]:
    """Read the classes marked ``y``, one per line, tab-separated.

    Raises:
        ManifestError: if there is none.
    """
    marked = {row[0] for row in read_rows(path, "\t") if len(row) > 1 and row[1].strip() == "y"}
    if not marked:
        raise ManifestError(f"{path} marks no class with a y in its second, tab-separated column")
    return marked
