"""The crops of a clip one after another, encoded in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.contracts import Modality
from zoo.data.clip_reader import ClipReader
from zoo.data.content import Content
from zoo.data.frontend import block_segments
from zoo.errors import NothingToMeasureError
from zoo.inference.windows import Plan, Progress, Streams
from zoo.models.model import Model
from zoo.models.segments import Segments, Tokens


@dataclass(frozen=True)
class Crops:
    """Some crops of a clip.

    Attributes:
        starts_s: where they begin, seconds.
        audio: tokens of their audio, on the CPU.
        vision: tokens of their video, on the CPU.
    """

    starts_s: list[float]
    audio: Tokens
    vision: Tokens

    def first(self, num_segments: int) -> Crops:
        """Return the beginning of every crop."""
        return Crops(self.starts_s, self.audio.first(num_segments), self.vision.first(num_segments))


class ClipEncoder:
    """Reads segments of a clip and encodes them, a block of them at a time."""

    def __init__(self, model: Model, streams: Streams) -> None:
        self.model, self.streams = model, streams
        self.layout = model.config.layout
        self.content = Content(streams.audio_s[0])  # of what has been read so far
        self._reader = ClipReader(
            model.vision_frontend,
            model.audio_frontend,
            audio_track=streams.audio_track,
            io=model.io,
            content=self.content,
            video_track=streams.video_track,
        ).going_on()
        self.block = block_segments(model.vision_frontend, model.io.vision.segment_s)

    @property
    def notes(self) -> list[str]:
        """What was assumed or left out in reading the clip so far."""
        return list(dict.fromkeys([*self.streams.notes, *self._reader.notes]))

    def read(self, modality: Modality, first: int, last: int, shift_s: float = 0.0) -> Tensor:
        """Read segments ``first`` to ``last - 1`` of one modality, ``shift_s`` earlier."""
        path = self.streams.audio if modality == "audio" else self.streams.video
        step_s, segment_s = self.layout.step_s, self.layout.segment_s
        starts_s = [round(i * step_s - shift_s, 6) for i in range(first, last)]
        return self._reader.read_segments(modality, path, starts_s, segment_s)

    def has_events(self, first: int, shift_s: float = 0.0) -> bool:
        """Say whether a crop that has been read holds anything to hear and to see.

        Args:
            first: its first segment.
            shift_s: how much earlier the audio is read, seconds.
        """
        start_s = first * self.layout.step_s
        return self.content.has_events(start_s, start_s - shift_s, self.layout.covered_s)

    def nothing_to_measure(self) -> NothingToMeasureError:
        """Say why no offset can be found in what was read."""
        reason = self.content.lack()
        return NothingToMeasureError(
            f"{self.streams.video} has no offset to find: {reason}", reason=reason
        )


@dataclass
class _Run:
    """Segments in a row, from ``first`` to ``stop - 1``: as they were read, or their tokens."""

    first: int
    stop: int
    values: Tensor
    is_encoded: bool = False


class SlidingTokens:
    """Tokens of one modality around the crops at hand; what lies before them is let go.

    What no crop asks for is read, but not encoded.

    Args:
        encoder: of the clip.
        modality: which one.
        shift_s: how much earlier it is read, seconds.

    Raises:
        ConfigError: if the encoder looks at both modalities at once.
    """

    def __init__(self, encoder: ClipEncoder, modality: Modality, shift_s: float = 0.0) -> None:
        self._encoder, self._modality, self._shift_s = encoder, modality, shift_s
        self._part = encoder.model.separable.modality(modality)
        self._runs: list[_Run] = []

    def read(self, firsts: Sequence[int]) -> None:
        """Read crops that begin with these segments; the earliest one must never go back."""
        begin, end = self._span(firsts)
        self._runs = [run for run in self._runs if run.stop > begin]
        known = self._runs[-1].stop if self._runs else begin
        for first in range(known, end, self._encoder.block):
            stop = min(end, first + self._encoder.block)
            segments = self._encoder.read(self._modality, first, stop, self._shift_s)
            self._runs.append(_Run(first, stop, segments))

    def crops(self, firsts: Sequence[int]) -> Tokens:
        """Encode crops that have been read; the tokens are on the CPU."""
        begin, end = self._span(firsts)
        runs = [run for run in self._runs if run.first < end and run.stop > begin]
        for run in runs:
            if not run.is_encoded:
                segments = run.values.to(self._encoder.model.device)
                run.values, run.is_encoded = self._part.encode(segments).cpu(), True
        held = torch.cat([run.values for run in runs])  # (M, T*P, D)
        num_segments = self._encoder.layout.num_segments
        places = np.asarray(firsts)[:, None] - runs[0].first + np.arange(num_segments)  # (W, S)
        return Tokens.of_segments(held[places].flatten(0, 1), num_segments, self._part.tokens)

    def _span(self, firsts: Sequence[int]) -> tuple[int, int]:
        return min(firsts), max(firsts) + self._encoder.layout.num_segments


class _Shared:
    """Crops of an encoder that sees each modality by itself: every segment is encoded once."""

    def __init__(self, encoder: ClipEncoder, shift_s: float) -> None:
        self._audio = SlidingTokens(encoder, "audio", shift_s)
        self._vision = SlidingTokens(encoder, "vision")

    def read(self, firsts: Sequence[int]) -> None:
        self._audio.read(firsts)
        self._vision.read(firsts)

    def encode(self, firsts: Sequence[int]) -> tuple[Tokens, Tokens]:
        return self._audio.crops(firsts), self._vision.crops(firsts)


class _Whole:
    """Crops of an encoder that looks at both modalities at once."""

    def __init__(self, encoder: ClipEncoder, shift_s: float) -> None:
        self._encoder, self._shift_s = encoder, shift_s
        self._segments: dict[int, Segments] = {}  # of crops, by their first one

    def read(self, firsts: Sequence[int]) -> None:
        self._segments = {first: self._crop(first) for first in firsts}

    def _crop(self, first: int) -> Segments:
        span = first, first + self._encoder.layout.num_segments
        return Segments(
            audio=self._encoder.read("audio", *span, self._shift_s),
            vision=self._encoder.read("vision", *span),
        )

    def encode(self, firsts: Sequence[int]) -> tuple[Tokens, Tokens]:
        crops = [self._segments.pop(first) for first in firsts]
        segments = Segments(
            audio=torch.stack([crop.audio for crop in crops]),
            vision=torch.stack([crop.vision for crop in crops]),
        )
        model = self._encoder.model
        audio, vision = model.encoder.encode_many(segments.to(model.device))
        return audio.to("cpu"), vision.to("cpu")


@torch.no_grad()
def encode_crops(
    encoder: ClipEncoder,
    plan: Plan,
    progress: Progress | None = None,
    *,
    with_events: bool = False,
) -> Iterator[Crops]:
    """Yield all crops, a block at a time.

    A separable encoder encodes segments that neighbouring crops share once; any other one encodes
    every crop by itself.  Only a block is held.

    Args:
        encoder: of the clip.
        plan: where crops start.
        progress: is told how many crops are done, and of how many.
        with_events: leave out those in which nothing is to be heard or to be seen; they are read,
            but the model does not run.

    Raises:
        MediaError: if the clip is damaged.
    """
    is_separable = encoder.model.encoder.is_separable
    crops = (_Shared if is_separable else _Whole)(encoder, plan.shift_s)
    new_segments = plan.step if is_separable else encoder.layout.num_segments  # that a crop adds
    per_block = max(1, encoder.block // new_segments)
    if progress is not None:
        progress(0, len(plan.firsts))
    for done in range(0, len(plan.firsts), per_block):
        firsts = plan.firsts[done : done + per_block]
        crops.read(firsts)
        kept = [f for f in firsts if not with_events or encoder.has_events(f, plan.shift_s)]
        if kept:
            starts_s = [round(first * encoder.layout.step_s, 6) for first in kept]
            yield Crops(starts_s, *crops.encode(kept))
        if progress is not None:
            progress(done + len(firsts), len(plan.firsts))


@torch.no_grad()
def run_head(model: Model, crops: Crops) -> Float[Tensor, "W K"]:
    """Return the outputs of the head for crops, on the CPU."""
    outputs = model.answer(crops.audio.to(model.device), crops.vision.to(model.device))
    return outputs.float().cpu()


@torch.no_grad()
def classify(
    model: Model, crops: Crops, offsets_s: tuple[float, ...] | None = None
) -> Float[Tensor, "W O"]:
    """Return the head's distribution over its classes, or over any offsets, on the CPU."""
    if offsets_s is None or model.head is None:
        return run_head(model, crops).softmax(1)
    audio, vision = crops.audio.to(model.device), crops.vision.to(model.device)
    logits = model.head.logits_at(audio, vision, torch.tensor(offsets_s, device=model.device))
    return logits.float().cpu().softmax(1)
