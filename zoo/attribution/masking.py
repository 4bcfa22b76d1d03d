"""Two ways to take chunks out of one modality: before the extractor, or after it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from zoo.attribution.crops import Crop, mean_of
from zoo.contracts import Frames, Modality
from zoo.data.clip_reader import ClipReader
from zoo.data.frontend import cut_audio, cut_frames, segments_at_once
from zoo.models.model import Model
from zoo.models.segments import Tokens
from zoo.timeline import chunk_at, to_frames, to_samples

Masks = Bool[np.ndarray, "B C"]  # which chunks each mask keeps


class Masked(ABC):
    """The tokens of one modality of a crop, under any masks.

    Args:
        model: its encoder encodes each modality by itself.
        modality: which is masked.
        crop: what is looked at.
        other: stands in for what is masked; None is the mean of the crop.
        chunk_s: length of a chunk, seconds.
        num_chunks: C.
    """

    def __init__(
        self,
        model: Model,
        modality: Modality,
        crop: Crop,
        other: Crop | None,
        chunk_s: float,
        num_chunks: int,
    ) -> None:
        self._model, self._modality = model, modality
        self._encoder, self._io = model.separable.modality(modality), model.io.modality(modality)
        self._chunk_s, self._num_chunks = chunk_s, num_chunks
        self._prepare(crop, other)

    @abstractmethod
    def _prepare(self, crop: Crop, other: Crop | None) -> None:
        """Do once what all masks need."""

    @abstractmethod
    def tokens(self, masks: Masks) -> Tokens:
        """Return the tokens of the crop under each mask."""

    def _chunk_at(self, times_s: np.ndarray) -> np.ndarray:
        return chunk_at(times_s, self._chunk_s, self._num_chunks)


def encode_crop(model: Model, modality: Modality, crop: Crop) -> Tokens:
    """Encode a crop without a mask, a batch of one."""
    starts_s, segment_s = _places(model, modality)
    if modality == "audio":
        cut = cut_audio(crop.samples, starts_s, segment_s, model.audio_frontend)
    else:
        cut = cut_frames(crop.frames, starts_s, segment_s, model.vision_frontend)
    encoder = model.separable.modality(modality)
    return Tokens.of_segments(encoder.encode(cut.to(model.device)), len(starts_s), encoder.tokens)


def _places(model: Model, modality: Modality) -> tuple[list[float], float]:
    """Return where what a modality reads starts within a crop, and how long it is, seconds."""
    reader = ClipReader(model.vision_frontend, model.audio_frontend, io=model.io)
    return reader.places(modality, model.config.layout)


class MaskedTokens(Masked):
    """Replaces the tokens whose times lie in masked chunks: the extractor runs once.

    Masked tokens leave no cuts in video or audio that look like events. An extractor whose
    tokens know of their whole segment blurs the result by as much.
    """

    def _prepare(self, crop: Crop, other: Crop | None) -> None:
        model, modality = self._model, self._modality
        self._own = encode_crop(model, modality, crop)
        if other is None:
            self._stand_in = self._own.flat.mean(1)[:, None, None, None]  # (1, 1, 1, 1, D)
        else:
            self._stand_in = encode_crop(model, modality, other).values  # (1, S, T, P, D)
        times_s = np.add.outer(model.config.layout.starts_s, self._own.times_s)
        self._chunks = self._chunk_at(times_s)  # (S, T)

    def tokens(self, masks: Masks) -> Tokens:
        """Return the tokens of the crop under each mask."""
        kept = torch.from_numpy(masks[:, self._chunks])[..., None, None]  # (B, S, T, 1, 1)
        own = self._own.values
        return self._own.with_values(torch.where(kept.to(own.device), own, self._stand_in))


class MaskedContent(Masked):
    """Replaces frames and samples of masked chunks, as the paper does.

    A segment sees only the few chunks that it overlaps, so most masks look alike to it: each of its
    distinct contents is encoded once, however many masks there are.
    """

    def _prepare(self, crop: Crop, other: Crop | None) -> None:
        other = mean_of(crop) if other is None else other
        starts_s, segment_s = _places(self._model, self._modality)
        frontend = self._io.frontend
        if isinstance(frontend, Frames):
            self._own, self._other, rate = crop.frames, other.frames, frontend.fps
            self._firsts = [to_frames(t, frontend.fps) for t in starts_s]
            self._length = to_frames(segment_s, frontend.fps)
        else:
            self._own, self._other, rate = crop.samples, other.samples, frontend.sample_rate_hz
            self._firsts = [to_samples(t, frontend.sample_rate_hz) for t in starts_s]
            self._length = to_samples(segment_s, frontend.sample_rate_hz)
        middles_s = (np.arange(len(self._own)) + 0.5) / rate
        self._chunks = self._chunk_at(middles_s)  # of every frame or sample
        self._known: dict[tuple[int, bytes], Tensor] = {}  # of a segment and what is left of it

    @property
    def num_encoded(self) -> int:
        """Distinct contents that went through the extractor so far."""
        return len(self._known)

    def tokens(self, masks: Masks) -> Tokens:
        """Return the tokens of the crop under each mask."""
        wanted = [
            [(segment, self._seen(segment, mask).tobytes()) for segment in range(len(self._firsts))]
            for mask in masks
        ]
        missing = sorted({key for row in wanted for key in row} - self._known.keys())
        block = segments_at_once(self._io.frontend, self._io.segment_s)
        for i in range(0, len(missing), block):
            keys = missing[i : i + block]
            contents = self._contents(keys).to(self._model.device)
            self._known.update(zip(keys, self._encoder.encode(contents), strict=True))
        encoded = torch.stack([self._known[key] for row in wanted for key in row])  # (B*S, TxP, D)
        return Tokens.of_segments(encoded, len(self._firsts), self._encoder.tokens)

    def _seen(self, segment: int, mask: Bool[np.ndarray, " C"]) -> Bool[np.ndarray, " c"]:
        """Return what a mask does to the chunks that a segment overlaps."""
        first = self._firsts[segment]
        return mask[self._chunks[first] : self._chunks[first + self._length - 1] + 1]

    def _contents(self, keys: list[tuple[int, bytes]]) -> Tensor:
        """Return front-end segments with what is left of each."""
        mixed = []
        for segment, seen in keys:
            part = slice(self._firsts[segment], self._firsts[segment] + self._length)
            chunks = self._chunks[part]
            kept = np.frombuffer(seen, dtype=bool)[chunks - chunks[0]]
            kept = kept.reshape(-1, *[1] * (self._own.ndim - 1))
            mixed.append(np.where(kept, self._own[part], self._other[part]))
        joined, segment_s = np.concatenate(mixed), self._io.segment_s
        starts_s = [i * segment_s for i in range(len(mixed))]
        if self._modality == "audio":
            return cut_audio(joined, starts_s, segment_s, self._model.audio_frontend)
        return cut_frames(joined, starts_s, segment_s, self._model.vision_frontend)
