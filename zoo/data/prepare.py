"""From a folder of videos to a manifest, with an account of everything that is not in it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.contracts import ClipRecord, DatasetAdapter, LeftOut
from zoo.data.find import find_passed_over
from zoo.data.manifest import (
    SPLITS,
    Manifest,
    Progress,
    Split,
    build_manifest,
    require_listed_once,
)
from zoo.data.reencode import reencode_all
from zoo.data.same_file import once_each
from zoo.errors import ManifestError

Bar = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar with a title."""


@dataclass(frozen=True)
class Prepared:
    """A manifest, and what is not in it.

    Attributes:
        manifest: the clips that can be used.
        missing: listed clips without a file.
        rejected: files of clips that cannot be used.
        unused: files that are no clip of the data set, or are passed over.
        is_listed: whether the data set has an official list, so that clips can be missing.
    """

    manifest: Manifest
    missing: list[LeftOut]
    rejected: list[LeftOut]
    unused: list[LeftOut]
    is_listed: bool

    @property
    def left_out(self) -> dict[str, list[LeftOut]]:
        """Everything that is not in the manifest, by what it is."""
        return {"missing": self.missing, "rejected": self.rejected, "unused": self.unused}

    def counts(self) -> dict[Split, dict[str, int]]:
        """Count, per split, the official clips: all, missing, rejected, and in the manifest."""
        missing = Counter(clip.split for clip in self.missing)
        rejected = Counter(clip.split for clip in self.rejected)
        clips = Counter(clip.split for clip in self.manifest.clips)
        return {
            split: {
                "official": missing[split] + rejected[split] + clips[split],
                "missing": missing[split],
                "rejected": rejected[split],
                "clips": clips[split],
            }
            for split in SPLITS
        }

    def classes(self) -> dict[str, int]:
        """Count labelled clips, classes, and classes without a training clip."""
        clips = self.manifest.clips
        trained = {name for clip in clips if clip.split == "train" for name in clip.all_labels}
        found = {name for clip in clips for name in clip.all_labels}
        classes = set(self.manifest.classes) or found
        return {
            "labelled": sum(bool(clip.all_labels) for clip in clips),
            "classes": len(classes),
            "without_training_clip": len(classes - trained),
        }


def prepare(
    adapter: DatasetAdapter,
    videos: Path,
    out: Path,
    *,
    bar: Bar,
    reencode_to: Path | None = None,
    workers: int | None = None,
) -> Prepared:
    """Find the clips of a data set, re-encode them if asked to, and write their manifest.

    Args:
        adapter: knows the data set.
        videos: folder of the videos.
        out: the manifest to write; what is not in it goes to ``list_path(out)``.
        bar: opens a progress bar.
        reencode_to: folder for clips at 25 fps, short side 256, 16 kHz mono.
        workers: threads that probe and processes that re-encode; by default one per processor.

    Raises:
        ManifestError: if the folder holds no clip of the data set, or none that can be used, or if
            the data set lists a file twice.
    """
    records = list(adapter.scan(videos))
    require_listed_once(records)  # before hours of re-encoding
    left_out = adapter.left_out()
    rejected: list[LeftOut] = []
    if left_out is None:  # else the official list says what is a clip
        records, twice = once_each(records)
        rejected = [LeftOut(path=r.path, split=r.split, reason=reason) for r, reason in twice]
    splits = {record.path: record.split for record in records}
    if reencode_to is not None and records:
        with bar("re-encoding") as progress:
            made, failed = reencode_all(
                records, videos, reencode_to, workers=workers, progress=progress
            )
        rejected += _rejected(failed.items(), splits)
        splits |= {record.path: record.split for record in made}
        _require_any(records, made, failed)
        records = made
    with bar("probing") as progress:
        manifest, refused = build_manifest(records, out, progress, workers, adapter.classes())
    rejected += _rejected(refused, splits)
    prepared = Prepared(
        manifest=manifest,
        missing=[clip for clip in left_out or [] if clip.path is None],
        rejected=rejected,
        unused=[clip for clip in left_out or [] if clip.path is not None]
        + find_passed_over(videos),
        is_listed=left_out is not None,
    )
    write_left_out(prepared, list_path(out))
    return prepared


def kind_of(clip: LeftOut) -> str:
    """Return a reason without the names and numbers of one clip, so that clips can be grouped."""
    reason = clip.reason
    if clip.path is not None:
        for name in (str(clip.path), clip.path.name):
            reason = reason.replace(name, "").strip()
    return reason.partition(":")[0]


def list_path(manifest: Path) -> Path:
    """Return where the list of everything that is not in a manifest lies."""
    return manifest.with_name(f"{manifest.stem}.left_out.csv")


def write_left_out(prepared: Prepared, path: Path) -> None:
    """Write everything that is not in the manifest as CSV; remove an old list if there is nothing.

    Raises:
        ManifestError: if the file cannot be written.
    """
    rows = [
        (what, clip.split, clip.id, clip.path, clip.reason)
        for what, clips in prepared.left_out.items()
        for clip in clips
    ]
    part = path.with_name(path.name + ".part")
    try:
        if not rows:
            path.unlink(missing_ok=True)
            return
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(("what", "split", "id", "path", "reason"))
            writer.writerows(rows)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ManifestError(f"cannot write {path}: {error.strerror}") from error


def _rejected(reasons: Iterable[tuple[Path, str]], splits: dict[Path, Split]) -> list[LeftOut]:
    return [LeftOut(path=path, split=splits[path], reason=why) for path, why in reasons]


def _require_any(
    records: list[ClipRecord], made: list[ClipRecord], failed: dict[Path, str]
) -> None:
    if not made:
        path, reason = next(iter(failed.items()))
        raise ManifestError(
            f"none of the {len(records)} clips can be re-encoded; the first, {path}: {reason}"
        )
