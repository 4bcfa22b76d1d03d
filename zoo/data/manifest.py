"""Manifests: a Parquet table of clips, one row each."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from zoo.contracts import ClipRecord
from zoo.data import row_rules
from zoo.errors import ManifestError, MediaError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FIXED_SAMPLE = ("fixed_offset_s", "fixed_start_s")
CLASSES = ("labels", "events")
CLASSES_KEY = b"classes"  # of the Parquet file's metadata
LATER_COLUMNS = (*FIXED_SAMPLE, *CLASSES)
"""Columns that older manifests lack; the hash covers them only where they say something."""
Progress = Callable[[int, int], None]
"""Called with the number of clips done and the number of all."""

log = logging.getLogger(__name__)


class Event(NamedTuple):
    """Something that happens in a clip: when it begins and ends, seconds, and its class."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Clip:
    """One row of a manifest.

    Attributes:
        path: the file, absolute.
        split: what the clip is for.
        duration_s: the stretch from time 0 that both streams cover, seconds.
        video_fps: frames per second (the mean, for a variable rate).
        width: of a frame as shown, pixels.
        height: of a frame as shown, pixels.
        sample_rate_hz: audio samples per second.
        channels: audio channels.
        label: class of the clip, where known.
        labels: all classes of the clip, where given; ``all_labels`` answers either way.
        events: what happens when, where known.
        events_s: onsets of audible and visible events, seconds, where known.
        fixed_offset_s: offset at which a protocol evaluates the clip, seconds, where given.
        fixed_start_s: start of the video crop that goes with it, seconds.
    """

    path: Path
    split: Split
    duration_s: float
    video_fps: float
    width: int
    height: int
    sample_rate_hz: int
    channels: int
    label: str | None = None
    events_s: tuple[float, ...] | None = None
    fixed_offset_s: float | None = None
    fixed_start_s: float | None = None
    labels: tuple[str, ...] | None = None
    events: tuple[Event, ...] | None = None

    def has(self, column: str) -> bool:
        """Say whether a column holds something."""
        return bool(self.all_labels if column == "labels" else getattr(self, column))

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Every class of the clip: ``labels``, else the one ``label``, else none."""
        if self.labels is not None:
            return self.labels
        return (self.label,) if self.label else ()


@dataclass(frozen=True)
class Manifest:
    """Clips of a data set, in order."""

    clips: tuple[Clip, ...]
    folder: Path
    """Paths below this folder are stored relative to it, so that it can be moved."""
    classes: tuple[str, ...] = ()
    """All classes of the data set in the order of its own list, where it has one."""

    def select(self, split: Split) -> Manifest:
        """Return the clips of one split.

        Raises:
            ManifestError: if there is none.
        """
        clips = tuple(clip for clip in self.clips if clip.split == split)
        if not clips:
            held = sorted({clip.split for clip in self.clips})
            raise ManifestError(
                f"the manifest in {self.folder} has no clip in split '{split}' "
                f"(it has {', '.join(held) or 'none at all'})"
            )
        return replace(self, clips=clips)

    @cached_property
    def sha256(self) -> str:
        """Hash of all rows and of the sizes of the files; moving the folder does not change it."""
        digest = hashlib.sha256()
        for clip in self.clips:
            size = clip.path.stat().st_size if clip.path.exists() else None
            row = [self._stored_path(clip.path), *_hashed(clip), size]
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def _stored_path(self, path: Path) -> str:
        if path.is_relative_to(self.folder):
            return path.relative_to(self.folder).as_posix()
        return str(path)

    def _row(self, clip: Clip) -> dict[str, Any]:
        events = clip.events and [event._asdict() for event in clip.events]
        return {**vars(clip), "path": self._stored_path(clip.path), "events": events}

    def write(self, path: Path) -> None:
        """Write the manifest as Parquet.

        Raises:
            ManifestError: if the file cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [self._row(clip) for clip in self.clips]
        schema = _schema()
        if self.classes:
            schema = schema.with_metadata({CLASSES_KEY: json.dumps(self.classes)})
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise ManifestError(f"cannot write the manifest {path}: {_reason(error)}") from error

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            ManifestError: if it is missing, not a manifest, empty, or all of its clips are gone.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(path).absolute()
        if not path.is_file():
            raise ManifestError(f"there is no manifest at {path}; make one with: zoo data prepare")
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(f"{path} is not a Parquet file that can be read") from error
        classes = _to_classes((table.schema.metadata or {}).get(CLASSES_KEY), path)
        for name in LATER_COLUMNS:
            if name not in table.column_names:
                nothing = pa.nulls(table.num_rows, _schema().field(name).type)
                table = table.append_column(name, nothing)
        missing = sorted(set(_schema().names) - set(table.column_names))
        if missing:
            raise ManifestError(
                f"{path} is not a manifest: it lacks the columns {', '.join(missing)}"
            )
        try:
            rows = table.select(_schema().names).cast(_schema()).to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise ManifestError(f"{path} is not a manifest: {_reason(error)}") from error
        manifest = cls(tuple(_to_clip(row, path) for row in rows), path.parent, classes)
        manifest._check_files(path)
        return manifest

    def _check_files(self, path: Path) -> None:
        if not self.clips:
            raise ManifestError(f"the manifest {path} holds no clip")
        gone = [clip.path for clip in self.clips if not clip.path.exists()]
        if len(gone) == len(self.clips):
            raise ManifestError(
                f"none of the {len(gone)} clips of {path} exists any more (first: {gone[0]}); "
                "was the manifest moved without its clips?"
            )
        if gone:
            log.warning("%d of %d clips of %s are gone", len(gone), len(self.clips), path)


def build_manifest(
    records: Iterable[ClipRecord],
    out: Path,
    progress: Progress | None = None,
    workers: int | None = None,
    classes: tuple[str, ...] = (),
) -> tuple[Manifest, list[tuple[Path, str]]]:
    """Probe every clip and write a manifest of those that have both streams.

    Args:
        records: what a dataset adapter knows about the clips.
        out: the manifest to write.
        progress: is told how far it is.
        workers: threads that probe; by default one per processor.
        classes: all classes of the data set, in the order of its own list.

    Returns:
        The manifest, and the clips that were left out with the reason for each.

    Raises:
        ManifestError: if a file is listed twice, no clip is left, or the manifest cannot be
            written.
    """
    from zoo.media.apart import reading_apart

    records = list(records)
    if not records:
        raise ManifestError("there are no clips to put into a manifest")
    require_listed_once(records)
    if out.is_dir():
        raise ManifestError(f"cannot write the manifest {out}: it is a folder")
    clips: list[Clip] = []
    rejected: list[tuple[Path, str]] = []
    manifest = Manifest((), out.absolute().parent, classes)
    with reading_apart(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for done, (record, answer) in enumerate(
            zip(records, pool.map(_probe, records), strict=True), start=1
        ):
            wrong = row_rules.describe_name(manifest._stored_path(record.path.absolute()))
            if isinstance(answer, Clip) and not wrong:
                clips.append(answer)
            else:
                rejected.append((record.path, answer if isinstance(answer, str) else wrong or ""))
            if progress:
                progress(done, len(records))
    if not clips:
        path, reason = rejected[0]
        raise ManifestError(
            f"none of the {len(rejected)} clips can be used; the first, {path}: {reason}"
        )
    manifest = replace(manifest, clips=tuple(clips))
    manifest.write(out)
    return manifest, rejected


def common_classes(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """Return the classes that several manifests list alike; none, with a warning, where not."""
    labelled = [m for m in manifests if m.classes or any(clip.all_labels for clip in m.clips)]
    found = dict.fromkeys(manifest.classes for manifest in labelled)
    if len(found) > 1:
        log.warning(
            "the manifests do not list the same classes (%s): together they list none, and a task "
            "takes the classes of the training clips",
            ", ".join(str(len(classes)) for classes in found),
        )
    return next(iter(found)) if len(found) == 1 else ()


def require_listed_once(records: Iterable[ClipRecord]) -> None:
    """Refuse a file that is listed twice: it would be learnt from and tested on.

    Raises:
        ManifestError: naming the first such file and the splits it is in.
    """
    splits: dict[str, list[Split]] = {}
    for record in records:
        splits.setdefault(os.path.abspath(record.path), []).append(record.split)
    for path, found in splits.items():
        if len(found) > 1:
            raise ManifestError(
                f"{path} is listed {len(found)} times (in {', '.join(found)}): "
                "a file is one clip of one split"
            )


def _probe(record: ClipRecord) -> Clip | str:
    from zoo.media import probe, require_streams

    try:
        info = probe(record.path)
        require_streams(info)
    except MediaError as error:
        return str(error)
    wrong_length = row_rules.describe_length(info.common_s, record.length_s)
    if wrong_length:
        return wrong_length
    events = None
    if record.events is not None:
        events = row_rules.close_events((Event(*event) for event in record.events), info.common_s)
    wrong = row_rules.describe_classes(
        record.labels, events, info.common_s
    ) or row_rules.describe_onsets(record.events_s, info.common_s)
    if wrong:
        return wrong
    assert info.video is not None
    assert info.audio is not None
    return Clip(
        path=record.path.absolute(),
        split=record.split,
        duration_s=info.common_s,
        video_fps=info.video.fps,
        width=info.video.width,
        height=info.video.height,
        sample_rate_hz=info.audio.sample_rate_hz,
        channels=info.audio.channels,
        label=record.label,
        events_s=record.events_s,
        fixed_offset_s=record.fixed_offset_s,
        fixed_start_s=record.fixed_start_s,
        labels=record.labels,
        events=events,
    )


def _hashed(clip: Clip) -> list[Any]:
    """Return what the hash covers; later columns without a word leave it what it was before."""
    row = dict(list(vars(clip).items())[1:])
    if row["labels"] == (clip.label,):  # no more than ``label`` says already
        row["labels"] = None
    for names in (FIXED_SAMPLE, CLASSES):
        if all(row[name] is None for name in names):
            row = {name: value for name, value in row.items() if name not in names}
    return list(row.values())


def _to_clip(row: dict[str, Any], path: Path) -> Clip:
    if row["path"] is None or row["split"] not in SPLITS or row["duration_s"] is None:
        raise ManifestError(f"{path} has a row without path, split or duration: {row}")
    events_s, labels, events = row["events_s"], row["labels"], row["events"]
    if None in (labels or ()) or any(None in event.values() for event in events or ()):
        raise ManifestError(f"{path} has a row with an empty label or event: {row}")
    clip = Clip(
        **{
            **row,
            "path": path.parent / row["path"],
            "events_s": None if events_s is None else tuple(events_s),
            "labels": None if labels is None else tuple(labels),
            "events": None if events is None else tuple(Event(**event) for event in events),
        }
    )
    wrong = row_rules.describe_classes(clip.labels, clip.events, clip.duration_s)
    if wrong:
        raise ManifestError(f"{row['path']} in {path} {wrong}")
    return clip


def _to_classes(stored: bytes | None, path: Path) -> tuple[str, ...]:
    """Return the classes that a manifest lists beside its rows."""
    try:
        classes = json.loads(stored or b"[]")
    except ValueError:
        classes = None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ManifestError(f"{path} is damaged: its list of classes cannot be read")
    return tuple(classes)


def _schema() -> Any:
    import pyarrow as pa

    event = {"start_s": pa.float64(), "end_s": pa.float64(), "label": pa.string()}
    return pa.schema(
        {
            "path": pa.string(),
            "split": pa.string(),
            "duration_s": pa.float64(),
            "video_fps": pa.float64(),
            "width": pa.int32(),
            "height": pa.int32(),
            "sample_rate_hz": pa.int32(),
            "channels": pa.int32(),
            "label": pa.string(),
            "events_s": pa.list_(pa.float64()),
            "fixed_offset_s": pa.float64(),
            "fixed_start_s": pa.float64(),
            "labels": pa.list_(pa.string()),
            "events": pa.list_(pa.struct(event)),
        }
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
