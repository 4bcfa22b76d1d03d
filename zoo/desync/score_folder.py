"""The folder a run leaves behind, and goes on in after an interruption."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo.desync.score_settings import Settings
from zoo.desync.scores import ClipScore, to_csv
from zoo.errors import ConfigError
from zoo.files import write_whole

SETTINGS, CLIPS, SUMMARY, PLOT = "settings.json", "clips.csv", "summary.json", "offsets.png"


class ResultFolder:
    """``settings.json``, ``clips.csv`` (grows while the run goes on), ``summary.json``, a plot.

    Raises:
        ConfigError: if the folder cannot be written, or holds the scores of other settings.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim(settings)
            self.finished = {clip.name: clip for clip in self._read_rows()}
        except OSError as error:
            raise ConfigError(f"cannot write {folder}: {error.strerror}") from None

    def _claim(self, settings: Settings) -> None:
        file = self.folder / SETTINGS
        if file.exists():
            try:
                there = Settings.model_validate_json(file.read_text())
            except (ValidationError, UnicodeDecodeError):
                raise ConfigError(
                    f"{file} is not of zoo desync, or damaged; choose another folder"
                ) from None
            difference = settings.difference(there)
            if difference:
                raise ConfigError(
                    f"{self.folder} holds the scores of other settings ({difference}); "
                    "choose another folder"
                )
        elif (self.folder / CLIPS).exists():
            raise ConfigError(
                f"{self.folder / CLIPS} is of another program, or {SETTINGS} was deleted; "
                "choose another folder"
            )
        else:
            write_whole(file, settings.model_dump_json(indent=2) + "\n")

    def _read_rows(self) -> list[ClipScore]:
        """Read the rows that are whole; a process that was killed may leave half a row."""
        file, rows = self.folder / CLIPS, []
        if file.exists():
            with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
                for row in csv.DictReader(lines):
                    try:
                        rows.append(ClipScore.parse(row))
                    except ValueError:
                        continue
        return rows

    def start(self, clips: Sequence[ClipScore]) -> None:
        """Keep these rows and forget all others."""
        write_whole(self.folder / CLIPS, to_csv(clips, header=True))

    def append(self, clips: Sequence[ClipScore]) -> None:
        """Add rows."""
        with (self.folder / CLIPS).open(
            "a", newline="", encoding="utf-8", errors="surrogateescape"
        ) as file:
            file.write(to_csv(clips, header=False))

    def finish(self, clips: Sequence[ClipScore], summary: dict[str, Any]) -> None:
        """Write all rows in order, the summary and the plot."""
        from zoo.desync.histogram import draw

        self.start(clips)
        write_whole(self.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
        draw(summary, self.folder / PLOT)
