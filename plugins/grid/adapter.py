"""Finding the clips of GRID by speaker and sentence, and their alignments."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import zoo
from plugins.grid import SPEAKERS, GridConfig
from plugins.grid.alignment import SUFFIX, Word, read_words
from zoo.data.find import find_files, find_videos
from zoo.data.manifest import Split
from zoo.errors import ManifestError, option

# The folder of a speaker, also of a download or a copy: s1, s01, s1.mpg_vcd, s1_processed.
SPEAKER = re.compile(r"s0*(\d{1,2})(?:[._-].*)?", re.IGNORECASE)
# Command, colour, preposition, letter (no w), digit, adverb: "bin blue at f two now".
SENTENCE = re.compile("[blps][bgrw][abiw][a-vx-z][1-9z][anps]", re.IGNORECASE)

log = logging.getLogger(__name__)


class ClipId(NamedTuple):
    """Who says what."""

    speaker: int
    sentence: str

    def __str__(self) -> str:
        return f"s{self.speaker}/{self.sentence}"


class Grid(zoo.DatasetAdapter):
    """Every sentence that has a video; speakers are told by the folders, sentences by the files."""

    def __init__(self, config: GridConfig):
        self._config = config
        self._left_out: list[zoo.LeftOut] | None = None

    def left_out(self) -> list[zoo.LeftOut] | None:
        """Return the aligned sentences without a video, and the files without a use."""
        return self._left_out

    def scan(self, videos: Path) -> Iterator[zoo.ClipRecord]:
        """Yield a record for every sentence, in the order of the files.

        Raises:
            ManifestError: if there is no video of GRID, or no alignment where one should be.
        """
        paths = find_videos(videos)
        clips, unused = _match(paths, videos)
        if not clips:
            raise ManifestError(
                f"none of the {len(paths)} videos in {videos} is a clip of 'grid': they are named "
                f"<speaker>/<sentence>, such as s1/bbaf2n.mpg; the first, {paths[0].name}, is "
                f"{unused[0].reason}"
            )
        alignments, not_used = self._find_alignments(videos, clips)
        missing = [
            zoo.LeftOut(id=str(clip), split=self._split(clip), reason="there is no file")
            for clip in alignments
            if clip not in clips
        ]
        self._left_out = [*missing, *unused, *not_used]
        for clip, path in clips.items():
            words = self._words(alignments.get(clip))
            yield zoo.ClipRecord(
                path=path,
                split=self._split(clip),
                events=words,
                events_s=None if words is None else tuple(start_s for start_s, _, _ in words),
                length_s=(self._config.min_seconds, math.inf),
            )

    def _split(self, clip: ClipId) -> Split:
        return self._config.split_of_clip(clip.speaker, str(clip))

    def _find_alignments(
        self, videos: Path, clips: Collection[ClipId]
    ) -> tuple[dict[ClipId, Path], list[zoo.LeftOut]]:
        """Return the alignments of the speakers who have clips, and files that are none."""
        folder = self._config.meta or videos
        try:
            paths = find_files(folder, (SUFFIX,), "alignment")
        except ManifestError as error:
            if self._config.meta is not None:
                raise ManifestError(f"{option('meta')}: {error.message}") from None
            log.warning(
                "no alignment (*%s) below %s: the clips have no words; the option 'meta' may name "
                "another folder",
                *(SUFFIX, folder),
            )
            return {}, []
        found, unused = _match(paths, folder)
        return _assign(found, clips), unused

    def _words(self, path: Path | None) -> tuple[Word, ...] | None:
        if path is None:
            return None
        try:
            return read_words(path)
        except ManifestError as error:
            assert self._left_out is not None
            self._left_out.append(zoo.LeftOut(path=path, reason=str(error)))
            return None


def _match(paths: Iterable[Path], root: Path) -> tuple[dict[ClipId, Path], list[zoo.LeftOut]]:
    """Return the files by clip, and those that are of none or not the first of theirs."""
    files: dict[ClipId, Path] = {}
    unused = []
    for path in paths:
        speaker = _speaker_of(path, root)
        if speaker is None:
            reason = f"not in the folder of a speaker, s1 to s{SPEAKERS[-1]}"
        elif not SENTENCE.fullmatch(path.stem):
            reason = "not named like a sentence"
        elif (clip := ClipId(speaker, path.stem.lower())) in files:
            reason = "another file of the same clip is used"
        else:
            files[clip] = path
            continue
        unused.append(zoo.LeftOut(path=path, reason=reason))
    return files, unused


def _speaker_of(path: Path, root: Path) -> int | None:
    """Return the speaker whose folder is the nearest above a file, the root included."""
    folders = (root.absolute().name, *path.relative_to(root).parts[:-1])
    for name in reversed(folders):
        found = SPEAKER.fullmatch(name)
        if found and int(found[1]) in SPEAKERS:
            return int(found[1])
    return None


def _assign(alignments: Mapping[ClipId, Path], clips: Collection[ClipId]) -> dict[ClipId, Path]:
    """Give every speaker the folder of alignments that has most of the speaker's sentences.

    Folders are said to be exchanged in some downloads.  The names tell: all speakers combine each
    colour, letter and digit once, with other words around them, so that two of them have about 16
    sentences of 1000 in common.
    """
    of_folder, of_speaker = _sentences(alignments), _sentences(clips)
    assigned = {}
    moved, bare = [], []
    for speaker, sentences in of_speaker.items():
        shared = {folder: len(names & sentences) for folder, names in of_folder.items()}
        best = max(shared, key=lambda folder: (shared[folder], folder == speaker), default=speaker)
        if 2 * shared.get(best, 0) < len(sentences):
            bare.append(f"s{speaker}")
            continue
        if best != speaker:
            moved.append(f"those of s{speaker} in s{best}")
        for sentence in sorted(of_folder[best]):
            assigned[ClipId(speaker, sentence)] = alignments[ClipId(best, sentence)]
    if moved:
        log.warning("by their names, alignments lie in another folder: %s", ", ".join(moved))
    if bare:
        log.warning("no alignments for most of the sentences of %s: no words", ", ".join(bare))
    return assigned


def _sentences(clips: Iterable[ClipId]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for clip in clips:
        found.setdefault(clip.speaker, set()).add(clip.sentence)
    return found
