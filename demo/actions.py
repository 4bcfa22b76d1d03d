"""What the page and the API can do with a clip; everything that computes lives in `zoo`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from demo.available_models import find_decoder, find_model
from demo.demo_settings import Settings
from demo.jobs import Steps, without_folders
from demo.model_cache import ModelCache
from demo.upload_checks import require_clip
from demo.upload_folder import results
from zoo.catalog.pull import pull_model
from zoo.errors import ConfigError, ModelError, RepairError
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.prediction import Prediction
from zoo.inference.predictor import ClipAnswer, Predictor
from zoo.inference.reconstruction import Rebuilder, choose_hiding
from zoo.inference.repair import Repair, repair
from zoo.inference.repair import measure as finely
from zoo.media import probe, shift_audio
from zoo.models.model import count_parameters, require_offsets

LARGE = 20_000_000  # weights from which a model on a CPU looks at some crops of a clip only
SOME_CROPS = 12
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Measured:
    """A prediction, and the length of the crops that it is made of, seconds."""

    prediction: Prediction
    window_s: float
    step_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON types, without the folders of this server."""
        return _named(self.prediction.as_dict(), self.prediction.path)


@dataclass(frozen=True)
class Said:
    """What a model says that is not about offsets, and a plot of it where its task draws one."""

    answer: ClipAnswer
    plot: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as JSON types, without the folders of this server."""
        return _named(self.answer.as_dict(), self.answer.path)


@dataclass(frozen=True)
class Repaired:
    """A repaired copy and what was done to make it."""

    repair: Repair
    file: Path

    def as_dict(self) -> dict[str, Any]:
        """Return the repair as JSON types, without the folders of this server."""
        return {**_named(self.repair.as_dict(), self.repair.path), "out": self.file.name}


@dataclass(frozen=True)
class Evidence:
    """A plot of what a prediction rests on, and the same as JSON types."""

    plot: Path
    facts: dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A plot of what a model puts where parts of a clip are hidden, in words, and as JSON types."""

    plot: Path
    words: list[str]
    notes: list[str]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Desynchronized:
    """A copy whose audio was made earlier on purpose, and what the model says to that."""

    file: Path
    shift_s: float
    before: Measured
    after: Measured
    reach_s: float

    @property
    def seen_s(self) -> float:
        """How much earlier the model finds the audio in the copy than in the clip, seconds."""
        return self.after.prediction.refined_s - self.before.prediction.refined_s

    def as_dict(self) -> dict[str, Any]:
        """Return the test as JSON types."""
        return {
            "shift_s": self.shift_s,
            "seen_s": self.seen_s,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
        }


class Actions:
    """The verbs of the demo, for one server."""

    def __init__(self, settings: Settings, cache: ModelCache) -> None:
        self.settings, self.cache = settings, cache

    def predict(self, clip: str | None, model: str, steps: Steps) -> Measured | Said:
        """Ask a model about a clip: its offset, or whatever its task is about.

        Raises:
            ZooError: if the clip or the model cannot be used.
        """
        path = require_clip(clip, self.settings)

        def work(predictor: Predictor) -> Measured | Said:
            if isinstance(predictor, OffsetPredictor):
                return measure(predictor, path, steps)
            return ask(predictor, path, steps)

        return self._work(model, steps, work)

    def compare(self, clip: str | None, models: list[str], steps: Steps) -> list[Measured]:
        """Ask several models about the same clip."""
        if len(set(models)) < len(models):
            raise ConfigError("choose two different models to compare")
        for model in models:
            find_model(model)
        path = require_clip(clip, self.settings)

        def work(predictor: OffsetPredictor) -> Measured:
            return measure(predictor, path, steps)

        return [self._work_on_offset(model, steps, work) for model in models]

    def fix(self, clip: str | None, model: str, steps: Steps, *, force: bool = False) -> Repaired:
        """Write a repaired copy of a clip.

        Raises:
            ZooError: if the clip or the model cannot be used, or something speaks against it.
        """
        path = require_clip(clip, self.settings)
        with results() as folder:
            out = folder / f"{path.stem}.repaired{suffix_of_copy(path)}"

            def work(predictor: OffsetPredictor) -> Repaired:
                steps.phase("measuring, shifting, measuring again")
                try:
                    done = repair(predictor, path, out, force=force, progress=steps)
                except RepairError as error:
                    raise RepairError(without_folders(error.message)) from None
                return Repaired(done, out)

            return self._work_on_offset(model, steps, work)

    def evidence(self, clip: str | None, model: str, steps: Steps) -> Evidence:
        """Show which moments of picture and sound a prediction rests on."""
        from zoo.attribution import attribute
        from zoo.attribution.evidence_plot import draw

        path = require_clip(clip, self.settings)
        with results() as folder:

            def work(predictor: OffsetPredictor) -> Evidence:
                steps.phase("hiding parts of the clip", "masks")
                found = attribute(predictor, path, progress=steps)
                plot = folder / f"{path.stem}.evidence.png"
                draw(found, plot)
                return Evidence(plot, _named(found.as_dict(), path))

            return self._work_on_offset(model, steps, work)

    def desynchronize(
        self, clip: str | None, model: str, shift_s: float | None, steps: Steps
    ) -> Desynchronized:
        """Make the audio of a clip earlier, without re-encoding, and see whether a model notices.

        Args:
            clip: the clip.
            model: asked about the clip and about the copy.
            shift_s: how much earlier, seconds; negative is later.
            steps: told how far the work is.

        Raises:
            ZooError: if the clip or the model cannot be used.
        """
        path = require_clip(clip, self.settings)
        if shift_s is None:
            raise ConfigError("say by how many seconds the audio is to be moved")
        with results() as folder:
            copy = folder / f"{path.stem}.shifted{suffix_of_copy(path)}"

            def work(predictor: OffsetPredictor) -> Desynchronized:
                reach_s = predictor.grid.reach_s
                if not -reach_s <= shift_s <= reach_s:
                    raise ConfigError(f"{model} knows offsets of up to {reach_s:g} s either way")
                shift_audio(path, copy, -shift_s)
                before = measure(predictor, path, steps, "the clip as it is")
                after = measure(predictor, copy, steps, "the shifted copy")
                return Desynchronized(copy, shift_s, before, after, reach_s)

            return self._work_on_offset(model, steps, work)

    def reconstruct(
        self,
        clip: str | None,
        model: str | None,
        hide_audio: float | None,
        hide_vision: float | None,
        seed: int,
        steps: Steps,
    ) -> Drawn:
        """Hide shares of a clip, by default as in training, and draw what a model puts there.

        Raises:
            ZooError: if the clip or the model cannot be used.
        """
        from zoo.inference.reconstruction_plot import draw

        name = find_decoder(model)
        path = require_clip(clip, self.settings)
        with results() as folder:
            steps.phase(f"loading {name}")
            try:
                rebuilder = self.cache.take_as(name, Rebuilder)
                hiding = choose_hiding(
                    rebuilder.trained, audio=hide_audio, vision=hide_vision, seed=seed
                )
                steps.phase("hiding and rebuilding", "segments")
                found = rebuilder.reconstruct(path, hiding)
            finally:
                self.cache.relieve()
            plot = draw(found, folder / f"{path.stem}.rebuilt.png")
            return Drawn(plot, found.lines(), found.notes(), _named(found.as_dict(), path))

    def pull(self, model: str, steps: Steps) -> None:
        """Download a published model.

        Raises:
            ModelError: if this server does not allow that, or it cannot be had.
        """
        if not self.settings.allows_pull:
            raise ModelError("whoever runs this server does not allow downloads of models")
        steps.phase(f"downloading {model}", "bytes")
        pull_model(model, progress=steps)

    def _work(self, model: str, steps: Steps, work: Callable[[Predictor], Answer]) -> Answer:
        find_model(model)
        steps.phase(f"loading {model}")
        try:
            return work(self.cache.take(model))
        finally:
            self.cache.relieve()

    def _work_on_offset(
        self, model: str, steps: Steps, work: Callable[[OffsetPredictor], Answer]
    ) -> Answer:
        def checked(predictor: Predictor) -> Answer:
            require_offsets(predictor.model, model)
            assert isinstance(predictor, OffsetPredictor)
            return work(predictor)

        return self._work(model, steps, checked)


def measure(
    predictor: OffsetPredictor, path: Path, steps: Steps, phase: str = "looking and listening"
) -> Measured:
    """Predict as finely as the model can; see `ask`.

    Raises:
        MediaError: if the clip cannot be read, lacks a stream, or is too short.
    """
    steps.phase(phase)
    every_s = _spacing_s(predictor, path)
    prediction = finely(predictor, path, every_s=every_s, progress=steps)
    _note_spacing(prediction.notes, every_s, len(prediction.windows))
    layout = predictor.model.config.layout
    return Measured(prediction, layout.covered_s, predictor.grid.step_s)


def ask(predictor: Predictor, path: Path, steps: Steps) -> Said:
    """Ask a model about a clip; a large one on a CPU looks at some crops only.

    Raises:
        MediaError: if the clip cannot be read, lacks a stream, or is too short.
    """
    steps.phase("looking and listening")
    every_s = _spacing_s(predictor, path)
    answer = predictor.predict(path, every_s=every_s, progress=steps)
    _note_spacing(answer.notes, every_s, len(answer.windows_s))
    if not predictor.task.draws_answers:
        return Said(answer)
    steps.phase("drawing the answer")
    with results() as folder:
        return Said(answer, predictor.draw(answer, folder / f"{path.stem}.answer.png"))


def _spacing_s(predictor: Predictor, path: Path) -> float | None:
    """Return how far apart the crops are that a slow model looks at, seconds; None for others."""
    if predictor.device.type != "cpu" or count_parameters(predictor.model) <= LARGE:
        return None
    return max(predictor.model.config.layout.step_s, probe(path).duration_s / SOME_CROPS)


def _note_spacing(notes: list[str], every_s: float | None, num_crops: int) -> None:
    if every_s is not None and num_crops > 1:
        notes.append(f"a model of this size looks at {num_crops} crops here, not at all")


def suffix_of_copy(path: Path) -> str:
    """Choose the container of a copy: the clip's own, or Matroska where that keeps no times."""
    return path.suffix if path.suffix and probe(path).low_confidence is None else ".mkv"


def _named(answer: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Name a clip by its file, without folders; what has a "path" is a file to Gradio's client."""
    rest = {name: value for name, value in answer.items() if name != "path"}
    return {"clip": Path(path).name, **rest}


def save_json(answer: dict[str, Any], name: str) -> Path:
    """Write an answer as JSON to a file for download."""
    with results() as folder:
        file = folder / name
        file.write_text(json.dumps(answer, indent=2) + "\n")
        return file
