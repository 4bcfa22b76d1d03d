"""A model at work: a file of any rate and size in, an offset in seconds and words out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.catalog.entries import BY_CATALOG, judge_of, resolve
from zoo.catalog.model_folder import load_model
from zoo.contracts import Precision
from zoo.errors import ConfigError
from zoo.inference.changepoints import OverTime, follow
from zoo.inference.estimate import combine
from zoo.inference.offset_search import Found, search
from zoo.inference.synchronizability import Judge, load_judge
from zoo.inference.windows import (
    Plan,
    Progress,
    SegmentEncoder,
    Streams,
    classify,
    encode_crops,
    find_streams,
    plan_windows,
)
from zoo.models.device import find_device
from zoo.models.model import Model, require_offsets
from zoo.models.modules import Head
from zoo.timeline import LATTICE_TOLERANCE, count_steps, describe_offset

# A clip can be synchronized from the first probability on, and cannot below the second: there the
# shipped models err on 2 of 100 clips that can (docs/repair.md).
SYNCHRONIZABLE, HOPELESS = 0.5, 0.25


@dataclass(frozen=True)
class WindowPrediction:
    """The offset of one crop of a clip.

    Attributes:
        start_s: start of the crop, seconds.
        offset_s: most probable offset, seconds.
        probability: of that offset.
    """

    start_s: float
    offset_s: float
    probability: float


@dataclass(frozen=True)
class Prediction:
    """How far the audio of a clip is off.

    Attributes:
        path: the clip.
        model: the model's name.
        offset_s: most probable offset, seconds; positive means the audio is early.
        meaning: the offset in words.
        probability: of that offset.
        refined_s: the offset between the points of the grid, seconds.
        confidence: probability that the offset is within one class of ``refined_s``.
        distribution: probability of every offset of the grid, by offset in seconds.
        synchronizability: probability that sound and picture can be synchronized at all; None
            without a model that says so.
        duration_s: the stretch that sound and picture share, seconds.
        over_time: how the offset changes along the clip.
        windows: the crops the answer is put together from.
        low_confidence: why the file's own clock cannot be trusted, or None.
        notes: what else one should know about how the clip was read.
    """

    path: str
    model: str
    offset_s: float
    meaning: str
    probability: float
    refined_s: float
    confidence: float
    distribution: dict[float, float]
    synchronizability: float | None
    duration_s: float
    over_time: OverTime
    windows: list[WindowPrediction]
    low_confidence: str | None
    notes: list[str]

    @property
    def can_be_synchronized(self) -> bool:
        """False if a model says clearly that this is not so."""
        return self.synchronizability is None or self.synchronizability >= HOPELESS

    @property
    def verdict(self) -> str:
        """Say in words whether sound and picture can be synchronized; empty if nobody knows."""
        if self.synchronizability is None:
            return ""
        if not self.can_be_synchronized:
            return "sound and picture cannot be synchronized"
        if self.synchronizability < SYNCHRONIZABLE:
            return "it is not clear whether sound and picture can be synchronized"
        return "sound and picture can be synchronized"

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON types."""
        answer = asdict(self)
        answer["distribution"] = [
            {"offset_s": offset, "probability": p} for offset, p in self.distribution.items()
        ]
        return answer


class Predictor:
    """A model with its front ends, ready for files."""

    def __init__(
        self,
        model: Model,
        name: str,
        device: torch.device | str = "cpu",
        judge: Judge | None = None,
    ) -> None:
        require_offsets(model, name)
        self.device = find_device(device)
        self.model, self.name, self.judge = model.to(self.device).eval(), name, judge
        self._judge_is_twin = judge is not None and judge.reads_tokens_of(self.model)

    @property
    def can_refine(self) -> bool:
        """Whether the head scores offsets between its classes."""
        assert self.model.head is not None
        return type(self.model.head).logits_at is not Head.logits_at

    def predict(
        self,
        path: str | Path,
        step_s: float | None = None,
        *,
        audio: str | Path | None = None,
        audio_track: int | None = None,
        every_s: float | None = None,
        max_offset_s: float | None = None,
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
            every_s: distance between crops, seconds; by default one starts with every segment.
            max_offset_s: first search so far on either side for the offset, seconds; by default
                the answer is one of the model's own offsets.
            progress: is told how many crops are done, and of how many.

        Raises:
            MediaError: if the clip cannot be read, lacks a stream, or is too short.
            ConfigError: if the head cannot answer on a finer grid.
        """
        offsets_s = self._offsets(step_s)
        for name, seconds in (("every_s", every_s), ("max_offset_s", max_offset_s)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise ConfigError(f"{name}={seconds:g} is not above 0 seconds, or not finite")
        streams = find_streams(Path(path), Path(audio) if audio else None, audio_track)
        encoder = SegmentEncoder(self.model, streams)
        found = None
        if max_offset_s is not None and max_offset_s > self.model.config.grid.reach_s:
            found = search(encoder, max_offset_s, progress)
        shift_s = self._shift_to(found)
        plan = plan_windows(streams, self.model, self.name, every_s, shift_s)
        prediction = self._predict(encoder, plan, offsets_s, found, progress)
        if self.judge is not None and not self._judge_is_twin:
            trust = self.judge.probability(
                streams, every_s=every_s, shift_s=shift_s, progress=progress
            )
            prediction = replace(prediction, synchronizability=trust)
        if max_offset_s is not None:
            prediction.notes.extend(self._reach_notes(found, max_offset_s))
        return prediction

    def _reach_notes(self, found: Found | None, max_offset_s: float) -> list[str]:
        reach_s = self.model.config.grid.reach_s if found is None else found.reach_s
        if reach_s > max_offset_s + LATTICE_TOLERANCE and found is None:
            return [f"the model looks at all offsets up to {reach_s:g} s either way in any case"]
        if reach_s > max_offset_s - self.model.config.grid.step_s:
            return []
        return [f"the clip is too short for offsets beyond {reach_s:.1f} s either way"]

    def _shift_to(self, found: Found | None) -> float:
        """Return the shift that brings what was found to the middle of the grid; 0 if it is in."""
        grid = self.model.config.grid
        edge_s = 2 * grid.step_s
        if found is None or grid.min_s + edge_s <= found.offset_s <= grid.max_s - edge_s:
            return 0.0
        return found.offset_s

    def _predict(
        self,
        encoder: SegmentEncoder,
        plan: Plan,
        offsets_s: tuple[float, ...],
        found: Found | None,
        progress: Progress | None,
    ) -> Prediction:
        starts_s: list[float] = []
        scored, judged = [], []
        for crops in encode_crops(encoder, plan, progress):
            starts_s += crops.starts_s
            scored.append(classify(self.model, crops.audio, crops.vision, offsets_s))
            if self.judge is not None and self._judge_is_twin:
                judged.append(self.judge.classify(crops))
        probabilities = torch.cat(scored)  # (W, O)
        class_step_s = self.model.config.grid.step_s
        total_s = tuple(round(offset_s + plan.shift_s, 6) for offset_s in offsets_s)
        estimate = combine(probabilities, total_s, class_step_s)
        best, mean = estimate.best, estimate.distribution
        start_s, end_s = encoder.streams.shared_s(plan.shift_s)
        over_time = follow(
            np.asarray(starts_s),
            probabilities,
            total_s,
            window_s=self.model.config.layout.covered_s,
            end_s=end_s,
            start_s=start_s if plan.shift_s else 0.0,
            class_step_s=class_step_s,
        )
        trust = 1.0 if found is None else found.probability
        return Prediction(
            path=str(encoder.streams.video),
            model=self.name,
            offset_s=total_s[best],
            meaning=describe_offset(total_s[best]),
            probability=float(mean[best]),
            refined_s=estimate.refined_s,
            confidence=estimate.confidence * trust,
            distribution={o: float(p) for o, p in zip(total_s, mean, strict=True)},
            synchronizability=self.judge.combine(judged) if self.judge and judged else None,
            duration_s=round(end_s, 6),
            over_time=over_time,
            windows=[
                WindowPrediction(start_s, total_s[int(p.argmax())], float(p.max()))
                for start_s, p in zip(starts_s, probabilities, strict=True)
            ],
            low_confidence=encoder.streams.low_confidence,
            notes=_notes(plan, encoder.streams),
        )

    def _offsets(self, step_s: float | None) -> tuple[float, ...]:
        grid = self.model.config.grid
        if step_s is None:
            return grid.offsets_s
        if not 0 < step_s <= grid.step_s:
            raise ConfigError(f"a step of {step_s:g} s is not between 0 and {grid.step_s:g} s")
        count = count_steps(grid.max_s - grid.min_s, 0.0, step_s)
        return tuple(round(grid.min_s + i * step_s, 6) for i in range(count))


def _notes(plan: Plan, streams: Streams) -> list[str]:
    if not plan.padded_s:
        return []
    return [
        f"the clip lasts {streams.common_s:.2f} s, less than the crop that the model looks at: "
        f"{plan.padded_s:.2f} s of its last picture and of silence were added"
    ]


def load(
    name: str | Path,
    device: torch.device | str = "cpu",
    trust: str | Path | None = BY_CATALOG,
    precision: Precision = "fp32",
) -> Predictor:
    """Load a model by catalog name or folder.

    Args:
        name: a model that predicts offsets.
        device: where it computes.
        trust: a second model, which says whether a clip can be synchronized at all; by default the
            one that the catalog names for this model, if any; None or ``"none"`` leaves it out.
        precision: of the towers; bf16 is faster where the device can multiply it.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it does not predict offsets, or ``trust`` answers something else.
    """
    folder = resolve(name)
    judging = judge_of(name, trust)
    model, judge = load_model(folder), None
    model.precision = precision
    if judging is not None:
        judge = load_judge(judging, device)
        judge.model.precision = precision
    return Predictor(model, str(name), device, judge)
