"""A model at work: a file of any rate and size in, what its task says of it out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.errors import ConfigError, option
from zoo.inference.crops import ClipEncoder, encode_crops, run_head
from zoo.inference.windows import Plan, Progress, find_streams, plan_windows
from zoo.models.device import find_device
from zoo.models.model import Model
from zoo.models.task import Answer, Task


@dataclass(frozen=True)
class ClipAnswer:
    """What a model says about a clip.

    Attributes:
        path: the clip.
        model: the model's name.
        task: what it was asked.
        answer: what the task makes of the outputs.
        duration_s: the stretch that sound and picture share, seconds.
        windows_s: start of each crop that was looked at, seconds.
        low_confidence: why the file's own clock cannot be trusted, or None.
        notes: what else one should know about how the clip was read.
    """

    path: str
    model: str
    task: str
    answer: Answer
    duration_s: float
    windows_s: list[float]
    low_confidence: str | None
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as JSON types."""
        facts = {name: value for name, value in vars(self).items() if name != "answer"}
        return {**facts, **self.answer.facts}

    def columns(self) -> dict[str, str]:
        """Return the answer as columns of a table (`zoo.inference.batch_table`)."""
        return {"answer": "; ".join(self.lines()), "facts": json.dumps(self.answer.facts)}

    def lines(self) -> list[str]:
        """Return the answer in words."""
        return list(self.answer.words)


class Predictor:
    """A model with its front ends, ready for files.

    Raises:
        ConfigError: if the model has no head.
    """

    def __init__(self, model: Model, name: str, device: torch.device | str = "cpu") -> None:
        self.task: Task = require_task(model, name)
        self.device = find_device(device)
        self.model, self.name = model.to(self.device).eval(), name

    def predict(
        self,
        path: str | Path,
        *,
        audio: str | Path | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
        every_s: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Say what the model makes of a clip, from crops along all of it, in bounded memory.

        A clip of 3 s or more that is shorter than a crop is filled up with its last picture and
        silence.

        Args:
            path: the clip.
            audio: take the sound from this file, whose time 0 is the clip's.
            audio_track: which audio track, from 1; by default the first.
            video_track: which video track, from 1; by default the film.
            every_s: distance between crops, seconds; by default one starts with every segment, or
                with every half crop if the encoder looks at both modalities at once.
            progress: is told how many crops are done, and of how many.

        Returns:
            A `ClipAnswer`; an offset predictor returns more.

        Raises:
            MediaError: if the clip cannot be read, lacks a stream, or is too short.
        """
        require_seconds(every_s=every_s)
        streams = find_streams(Path(path), Path(audio) if audio else None, audio_track, video_track)
        layout = self.model.config.layout
        plan = plan_windows(streams, self.model, self.name, every_s)
        if self.task.covers_clips:
            plan = plan.to_end(streams, layout)
        starts_s: list[float] = []
        outputs = []
        encoder = ClipEncoder(self.model, streams)
        for crops in encode_crops(encoder, plan, progress):
            starts_s += crops.starts_s
            outputs.append(run_head(self.model, crops))
        end_s = round(streams.shared_s()[1], 6)
        said = self.task.answer_clip(torch.cat(outputs), starts_s, layout.covered_s, end_s)
        return ClipAnswer(
            path=str(streams.video),
            model=self.name,
            task=self.task.spec.name,
            answer=said,
            duration_s=end_s,
            windows_s=starts_s,
            low_confidence=streams.low_confidence,
            notes=notes_on(plan, encoder),
        )

    def draw(
        self,
        answer: Any,
        path: Path,
        *,
        audio: str | Path | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
    ) -> Path:
        """Draw what was said about a clip.

        Args:
            answer: of `predict`.
            path: plot to write; its suffix chooses the format.
            audio: as given to `predict`.
            audio_track: as given to `predict`.
            video_track: as given to `predict`.

        Raises:
            ConfigError: if answers of this task cannot be drawn.
            MediaError: if the plot cannot be written.
        """
        if not self.task.draws_answers:
            raise ConfigError(f"'{self.name}' {self.task.says}, which cannot be drawn along a clip")
        from zoo.inference.answer_plot import draw

        tracks = {"audio_track": audio_track, "video_track": video_track}
        return draw(answer, self.task, path, audio=audio, **tracks)


def require_task(model: Model, name: str) -> Task:
    """Return what a model was trained to answer.

    Raises:
        ConfigError: if it has no head.
    """
    if model.head is None or model.task is None:
        raise no_head(name)
    return model.task


def no_head(name: str | Path) -> ConfigError:
    """Say that a model cannot answer anything."""
    return ConfigError(f"'{name}' has no head yet", f"train it: {option('stage')} 2")


def require_seconds(**given: float | None) -> None:
    """Refuse times that are not above 0 or not finite.

    Raises:
        ConfigError: naming the first one.
    """
    for name, seconds in given.items():
        if seconds is not None and not 0 < seconds < math.inf:
            raise ConfigError(f"{name}={seconds:g} is not above 0 seconds, or not finite")


def notes_on(plan: Plan, encoder: ClipEncoder) -> list[str]:
    """Say what one should know about how a clip was read."""
    if not plan.padded_s:
        return encoder.notes
    return [
        *encoder.notes,
        f"the clip lasts {encoder.streams.common_s:.2f} s, less than the crop that the model looks "
        f"at: {plan.padded_s:.2f} s of its last picture and of silence were added",
    ]
