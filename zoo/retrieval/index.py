"""The embeddings of the files of a folder, kept, and brought up to date at every use."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zoo.catalog.entries import zoo_home
from zoo.contracts import Modality
from zoo.errors import ConfigError, option
from zoo.retrieval.embedding import KIND, ClipEmbedder, MissingStreamError, embed_clips

FORMAT = "avsync-zoo retrieval 1"
EMBEDDINGS, ROOM = "embeddings", "retrieval"
SAVE_EVERY_S, MOST_SAVING = 10.0, 20  # writing takes at most a twentieth of the time
Progress = Callable[[int, int], None]


class Stamp(NamedTuple):
    """By what a file is known to be the same as before."""

    num_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Entry:
    """What is known of one file.

    Attributes:
        stamp: of the file when it was read.
        vector: its embedding ``(E,)``, or None.
        problem: why there is none.
        has_stream: whether it has the stream at all.
    """

    stamp: Stamp
    vector: np.ndarray | None = None
    problem: str | None = None
    has_stream: bool = True


@dataclass(frozen=True)
class Update:
    """What has changed in an index.

    Attributes:
        num_new: files that were read: new, or changed since.
        num_gone: files that are not there any more.
    """

    num_new: int
    num_gone: int


class Index:
    """One modality of the files of a folder, as a safetensors file; whole, or as it was before.

    Args:
        home: folder of the index.
        modality: of the embeddings.
        folder: of the clips.
        model: name, for messages.
        fingerprint: of the model (`ClipEmbedder.fingerprint`).

    Raises:
        ConfigError: if the file is damaged, or belongs to another model or folder of clips.
    """

    def __init__(
        self, home: Path, modality: Modality, folder: Path, model: str, fingerprint: str
    ) -> None:
        self.file = home / f"{KIND[modality]}.safetensors"
        self.modality, self.folder = modality, folder
        self._facts = {
            "format": FORMAT,
            "model": model,
            "fingerprint": fingerprint,
            "folder": str(folder.resolve()),
        }
        self.entries: dict[str, Entry] = {}
        if home.exists() and not home.is_dir():
            raise ConfigError(f"{home} is a file; {option('index')} takes a folder")
        if self.file.exists():
            self._read()

    def _read(self) -> None:
        try:
            with safe_open(self.file, "np") as opened:
                facts = opened.metadata() or {}
                vectors = opened.get_tensor(EMBEDDINGS)
            self._refuse_others(facts)
            rows = json.loads(facts["files"])
            entries = {row.pop("path"): _entry(row, vectors) for row in rows}
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(
                f"{self.file} is damaged, or no index of zoo retrieve ({type(error).__name__})",
                f"delete it, or choose another {option('index')}",
            ) from None
        self.entries = entries

    def _refuse_others(self, facts: dict[str, str]) -> None:
        for key, what in (("format", "format"), ("fingerprint", "model")):
            if facts.get(key) != self._facts[key]:
                name = facts.get("model" if key == "fingerprint" else key, "unknown")
                raise ConfigError(
                    f"{self.file} is the index of another {what} ('{name}')",
                    f"choose another {option('index')}",
                )
        other = Path(facts.get("folder", ""))
        is_other = str(other) != self._facts["folder"]
        if is_other and other.is_dir():  # a folder that was moved takes its index along
            raise ConfigError(
                f"{self.file} is the index of another folder ({other})",
                f"choose another {option('index')}",
            )

    def update(
        self,
        files: Sequence[Path],
        embedder: ClipEmbedder,
        workers: int,
        progress: Progress | None = None,
    ) -> Update:
        """Read the files that are new or have changed, and forget those that are gone.

        What is done is kept when it is interrupted.

        Raises:
            ConfigError: if the index cannot be written.
        """
        names = {file: file.relative_to(self.folder).as_posix() for file in files}
        stamps = {file: stamp_of(file) for file in files}
        kept = {
            name: self.entries[name]
            for file, name in names.items()
            if name in self.entries and self.entries[name].stamp == stamps[file]
        }
        num_gone = len(self.entries.keys() - set(names.values()))
        todo = [file for file in files if names[file] not in kept]
        if not todo and not num_gone and self.file.exists():
            return Update(0, 0)
        self.entries = kept
        saver = _Saver(self.save)
        saver.save()  # whether it can be written is known before hours of reading
        try:
            jobs = [(file, self.modality) for file in todo]
            found = embed_clips(embedder, jobs, workers)
            for done, (file, _, given) in enumerate(found, start=1):
                if isinstance(given, np.ndarray):
                    entry = Entry(stamps[file], given)
                else:
                    has_stream = not isinstance(given, MissingStreamError)
                    entry = Entry(stamps[file], None, str(given), has_stream)
                self.entries[names[file]] = entry
                saver.save_if_due()
                if progress is not None:
                    progress(done, len(todo))
        finally:
            self.save()
        return Update(len(todo), num_gone)

    def entry_of(self, file: Path) -> Entry:
        """Return what is known of a file below the folder of the clips."""
        return self.entries[file.relative_to(self.folder).as_posix()]

    def save(self) -> None:
        """Write the file.

        Raises:
            ConfigError: if it cannot be written.
        """
        names = sorted(self.entries)
        vectors = [v for name in names if (v := self.entries[name].vector) is not None]
        width = len(vectors[0]) if vectors else 0
        stacked = np.stack(vectors) if vectors else np.zeros((0, width), np.float32)
        rows, count = [], 0
        for name in names:
            entry = self.entries[name]
            row: dict[str, Any] = {"path": name, **entry.stamp._asdict()}
            if entry.vector is None:
                row |= {"problem": entry.problem, "has_stream": entry.has_stream}
            else:
                row["row"] = count
                count += 1
            rows.append(row)
        metadata = {**self._facts, "files": json.dumps(rows)}
        part = self.file.with_name(f".{self.file.name}.{os.getpid()}.part")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(save({EMBEDDINGS: stacked}, metadata))
            part.replace(self.file)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise ConfigError(
                f"cannot write the index {self.file}: {error.strerror}",
                f"choose another {option('index')}",
            ) from None


def _entry(row: dict[str, Any], vectors: np.ndarray) -> Entry:
    stamp = Stamp(int(row["num_bytes"]), int(row["mtime_ns"]))
    if "row" in row:
        return Entry(stamp, vectors[row["row"]])
    return Entry(stamp, None, str(row["problem"]), bool(row["has_stream"]))


def stamp_of(file: Path) -> Stamp:
    """Return size and time of change; zeros if the file has just gone."""
    try:
        stat = file.stat()
    except OSError:
        return Stamp(0, 0)
    return Stamp(stat.st_size, stat.st_mtime_ns)


def default_home(folder: Path, fingerprint: str) -> Path:
    """Return where the index of a folder and a model is kept unless somebody says otherwise."""
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return zoo_home() / ROOM / f"{folder.resolve().name or 'root'}-{place}-{fingerprint[:8]}"


class _Saver:
    """Saves now and then, so that little is lost and little time is spent."""

    def __init__(self, save: Callable[[], None]) -> None:
        self._save, self._next = save, 0.0

    def save(self) -> None:
        began = time.monotonic()
        self._save()
        ended = time.monotonic()
        self._next = ended + max(SAVE_EVERY_S, MOST_SAVING * (ended - began))

    def save_if_due(self) -> None:
        if time.monotonic() >= self._next:
            self.save()
