"""A model under evaluation: what it keeps of a sample, and how it answers for a batch of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.contracts import Modality
from zoo.data.clip_reader import ClipReader
from zoo.data.frontend import cut_audio, cut_frames
from zoo.data.store import FeatureStore
from zoo.models.model import Model
from zoo.models.segments import Segments, Tokens
from zoo.timeline import Sample

Pair = tuple[Tensor, Tensor]
"""Audio and video of B samples, either of which can be exchanged: the values of tokens
``(B, S, T, P, D)``, or segments after the front ends."""


class Member(ABC):
    """A model under evaluation.

    Args:
        model: in eval mode.
        is_half: compute in float16 where the device is a GPU, as the published code does.
    """

    batch: ClassVar[int]
    """Samples that are answered for together."""
    store: FeatureStore | None = None
    """Tokens of all clips, where there are some."""
    is_twin: bool = False
    """Whether this second model has the encoder of the first, whose tokens it can use."""

    def __init__(self, model: Model, *, is_half: bool = False) -> None:
        self.model, self.is_half = model, is_half
        self.num_segments = model.config.layout.num_segments

    @abstractmethod
    def keep(self, sample: Sample, segments: Segments | None) -> Pair:
        """Return what is needed of one sample; None for the segments if they are in the store."""

    @abstractmethod
    def blank(self) -> Pair:
        """Return the same of silence and black frames."""

    @abstractmethod
    def answer(self, audio: Tensor, vision: Tensor) -> Float[Tensor, "B K"]:
        """Return the outputs for samples, on the CPU."""

    def _precision(self) -> AbstractContextManager[object]:
        device = self.model.device.type
        if self.is_half and device == "cuda":
            return torch.autocast(device, torch.float16)
        return nullcontext()


class SeparableMember(Member):
    """Encodes every segment once: a control exchanges tokens."""

    batch = 64

    def keep(self, sample: Sample, segments: Segments | None) -> Pair:
        """Return the tokens of the first segments, as many as the model reads."""
        if self.store is None:
            assert segments is not None
            return self.encode(segments.first(self.num_segments))
        audio, vision = self.store.tokens(sample, self.model.config.layout)
        return self._stored(audio, "audio"), self._stored(vision, "vision")

    def _stored(self, values: Float[Tensor, "S TxP D"], modality: Modality) -> Tensor:
        declared = self.model.separable.modality(modality).tokens
        tokens = Tokens.of_segments(values, len(values), declared)
        return tokens.to(self.model.device).values

    def encode(self, segments: Segments) -> Pair:
        """Return the tokens of all segments."""
        with self._precision():
            audio, vision = self.model.encoder.encode_many(segments.to(self.model.device))
        return audio.values, vision.values

    def blank(self) -> Pair:  # noqa: D102
        silent, black = self.model.encoder.encode_many(blank_segments(self.model))
        return silent.values, black.values

    def answer(self, audio: Tensor, vision: Tensor) -> Float[Tensor, "B K"]:  # noqa: D102
        io = self.model.io
        pair = Tokens(audio, io.audio.tokens.times_s), Tokens(vision, io.vision.tokens.times_s)
        with self._precision():
            return self.model.answer(*pair).float().cpu()


class JointMember(Member):
    """Encodes both modalities together, once for every answer: a control exchanges segments."""

    batch = 8  # segments of that many crops are held at a time

    def keep(self, sample: Sample, segments: Segments | None) -> Pair:
        """Return the first segments, as many as the model reads."""
        assert segments is not None
        kept = segments.first(self.num_segments)
        return kept.audio, kept.vision

    def blank(self) -> Pair:  # noqa: D102
        segments = blank_segments(self.model)
        return segments.audio.cpu(), segments.vision.cpu()

    def answer(self, audio: Tensor, vision: Tensor) -> Float[Tensor, "B K"]:  # noqa: D102
        segments = Segments(audio, vision).to(self.model.device)
        with self._precision():
            return self.model.answer(*self.model.encoder.encode_many(segments)).float().cpu()


def member_of(model: Model, *, is_half: bool = False) -> Member:
    """Return a member for the kind of encoder that a model has."""
    kind = SeparableMember if model.encoder.is_separable else JointMember
    return kind(model, is_half=is_half)


def reader_of(model: Model) -> ClipReader:
    """Return a reader for the front ends of a model."""
    return ClipReader(model.vision_frontend, model.audio_frontend, io=model.io)


def blank_segments(model: Model) -> Segments:
    """Return a crop of silence and black frames, on the model's device."""
    layout, reader = model.config.layout, reader_of(model)
    audio, vision = model.audio_frontend, model.vision_frontend
    samples = np.zeros(round(layout.covered_s * audio.sample_rate_hz), np.float32)
    frames = np.zeros((round(layout.covered_s * vision.fps), vision.size, vision.size, 3), np.uint8)
    silence = cut_audio(samples, *reader.places("audio", layout), audio)
    black = cut_frames(frames, *reader.places("vision", layout), vision)
    return Segments(silence[None], black[None]).to(model.device)
