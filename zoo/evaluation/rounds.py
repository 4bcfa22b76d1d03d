"""Passes over the clips: samples, outputs, and the controls that show what a model uses."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.data.store import FeatureStore
from zoo.errors import ManifestError, MediaError
from zoo.evaluation.members import Member, Pair, SeparableMember
from zoo.evaluation.sample_sources import Samples
from zoo.media.apart import reading_apart
from zoo.models.model import Model
from zoo.models.segments import Segments
from zoo.timeline import Sample

CONTROLS = ("audio of another clip", "audio blanked", "video blanked")
Progress = Callable[[float, int], None]


@dataclass
class Outcome:
    """What all rounds gave, sample by sample.

    Attributes:
        samples: all of them.
        rounds: the round of every sample.
        outputs: of the first model, by condition; the empty name is without a control.
        beside: outputs of the second model, where there is one.
        model: the first one.
        store: tokens of all clips by the first model, where there are some.
    """

    samples: list[Sample] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    beside: list[Tensor] = field(default_factory=list)
    model: Model | None = None
    store: FeatureStore | None = None

    @property
    def clips(self) -> np.ndarray:
        """The clip of every sample."""
        return np.array([sample.clip for sample in self.samples])

    @property
    def answers(self) -> list[Any]:
        """The right answer of every sample, for `Task.collate`."""
        return [sample.target for sample in self.samples]

    def output(self, condition: str = "") -> Float[Tensor, "N K"]:
        """Return the outputs of the first model for all samples."""
        return torch.cat(self.outputs[condition])

    @property
    def controls(self) -> dict[str, Float[Tensor, "N K"]]:
        """Outputs of the first model under every control."""
        return {name: torch.cat(parts) for name, parts in self.outputs.items() if name}


@torch.no_grad()
def run_rounds(
    source: Samples,
    rounds: int,
    member: Member,
    second: Member | None = None,
    *,
    with_controls: bool = True,
    progress: Progress | None = None,
) -> Outcome:
    """Sample every clip once per round and answer for the samples.

    Args:
        source: the samples; clips that turn out to be broken are left out of it.
        rounds: passes over the clips.
        member: the model to evaluate.
        second: a second model that answers for the same samples.
        with_controls: also answer without the right audio or without either stream.
        progress: is told the samples done and the samples in all.

    Raises:
        ManifestError: if not one clip is left.
    """
    outcome = Outcome(model=member.model, store=member.store)
    blank = member.blank() if with_controls else None
    batch = min(m.batch for m in (member, second) if m is not None)
    done, total = 0, rounds * len(source.usable)
    for number in range(rounds):
        # Batches of equal size, so that no clip is alone and lends its audio to itself.
        for chosen in np.array_split(source.usable, -(-len(source.usable) // batch) or 1):
            kept, others = [], []
            for sample, segments in _samples(source, chosen.tolist(), number):
                own, other = _keep(member, second, sample, segments)
                kept.append(own)
                others += [] if other is None else [other]
                outcome.samples.append(sample)
                outcome.rounds.append(number)
                if progress is not None:
                    progress(done + len(kept), total)
            done += len(chosen)
            if kept:
                _answer(outcome, member, _stack(kept), blank)
            if second is not None and others:
                outcome.beside.append(second.answer(*_stack(others)))
    if not outcome.samples:
        reason = next(iter(source.left_out.values()), "the manifest has none")
        raise ManifestError(f"not one clip can be evaluated; the first because: {reason}")
    return outcome


def average_readings(
    outcome: Outcome, readings: int, average: Callable[[Tensor], Tensor]
) -> Outcome:
    """Take the answers for several readings of a sample together, frames or views of a clip.

    Args:
        outcome: of as many passes per round.
        readings: of a sample.
        average: makes outputs ``(N, K)`` of those of R readings ``(R, N, K)``.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for place, (sample, number) in enumerate(zip(outcome.samples, outcome.rounds, strict=True)):
        groups.setdefault((number // readings, sample.clip), []).append(place)
    outputs = {
        condition: [average(torch.cat(parts)[places][:, None]) for places in groups.values()]
        for condition, parts in outcome.outputs.items()
    }
    return replace(
        outcome,
        samples=[outcome.samples[places[0]] for places in groups.values()],
        rounds=[number for number, _ in groups],
        outputs=outputs,
    )


def _keep(
    member: Member, second: Member | None, sample: Sample, segments: Segments | None
) -> tuple[Pair, Pair | None]:
    """Return what both models need of a sample, encoded once where they share their encoder."""
    if second is None:
        return member.keep(sample, segments), None
    if segments is not None and second.is_twin and isinstance(member, SeparableMember):
        audio, vision = member.encode(segments)
        first, other = (m.num_segments for m in (member, second))
        return (audio[:, :first], vision[:, :first]), (audio[:, :other], vision[:, :other])
    return member.keep(sample, segments), second.keep(sample, segments)


def _samples(
    source: Samples, chosen: list[int], number: int
) -> Iterator[tuple[Sample, Segments | None]]:
    """Yield the samples of a batch in order, reading a few clips ahead."""
    ahead = min(4, os.cpu_count() or 1)
    with reading_apart(), ThreadPoolExecutor(ahead) as pool:
        waiting: deque[tuple[int, Future[tuple[Sample, Segments | None]]]] = deque()
        for place, clip in enumerate(chosen):
            waiting.append((clip, pool.submit(source.sample, clip, number)))
            while waiting and (len(waiting) > ahead or place == len(chosen) - 1):
                index, future = waiting.popleft()
                try:
                    yield future.result()
                except MediaError as error:
                    source.leave_out(index, str(error))


def _stack(kept: list[Pair]) -> Pair:
    audio, vision = zip(*kept, strict=True)
    return torch.cat(audio), torch.cat(vision)


def _answer(outcome: Outcome, member: Member, given: Pair, blank: Pair | None) -> None:
    audio, vision = given
    conditions = {"": given}
    if blank is not None:
        silence, still = (part.expand(len(audio), *part.shape[1:]) for part in blank)
        pairs = ((audio.roll(1, 0), vision), (silence, vision), (audio, still))
        conditions |= dict(zip(CONTROLS, pairs, strict=True))
    for name, pair in conditions.items():
        outcome.outputs.setdefault(name, []).append(member.answer(*pair))
