"""The folder that features are written to: one file per clip, an index, and what went wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo.errors import ConfigError, ManifestError
from zoo.features.feature_settings import Settings
from zoo.features.tensorfile import read_header
from zoo.files import in_utf8, write_whole

SETTINGS, INDEX, QUARANTINE, SUFFIX = (
    "settings.json",
    "index.json",
    "quarantine.csv",
    ".safetensors",
)
LONGEST = 228  # bytes of a name; with two marks, a suffix and that of a part it may have 255


@dataclass(frozen=True)
class NamedClip:
    """A clip, and what its file is to be called, without suffix, where that is free."""

    path: Path
    name: str


class FeatureFolder:
    """``settings.json``, a file per clip, ``index.json``, ``quarantine.csv``.

    Raises:
        ConfigError: if the folder cannot be written, or holds the features of other settings.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings, self.is_ours = folder, settings, not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._check_settings()
            write_whole(folder / SETTINGS, settings.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise ConfigError(f"cannot write {folder}: {error.strerror}") from None

    def _check_settings(self) -> None:
        file = self.folder / SETTINGS
        if file.exists():
            try:
                there = Settings.model_validate_json(file.read_bytes())
            except ValidationError:
                raise ConfigError(
                    f"{file} is not of zoo features, or damaged; choose another folder"
                ) from None
            difference = self.settings.difference(there)
            if difference and any(self.folder.rglob(f"*{SUFFIX}")):
                raise ConfigError(
                    f"{self.folder} holds features of other settings ({difference}); "
                    "choose another folder"
                )
        elif any(self.folder.glob(f"*{SUFFIX}")) or (self.folder / INDEX).exists():
            raise ConfigError(
                f"{self.folder} holds files of another program, or {SETTINGS} was deleted; "
                "choose another folder"
            )

    def place(self, clips: Sequence[NamedClip]) -> dict[Path, Path]:
        """Return the file of every clip.

        Clips of one name are told apart by a hash of where they are, unless the file of that name
        is theirs already.
        """
        shared = Counter(clip.name for clip in clips)
        files = {}
        for clip in clips:
            file = self.folder / f"{_shorten(clip.name)}{SUFFIX}"
            owner = (read_header(file) or {}).get("__metadata__", {}).get("clip")
            own = in_utf8(clip.path.resolve())
            if owner != own and (owner is not None or shared[clip.name] > 1):
                mark = hashlib.sha256(own.encode()).hexdigest()[:8]
                file = file.with_name(f"{file.name.removesuffix(SUFFIX)}-{mark}{SUFFIX}")
            files[clip.path] = file
        return files

    def is_finished(self, file: Path, clip: Path) -> bool:
        """Say whether a file holds the features of a clip that has not changed since."""
        metadata = (read_header(file) or {}).get("__metadata__", {})
        return bool(metadata) and metadata.items() >= identity_of(clip).items()

    def finish(self, failed: Mapping[Path, str], tried: Sequence[Path]) -> int:
        """Write the index of all files, and the list of clips that failed; return its length."""
        try:
            clips = ",\n".join(json.dumps(entry) for entry in self._entries())  # a line each
            settings = self.settings.model_dump_json()
            write_whole(
                self.folder / INDEX, f'{{"settings": {settings},\n"clips": [\n{clips}\n]}}\n'
            )
            return self._write_quarantine(failed, tried)
        except OSError as error:
            raise ManifestError(f"cannot write {self.folder}: {error.strerror}") from None

    def discard(self) -> None:
        """Remove the folder if there is nothing in it but the settings."""
        with suppress(OSError):
            if [path.name for path in self.folder.iterdir()] == [SETTINGS]:
                (self.folder / SETTINGS).unlink()
                if self.is_ours:
                    self.folder.rmdir()

    def _entries(self) -> list[dict[str, Any]]:
        entries = []
        for file in sorted(self.folder.rglob(f"*{SUFFIX}")):
            header = read_header(file) or {}
            metadata = header.pop("__metadata__", {})
            if "clip" not in metadata:
                continue
            entries.append(
                {
                    "file": file.relative_to(self.folder).as_posix(),
                    "clip": metadata["clip"],
                    "num_segments": int(metadata["num_segments"]),
                    "duration_s": float(metadata["duration_s"]),
                    "low_confidence": metadata.get("low_confidence") or None,
                    "notes": metadata.get("notes") or None,
                    "shapes": {name: tensor["shape"] for name, tensor in sorted(header.items())},
                }
            )
        return entries

    def _write_quarantine(self, failed: Mapping[Path, str], tried: Sequence[Path]) -> int:
        file = self.folder / QUARANTINE
        reasons = {}
        if file.exists():
            with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
                reasons = {row["path"]: row["reason"] for row in csv.DictReader(lines)}
        for path in tried:
            reasons.pop(str(path.resolve()), None)
        reasons |= {str(path.resolve()): reason for path, reason in failed.items()}
        if not reasons:
            file.unlink(missing_ok=True)
            return 0
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("path", "reason"))
        writer.writerows(sorted(reasons.items()))
        write_whole(file, text.getvalue())
        return len(reasons)


def _shorten(name: str) -> str:
    """Shorten a name that leaves no room for what is put before and behind it."""
    parent, slash, last = name.rpartition("/")
    if len(os.fsencode(last)) <= LONGEST:
        return name
    mark = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    kept = os.fsencode(last)[: LONGEST - len(mark) - 1].decode(errors="ignore")
    return f"{parent}{slash}{kept}-{mark}"


def identity_of(clip: Path) -> dict[str, str]:
    """Return by what a clip is known to be the same as before: place, size, time of change."""
    try:
        stat = clip.stat()
    except OSError:
        return {"clip": ""}
    return {
        "clip": in_utf8(clip.resolve()),
        "clip_bytes": str(stat.st_size),
        "clip_mtime_ns": str(stat.st_mtime_ns),
    }
