"""Passes over the clips: draws, tokens, logits, and the controls that show what a model uses."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.data.frontend import cut_audio, cut_frames
from zoo.data.store import FeatureStore
from zoo.errors import ManifestError, MediaError
from zoo.evaluation.sample_sources import Draws, Segments
from zoo.models.model import Model
from zoo.models.two_tower import ExtractorEncoder
from zoo.timeline import OffsetGrid, Sample

BATCH = 64
CONTROLS = ("audio of another clip", "audio blanked", "video blanked")
Progress = Callable[[int, int], None]


@dataclass
class Member:
    """A model under evaluation, and its feature store where there is one."""

    model: Model
    store: FeatureStore | None = None
    is_half: bool = False
    """Compute in float16 where the device is a GPU, as the published code does."""
    is_twin: bool = False
    """This second model has the towers of the first, whose tokens it can use."""

    def tokens(self, draw: Sample, segments: Segments | None) -> Segments:
        """Return the tokens ``(S*T, D)`` of the first S segments of a draw, S as the model has."""
        layout = self.model.config.layout
        if self.store is not None:
            audio, vision = self.store.tokens([draw], layout)
            return audio[0].to(self.model.device), vision[0].to(self.model.device)
        assert segments is not None
        return self.first(self.encode(segments, layout.num_segments))

    def encode(self, segments: Segments, num_segments: int) -> Segments:
        """Return the tokens ``(S, T, D)`` of so many segments."""
        audio, vision = (part[:num_segments].to(self.model.device) for part in segments)
        with self._precision():
            tokens = self.model.audio.encode(audio), self.model.vision.encode(vision)
        return tokens[0].float(), tokens[1].float()

    def first(self, encoded: Segments) -> Segments:
        """Return the tokens ``(S*T, D)`` of as many segments as the head looks at."""
        num = self.model.config.layout.num_segments
        return encoded[0][:num].flatten(0, 1), encoded[1][:num].flatten(0, 1)

    def classify(self, audio: Tensor, vision: Tensor) -> Float[Tensor, "B K"]:
        """Run the head on tokens ``(B, S*T, D)``."""
        with self._precision():
            return self.model.classify(audio, vision).float().cpu()

    def _precision(self) -> AbstractContextManager[object]:
        device = self.model.device.type
        if self.is_half and device == "cuda":
            return torch.autocast(device, torch.float16)
        return nullcontext()


@dataclass
class Outcome:
    """What all rounds gave, draw by draw.

    Attributes:
        draws: all of them.
        rounds: the round of every draw.
        logits: of the first model, by condition; the empty name is without a control.
        trust: logits of the second model, where there is one.
    """

    draws: list[Sample] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    logits: dict[str, list[Tensor]] = field(default_factory=dict)
    trust: list[Tensor] = field(default_factory=list)

    @property
    def clips(self) -> np.ndarray:
        """The clip of every draw."""
        return np.array([draw.clip for draw in self.draws])

    @property
    def targets(self) -> Tensor:
        """The true class of every draw."""
        return torch.tensor([draw.target for draw in self.draws])

    def synchronizable(self, grid: OffsetGrid) -> Outcome:
        """Return the draws that can be synchronized, with the classes of their offsets."""
        kept = [i for i, draw in enumerate(self.draws) if draw.target == 1]
        draws = [self.draws[i] for i in kept]
        return Outcome(
            [d.model_copy(update={"target": grid.class_of(d.offset_s)}) for d in draws],
            [self.rounds[i] for i in kept],
            {name: [torch.cat(parts)[kept]] for name, parts in self.logits.items()},
        )


@torch.no_grad()
def run_rounds(
    source: Draws,
    rounds: int,
    member: Member,
    trust: Member | None = None,
    *,
    with_controls: bool = True,
    progress: Progress | None = None,
) -> Outcome:
    """Draw every clip once per round and classify the draws.

    Args:
        source: the draws; clips that turn out to be broken are left out of it.
        rounds: passes over the clips.
        member: the model to evaluate.
        trust: a second model that judges the same draws.
        with_controls: also classify without the right audio or without either stream.
        progress: is told the draws done and the draws in all.

    Raises:
        ManifestError: if not one clip is left.
    """
    outcome = Outcome()
    blank = _blank_tokens(member.model) if with_controls else None
    done, total = 0, rounds * len(source.usable)
    for number in range(rounds):
        # Batches of equal size, so that no clip is alone and lends its audio to itself.
        for chosen in np.array_split(source.usable, -(-len(source.usable) // BATCH) or 1):
            tokens, judged = [], []
            for draw, segments in _samples(source, chosen.tolist(), number):
                own, other = _tokens(member, trust, draw, segments)
                tokens.append(own)
                if other is not None:
                    judged.append(other)
                outcome.draws.append(draw)
                outcome.rounds.append(number)
                if progress is not None:
                    progress(done + len(tokens), total)
            done += len(chosen)
            if tokens:
                _classify(outcome, member, _stack(tokens), blank)
            if trust is not None and judged:
                outcome.trust.append(trust.classify(*_stack(judged)))
    if not outcome.draws:
        reason = next(iter(source.left_out.values()), "the manifest has none")
        raise ManifestError(f"not one clip can be evaluated; the first because: {reason}")
    return outcome


def _tokens(
    member: Member, trust: Member | None, draw: Sample, segments: Segments | None
) -> tuple[Segments, Segments | None]:
    """Return the tokens of a draw for both models, encoded once where they share their towers."""
    if trust is None:
        return member.tokens(draw, segments), None
    if segments is None or not trust.is_twin:
        return member.tokens(draw, segments), trust.tokens(draw, segments)
    encoded = member.encode(segments, len(segments[0]))
    return member.first(encoded), trust.first(encoded)


def _samples(
    source: Draws, chosen: list[int], number: int
) -> Iterator[tuple[Sample, Segments | None]]:
    """Yield the draws of a batch in order, reading a few clips ahead."""
    ahead = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[tuple[int, Future[tuple[Sample, Segments | None]]]] = deque()
        for place, clip in enumerate(chosen):
            waiting.append((clip, pool.submit(source.sample, clip, number)))
            while waiting and (len(waiting) > ahead or place == len(chosen) - 1):
                index, future = waiting.popleft()
                try:
                    yield future.result()
                except MediaError as error:
                    source.leave_out(index, str(error))


def _stack(tokens: list[Segments]) -> Segments:
    audio, vision = zip(*tokens, strict=True)
    return torch.stack(audio), torch.stack(vision)


def _classify(outcome: Outcome, member: Member, tokens: Segments, blank: Segments | None) -> None:
    audio, vision = tokens
    conditions = {"": (audio, vision)}
    if blank is not None:
        silence, still = (t.expand(len(audio), -1, -1) for t in blank)
        pairs = ((audio.roll(1, 0), vision), (silence, vision), (audio, still))
        conditions |= dict(zip(CONTROLS, pairs, strict=True))
    for name, (a, v) in conditions.items():
        outcome.logits.setdefault(name, []).append(member.classify(a, v))


def _blank_tokens(model: Model) -> Segments:
    """Encode silence and a black picture."""
    layout = model.config.layout
    audio, vision = model.audio_frontend, model.vision_frontend
    samples = torch.zeros(round(layout.covered_s * audio.sample_rate_hz)).numpy()
    shape = (round(layout.covered_s * vision.fps), vision.size, vision.size, 3)
    frames = torch.zeros(shape, dtype=torch.uint8).numpy()
    silence = cut_audio(samples, layout.starts_s, layout.segment_s, audio)
    black = cut_frames(frames, layout.starts_s, layout.segment_s, vision)
    silence, black = silence.to(model.device), black.to(model.device)
    return _crop_tokens(model.audio, silence), _crop_tokens(model.vision, black)


def _crop_tokens(tower: ExtractorEncoder, segments: Tensor) -> Float[Tensor, "1 SxT D"]:
    return tower.encode(segments).flatten(0, 1).unsqueeze(0)
