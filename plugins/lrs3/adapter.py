"""Reading the lists of LRS3 and matching them to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, ClassVar

from zoo.data.listed import ClipList, ListedClip, ListedDataset, Meta, NotListedError

if TYPE_CHECKING:
    from plugins.lrs3 import Lrs3Config

PART = "pretrain"
OTHER_PARTS = ("trainval", "test")  # their clips have the same numbers, but are others


class Lrs3(ListedDataset):
    """The published lists: 46,387 train, 5,631 valid and 5,966 test clips."""

    name: ClassVar[str] = "lrs3"
    naming: ClassVar[str] = "files are named pretrain/<video id>/<5 digits>"
    config: Lrs3Config

    def read_lists(self, meta: Meta) -> ClipList:
        """Take the clips of the split files."""
        dropped = meta.filters(filter(None, [self.config.also_filter]))
        draws = meta.fixed_offsets("lrs3", self.config.splits)
        clips = {}
        for split in self.config.splits:
            for line in meta.lines(f"lrs3_{split}.txt", f"the {split} clips"):
                name = _name(PurePath(line.removesuffix(".mp4")))
                if name not in dropped:
                    clips[name] = ListedClip(split, fixed=draws.get(name))
        self.warn_without_sample(clips)
        return ClipList(clips, dropped)

    def matcher(self, ids: Iterable[str]) -> Callable[[Path], str]:
        """Match by the last two parts of the path: the video and the clip."""
        listed = set(ids)

        def match(path: Path) -> str:
            path = path.absolute()
            if path.parent.parent.name in OTHER_PARTS:
                raise NotListedError(f"not of the {PART} part")
            name = _name(path.with_suffix(""))
            if name not in listed:
                raise NotListedError("in none of the lists")
            return name

        return match


def _name(path: PurePath) -> str:
    return f"{PART}/{path.parent.name}/{path.name}"
