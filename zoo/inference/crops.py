"""The crops of a clip one after another, encoded in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

Encode = Callable[[Sequence[int]], tuple[Tokens, Tokens]]  # of crops by their first segments


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

    def nothing_to_measure(self) -> NothingToMeasureError:
        """Say why no offset can be found in what was read."""
        reason = self.content.lack()
        return NothingToMeasureError(
            f"{self.streams.video} has no offset to find: {reason}", reason=reason
        )

    def tokens(
        self, modality: Modality, first: int, last: int, shift_s: float = 0.0
    ) -> Float[Tensor, "M TxP D"]:
        """Encode segments of one modality by itself; the tokens are on the CPU.

        Raises:
            ConfigError: if the encoder looks at both modalities at once.
        """
        part = self.model.separable.modality(modality)
        encoded = []
        for begin in range(first, last, self.block):
            segments = self.read(modality, begin, min(last, begin + self.block), shift_s)
            encoded.append(part.encode(segments.to(self.model.device)).cpu())
        return torch.cat(encoded)


class SlidingTokens:
    """Tokens of one modality around the crops at hand; what lies before them is let go.

    Args:
        encoder: of the clip.
        modality: which one.
        shift_s: how much earlier it is read, seconds.
    """

    def __init__(self, encoder: ClipEncoder, modality: Modality, shift_s: float = 0.0) -> None:
        self._encoder, self._modality, self._shift_s = encoder, modality, shift_s
        self._declared = encoder.model.separable.modality(modality).tokens
        self._first = 0
        self._held: Float[Tensor, "M TxP D"] = torch.empty(0)

    def crops(self, firsts: Sequence[int]) -> Tokens:
        """Return crops that begin with these segments; the earliest one must never go back."""
        num_segments = self._encoder.layout.num_segments
        begin, end = min(firsts), max(firsts) + num_segments
        kept = self._held[begin - self._first :]
        known = begin + len(kept)
        if known < end:
            new = self._encoder.tokens(self._modality, known, end, self._shift_s)
            kept = torch.cat([kept, new]) if len(kept) else new
        self._first, self._held = begin, kept
        runs = np.asarray(firsts)[:, None] - begin + np.arange(num_segments)  # (W, S)
        return Tokens.of_segments(kept[runs].flatten(0, 1), num_segments, self._declared)


@torch.no_grad()
def encode_crops(
    encoder: ClipEncoder, plan: Plan, progress: Progress | None = None
) -> Iterator[Crops]:
    """Yield all crops, a block at a time.

    A separable encoder encodes segments that neighbouring crops share once; any other one encodes
    every crop by itself.  Only a block is held.

    Raises:
        MediaError: if the clip is damaged.
    """
    encode = _shared(encoder, plan) if encoder.model.encoder.is_separable else _whole(encoder, plan)
    new_segments = plan.step  # that a crop adds to those before
    if not encoder.model.encoder.is_separable:
        new_segments = encoder.layout.num_segments
    per_block = max(1, encoder.block // new_segments)
    if progress is not None:
        progress(0, len(plan.firsts))
    for done in range(0, len(plan.firsts), per_block):
        firsts = plan.firsts[done : done + per_block]
        yield Crops([round(first * encoder.layout.step_s, 6) for first in firsts], *encode(firsts))
        if progress is not None:
            progress(done + len(firsts), len(plan.firsts))


def _shared(encoder: ClipEncoder, plan: Plan) -> Encode:
    """Encode each modality by itself, every segment once."""
    audio = SlidingTokens(encoder, "audio", plan.shift_s)
    vision = SlidingTokens(encoder, "vision")
    return lambda firsts: (audio.crops(firsts), vision.crops(firsts))


def _whole(encoder: ClipEncoder, plan: Plan) -> Encode:
    """Encode crops with both modalities at once."""

    def encode(firsts: Sequence[int]) -> tuple[Tokens, Tokens]:
        spans = [(first, first + encoder.layout.num_segments) for first in firsts]
        segments = Segments(
            audio=torch.stack([encoder.read("audio", *span, plan.shift_s) for span in spans]),
            vision=torch.stack([encoder.read("vision", *span) for span in spans]),
        )
        audio, vision = encoder.model.encoder.encode_many(segments.to(encoder.model.device))
        return audio.to("cpu"), vision.to("cpu")

    return encode


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
