"""One vector per clip and modality: the mean of its tokens, of length 1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from zoo.contracts import Modality
from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.frontend import segments_at_once
from zoo.errors import ConfigError, MediaError
from zoo.features.encoding import readable
from zoo.media import probe
from zoo.media.apart import reading_apart
from zoo.models.device import autocast
from zoo.models.model import OBJECTIVE, Model
from zoo.models.modules import (
    ENCODED_AT_ONCE,
    MOST_SEGMENTS,
    Encoder,
    Objective,
    SeparableEncoder,
)
from zoo.timeline import SegmentLayout, count_steps

METHOD = 1  # raised whenever the same clips would give other vectors
KIND: dict[Modality, str] = {"audio": "audio", "vision": "video"}
Found = np.ndarray | MediaError
"""The embedding of a clip ``(E,)``, or why there is none."""


class MissingStreamError(MediaError):
    """A clip without the stream that is to be embedded."""


class ClipEmbedder:
    """Embeds one modality of a clip without looking at the other.

    The clip is cut into whole segments side by side, and the vectors of the segments are averaged.
    A vector of a segment is what the objective of stage I compares, or else the mean of its tokens.
    May be used from threads.

    Args:
        model: in eval mode; it needs no head.
        name: of the model, for messages.

    Raises:
        ConfigError: if the encoder needs both modalities at once, or gives tokens that cannot be
            compared.
    """

    def __init__(self, model: Model, name: str) -> None:
        require_alone(model, name)
        self.model, self.stop = model, Event()
        self.objective = _comparing(model)
        widths = [io.tokens.dim for io in (model.io.audio, model.io.vision)]
        if self.objective is None and widths[0] != widths[1]:
            raise ConfigError(
                f"the tokens of '{name}' are {widths[0]} wide for audio and {widths[1]} for video, "
                "so they cannot be compared",
                "train stage 1 with a projection of both to one width",
            )
        self.segment_s = model.config.layout.segment_s
        self.reader = ClipReader(model.vision_frontend, model.audio_frontend, io=model.io)

    @property
    def note(self) -> str | None:
        """What is doubtful about comparing the modalities with this model."""
        if self.objective is not None or not isinstance(self.model.encoder, SeparableEncoder):
            return None
        return "no objective has compared audio with video in this model, so expect chance"

    @torch.no_grad()
    def embed(self, clip: Path, modality: Modality) -> Float[np.ndarray, E]:
        """Return the unit vector of one modality of a clip.

        Raises:
            MissingStreamError: if the clip lacks the stream.
            MediaError: if it cannot be read.
        """
        starts_s, end_s = readable(partial(self._starts, clip, modality), clip)
        io = self.model.io.modality(modality)
        block = min(MOST_SEGMENTS, segments_at_once(io.frontend, io.segment_s))
        total: Tensor | None = None
        reader = self.reader.going_on()
        for first in range(0, len(starts_s), block):
            if self.stop.is_set():
                raise KeyboardInterrupt
            starts = starts_s[first : first + block]
            read = partial(reader.read_segments, modality, clip, starts, self.segment_s)
            segments = readable(partial(read, end_s=end_s), clip)
            vectors = embed_segments(
                self.model.encoder, modality, segments.to(self.model.device), self.objective
            )
            total = vectors.sum(0) if total is None else total + vectors.sum(0)
        assert total is not None
        if not total.isfinite().all():
            raise MediaError(f"{clip.name} gives an embedding that is not finite")
        return normalize(total, dim=0).cpu().numpy()

    def _starts(self, clip: Path, modality: Modality) -> tuple[list[float], float]:
        """Return where segments start, and where the stream ends, seconds.

        The segments are all that the stream holds whole, or the only one.

        What is read for a shorter time than the segment lies in the middle; in the middle of the
        clip, where that is shorter: the single frame beside 10.24 s of audio is that at 4.96 s of a
        clip of 10 s, as in the published protocol.
        """
        info = probe(clip)
        stream = info.audio if modality == "audio" else info.video
        if stream is None:
            raise MissingStreamError(f"{clip.name} has no {KIND[modality]} stream")
        io, length_s = self.model.io.modality(modality), stream.end_s
        if modality == "vision":
            length_s = whole_frames_s(length_s, self.reader.vision.fps)
        num = count_steps(length_s, self.segment_s, self.segment_s)
        if num:
            side_by_side = SegmentLayout(
                num_segments=num, segment_s=self.segment_s, step_s=self.segment_s
            )
            return side_by_side.starts_s, stream.end_s
        # The reader adds the lead of a whole segment.
        place_s = max(0.0, io.lead_s(length_s))
        return [round(place_s - io.lead_s(self.segment_s), 6)], stream.end_s

    def fingerprint(self, description: Mapping[str, Any]) -> str:
        """Return a hash of all that the vectors depend on, beside the clip.

        Args:
            description: of the model's folder.
        """
        config = self.model.config.model_dump(mode="json")
        parts = [config[key] for key in ("encoder", "objective")]
        if self.objective is not None:
            parts += [learnt] if (learnt := description.get("beside", {}).get(OBJECTIVE)) else []
        text = json.dumps([METHOD, description["sha256"], self.segment_s, *parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@torch.no_grad()
def embed_segments(
    encoder: Encoder, modality: Modality, segments: Tensor, objective: Objective | None = None
) -> Float[Tensor, "N E"]:
    """Return the vectors of segments after the front end, a few at a time.

    Args:
        encoder: one that can encode a modality alone.
        modality: of the segments.
        segments: audio ``(N, F, Ta)`` or video ``(N, C, Tv, H, W)``.
        objective: turns tokens into vectors to compare; None takes their mean.
    """
    at_once = max(1, min(MOST_SEGMENTS, ENCODED_AT_ONCE // segments.shape[1:].numel()))
    vectors = []
    for some in segments.split(at_once):
        with autocast(some.device, encoder.precision):
            tokens = encoder.encode_alone(modality, some).float()  # (n, L, D)
        vectors.append(tokens.mean(1) if objective is None else objective.embed(modality, tokens))
    return torch.cat(vectors)


def require_alone(model: Model, name: str) -> None:
    """Refuse an encoder that cannot encode one modality without the other.

    Raises:
        ConfigError: naming it.
    """
    if not model.encoder.encodes_alone:
        raise ConfigError(
            f"the encoder '{model.config.encoder_title}' of '{name}' always needs audio and video "
            "together, and retrieval embeds each without the other",
            "choose a pair of extractors, or an encoder that can take either modality by itself",
        )


def _comparing(model: Model) -> Objective | None:
    """Return what stage I compared the segments of extractors with.

    Encoders of both modalities say themselves what is compared (`Encoder.encode_alone`).
    """
    if not isinstance(model.encoder, SeparableEncoder):
        return None
    return model.objective if model.can_compare else None


def embed_clips(
    embedder: ClipEmbedder, jobs: Iterable[tuple[Path, Modality]], workers: int
) -> Iterator[tuple[Path, Modality, Found]]:
    """Embed clips in threads, and yield each as it is done; the rest is given up on an interrupt.

    Args:
        embedder: of the model.
        jobs: clips, and which modality of each.
        workers: clips at a time.
    """
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        with reading_apart():
            waiting = {pool.submit(embedder.embed, *job): job for job in jobs}
            for done in as_completed(waiting):
                clip, modality = waiting.pop(done)
                found: Found
                try:
                    found = done.result()
                except MediaError as error:
                    found = error
                yield clip, modality, found
    except BaseException:
        embedder.stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
