"""A model that finds offsets at work: search, refinement, change over time, a second model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.data.rule import find_offset
from zoo.errors import ConfigError, NothingToMeasureError
from zoo.inference.changepoints import follow
from zoo.inference.crops import ClipEncoder, Crops, classify, encode_crops
from zoo.inference.estimate import combine
from zoo.inference.offset_search import Found, search
from zoo.inference.prediction import Prediction, WindowPrediction, unlike, with_repeats
from zoo.inference.predictor import Predictor, notes_on, require_seconds
from zoo.inference.synchronizability import SynchronizabilityPredictor
from zoo.inference.windows import Plan, Progress, find_streams, plan_windows
from zoo.models.calibration import unfamiliarity
from zoo.models.model import Model, require_offsets
from zoo.models.modules import Head
from zoo.timeline import LATTICE_TOLERANCE, count_steps, describe_offset

FINE_STEP_S = 0.04  # finer brings nothing: docs/predict.md


class OffsetPredictor(Predictor):
    """A model that finds offsets, ready for files, with or without a second model beside it.

    Args:
        model: the model.
        name: what to call it.
        device: where it computes.
        synchronizability: says whether a clip can be synchronized at all.

    Raises:
        ConfigError: if the model finds no offsets.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        device: torch.device | str = "cpu",
        synchronizability: SynchronizabilityPredictor | None = None,
    ) -> None:
        require_offsets(model, name)
        super().__init__(model, name, device)
        assert self.task.grid is not None
        self.grid, self.synchronizability = self.task.grid, synchronizability
        self._shares_tokens = synchronizability is not None and synchronizability.reads_tokens_of(
            self.model
        )

    @property
    def can_refine(self) -> bool:
        """Whether the head scores offsets between its classes."""
        assert self.model.head is not None
        return type(self.model.head).logits_at is not Head.logits_at

    def draw(
        self,
        answer: Prediction,
        path: Path,
        *,
        audio: str | Path | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
    ) -> Path:
        """Draw the offset over time; see `Predictor.draw`."""
        from zoo.inference.offset_plot import draw

        return draw(answer, path, self.model.config.layout.covered_s)

    def predict(
        self,
        path: str | Path,
        step_s: float | None = None,
        *,
        audio: str | Path | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
        every_s: float | None = None,
        max_offset_s: float | None = None,
        explain: bool = False,
        progress: Progress | None = None,
    ) -> Prediction:
        """Predict the offset of a clip from crops along all of it, in bounded memory.

        The crops' distributions are averaged, each weighted by how far it is from uniform: a crop
        without an event has nothing to say. A clip of 3 s or more that is shorter than a crop is
        filled up with its last picture and silence.

        Args:
            path: the clip.
            step_s: distance of the offsets to choose from, seconds; by default the model's own
                classes. A finer step takes a head that can score any offset.
            audio: take the sound from this file, whose time 0 is the clip's.
            audio_track: which audio track, from 1; by default the first.
            video_track: which video track, from 1; by default the film.
            every_s: distance between crops, seconds; by default as in `Predictor.predict`.
            max_offset_s: first search so far on either side for the offset, seconds; by default
                the answer is one of the model's own offsets.
            explain: also ask the rule without learning (`zoo.data.rule`), of what was read.
            progress: is told how many crops are done, and of how many.

        Raises:
            MediaError: if the clip cannot be read, lacks a stream, or is too short.
            NothingToMeasureError: if no crop has anything to hear and to see.
            ConfigError: if the head cannot answer on a finer grid.
        """
        offsets_s = self._offsets(step_s)
        require_seconds(every_s=every_s, max_offset_s=max_offset_s)
        streams = find_streams(Path(path), Path(audio) if audio else None, audio_track, video_track)
        encoder = ClipEncoder(self.model, streams)
        found = None
        if max_offset_s is not None and max_offset_s > self.grid.reach_s:
            found = search(encoder, self.grid, max_offset_s, progress)
        shift_s = self._shift_to(found)
        plan = plan_windows(streams, self.model, self.name, every_s, shift_s)
        prediction = self._predict(encoder, plan, offsets_s, found, progress)
        asks_second = self.synchronizability is not None and not self._shares_tokens
        if asks_second and prediction.repeats is None:
            assert self.synchronizability is not None
            probability = self.synchronizability.probability(
                streams, every_s=every_s, shift_s=shift_s, progress=progress
            )
            prediction = replace(prediction, synchronizability=probability)
        if max_offset_s is not None:
            prediction.notes.extend(self._reach_notes(found, max_offset_s))
        return self._explained(prediction, encoder, found) if explain else prediction

    def _explained(
        self, prediction: Prediction, encoder: ClipEncoder, found: Found | None
    ) -> Prediction:
        """Put beside a prediction what the rule says, within what the model searched."""
        try:
            rule = find_offset(encoder.content, self._reach_s(found))
        except NothingToMeasureError as error:
            prediction.notes.append(str(error))
            return prediction
        return replace(prediction, rule=rule)

    def _reach_s(self, found: Found | None) -> float:
        return max(self.grid.reach_s, 0.0 if found is None else found.reach_s)

    def _reach_notes(self, found: Found | None, max_offset_s: float) -> list[str]:
        reach_s = self.grid.reach_s if found is None else found.reach_s
        if reach_s > max_offset_s + LATTICE_TOLERANCE and found is None:
            return [f"the model looks at all offsets up to {reach_s:g} s either way in any case"]
        if reach_s > max_offset_s - self.grid.step_s:
            return []
        return [f"the clip is too short for offsets beyond {reach_s:.1f} s either way"]

    def _shift_to(self, found: Found | None) -> float:
        """Return the shift that brings what was found to the middle of the grid; 0 if it is in."""
        grid, edge_s = self.grid, 2 * self.grid.step_s
        if found is None or grid.min_s + edge_s <= found.offset_s <= grid.max_s - edge_s:
            return 0.0
        return found.offset_s

    def _predict(
        self,
        encoder: ClipEncoder,
        plan: Plan,
        offsets_s: tuple[float, ...],
        found: Found | None,
        progress: Progress | None,
    ) -> Prediction:
        scored = self._score(encoder, plan, offsets_s, progress)
        total_s, between_s = (
            tuple(round(offset_s + plan.shift_s, 6) for offset_s in each)
            for each in (offsets_s, self._between(offsets_s))
        )
        known = self.model.calibration
        temperature = known.temperature(len(scored.starts_s)) if known is not None else 1.0
        estimate = combine(scored.probabilities, total_s, self.grid.step_s, temperature)
        best, mean = estimate.best, estimate.distribution
        start_s, end_s = encoder.streams.shared_s(plan.shift_s)
        over_time = follow(
            np.asarray(scored.starts_s),
            scored.between,
            between_s,
            window_s=self.model.config.layout.covered_s,
            end_s=end_s,
            start_s=start_s if plan.shift_s else 0.0,
            class_step_s=self.grid.step_s,
            temperature=temperature,
        )
        prediction = Prediction(
            path=str(encoder.streams.video),
            model=self.name,
            offset_s=total_s[best],
            meaning=(
                describe_offset(total_s[best]) if over_time.drift is None else over_time.meaning
            ),
            probability=float(mean[best]),
            refined_s=estimate.refined_s,
            confidence=estimate.confidence * (1.0 if found is None else found.probability),
            distribution={o: float(p) for o, p in zip(total_s, mean, strict=True)},
            synchronizability=scored.synchronizability,
            duration_s=round(end_s, 6),
            over_time=over_time,
            windows=[
                WindowPrediction(start_s, total_s[int(p.argmax())], float(p.max()))
                for start_s, p in zip(scored.starts_s, scored.probabilities, strict=True)
            ],
            low_confidence=encoder.streams.low_confidence,
            notes=[
                *notes_on(plan, encoder),
                *_left_out(len(plan.firsts), len(scored.starts_s)),
                *unlike(self.name, scored.unfamiliarity),
            ],
            unfamiliarity=scored.unfamiliarity,
        )
        reach_s = self._reach_s(found)
        repeating = encoder.content.repeating(2 * reach_s)
        return with_repeats(prediction, repeating, reach_s) if repeating else prediction

    def _score(
        self,
        encoder: ClipEncoder,
        plan: Plan,
        offsets_s: tuple[float, ...],
        progress: Progress | None,
    ) -> _Scored:
        """Score the crops that hold something to measure.

        Raises:
            NothingToMeasureError: if there is none.
        """
        starts_s: list[float] = []
        scored, between, second, distances = [], [], [], []
        familiarity = self.model.familiarity
        between_s = self._between(offsets_s)
        for crops in encode_crops(encoder, plan, progress, with_events=True):
            starts_s += crops.starts_s
            scored.append(self._classify(crops, offsets_s))
            between.append(
                scored[-1] if between_s == offsets_s else self._classify(crops, between_s)
            )
            if familiarity is not None:
                distances.append(familiarity.distance(crops.audio, crops.vision))
            if self.synchronizability is not None and self._shares_tokens:
                second.append(self.synchronizability.classify(crops))
        kept = encoder.content.counted(
            [(start_s, start_s - plan.shift_s) for start_s in starts_s], encoder.layout.covered_s
        )
        if not kept:
            raise encoder.nothing_to_measure()
        probability = None
        if self.synchronizability is not None and second:
            probability = self.synchronizability.combine([torch.cat(second)[kept]])
        return _Scored(
            [starts_s[i] for i in kept],
            torch.cat(scored)[kept],
            torch.cat(between)[kept],
            probability,
            unfamiliarity(torch.cat(distances)[kept]) if distances else None,
        )

    def _classify(self, crops: Crops, offsets_s: tuple[float, ...]) -> Float[Tensor, "W O"]:
        own = offsets_s == self.grid.offsets_s
        return classify(self.model, crops, None if own else offsets_s)

    def _between(self, offsets_s: tuple[float, ...]) -> tuple[float, ...]:
        """Return the offsets at which changes are looked for: finer, where the head can."""
        is_coarse = len(offsets_s) == self.grid.num_classes
        return self._offsets(FINE_STEP_S) if self.can_refine and is_coarse else offsets_s

    def _offsets(self, step_s: float | None) -> tuple[float, ...]:
        grid = self.grid
        if step_s is None:
            return grid.offsets_s
        if not 0 < step_s <= grid.step_s:
            raise ConfigError(f"a step of {step_s:g} s is not between 0 and {grid.step_s:g} s")
        count = count_steps(grid.max_s - grid.min_s, 0.0, step_s)
        return tuple(round(grid.min_s + i * step_s, 6) for i in range(count))


@dataclass(frozen=True)
class _Scored:
    """What the models say to the crops that count.

    Attributes:
        starts_s: of each crop, seconds.
        probabilities: of the offsets to choose from ``(W, O)``.
        between: of finer ones, where the head can score them ``(W, O')``.
        synchronizability: that the clip can be synchronized, if a second model was asked.
        unfamiliarity: how unlike the clips that the model knows, if that can be told.
    """

    starts_s: list[float]
    probabilities: Float[Tensor, "W O"]
    between: Float[Tensor, "W P"]
    synchronizability: float | None
    unfamiliarity: float | None


def _left_out(num: int, num_kept: int) -> list[str]:
    """Say how many crops do not count."""
    if num == num_kept:
        return []
    return [
        f"{num - num_kept} of {num} crops do not count: silence, no event in the sound, or no "
        "change in the picture"
    ]
