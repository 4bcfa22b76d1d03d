"""One clip: read and encoded block by block into a file of segment tokens with their times."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

import zoo
from zoo.contracts import FeatureMap, Modality
from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.frontend import block_segments
from zoo.errors import ManifestError, MediaError
from zoo.features.feature_folder import identity_of
from zoo.features.feature_settings import Settings
from zoo.features.tensorfile import TensorFile
from zoo.media import ClipInfo, probe
from zoo.models.model import Model
from zoo.models.modules import ENCODED_AT_ONCE, MOST_SEGMENTS, ModalityEncoder
from zoo.models.two_tower import ExtractorEncoder
from zoo.timeline import count_steps

FORMAT = "avsync-zoo features 1"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)
T = TypeVar("T")


class FeatureExtractor:
    """A model that writes the features of one clip after the other; may be used from threads."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings, self.stop = model, settings, Event()
        frames = model.vision_frontend.model_copy(update={"short_side": settings.short_side})
        self.encoder = model.separable
        self.reader = ClipReader(frames, model.audio_frontend, io=model.io)
        self.device = model.device

    def write(self, clip: Path, file: Path, progress: Progress | None = None) -> None:
        """Write the file of a clip.

        Raises:
            MediaError: if the clip cannot be read, lacks a stream, or is shorter than a segment.
            ManifestError: if the file cannot be written.
        """
        identity = identity_of(clip)
        info = readable(partial(probe, clip), clip)
        starts_s = self._starts(info)
        metadata = identity | self._describe(info, len(starts_s))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with TensorFile(file, self._tensors(len(starts_s)), metadata) as out:
                start_s = torch.tensor(starts_s, dtype=torch.float64)
                out.add("segment_start_s", start_s)
                out.add("segment_centre_s", start_s + self.settings.segment_s / 2)
                for modality in self.settings.modalities:
                    tokens = self.encoder.modality(modality).tokens
                    out.add(f"{modality}_times_s", token_times(starts_s, tokens))
                for done, block in self._blocks(clip, starts_s):
                    for name, rows in block.items():
                        out.add(name, rows)
                    if progress is not None:
                        progress(done, len(starts_s))
        except OSError as error:
            raise ManifestError(f"cannot write {file}: {error.strerror}") from None

    def _starts(self, info: ClipInfo) -> list[float]:
        """Return the start of every segment that the clip holds whole, seconds."""
        streams = {"audio": info.audio, "vision": info.video}
        wanted = [streams[modality] for modality in self.settings.modalities]
        for modality, stream in zip(self.settings.modalities, wanted, strict=True):
            if stream is None:
                kind = modality.replace("vision", "video")
                raise MediaError(f"{info.path.name} has no {kind} stream")
        length_s = min(stream.end_s for stream in wanted if stream is not None)
        if "vision" in self.settings.modalities:
            length_s = whole_frames_s(length_s, self.reader.vision.fps)
        count = count_steps(length_s, self.settings.segment_s, self.settings.step_s)
        if not count:
            raise MediaError(
                f"{info.path.name} is too short: a segment has {self.settings.segment_s:g} s, "
                f"and the clip {length_s:.2f} s"
            )
        return self.settings.layout(count).starts_s

    def _tensors(self, count: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Return precision and shape of everything in the file of so many segments."""
        shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "segment_start_s": (torch.float64, (count,)),
            "segment_centre_s": (torch.float64, (count,)),
        }
        for modality in self.settings.modalities:
            part = self.encoder.modality(modality)
            shapes[f"{modality}_times_s"] = (torch.float64, (count, part.tokens.steps))
            for kind, shape in _shapes_of(part).items():
                if (name := f"{modality}_{kind}") in self.settings.which:
                    shapes[name] = (DTYPES[self.settings.dtype], (count, *shape))
        return shapes

    def _describe(self, info: ClipInfo, count: int) -> dict[str, str]:
        """Return what goes into the header, beside by what the clip is known."""
        settings, pair = self.settings, self.model.config.two_tower()
        encoder = self.model.config.encoder
        facts: dict[str, Any] = {
            "format": FORMAT,
            "zoo_version": zoo.__version__,
            "model": settings.model,
            "model_sha256": settings.sha256,
            "audio_extractor": (encoder if pair is None else pair.audio.extractor).name,
            "vision_extractor": (encoder if pair is None else pair.vision.extractor).name,
            "duration_s": info.duration_s,
            "low_confidence": info.low_confidence or "",
            "notes": "; ".join(info.notes),
            "num_segments": count,
            "segment_s": settings.segment_s,
            "step_s": settings.step_s,
            "fps": self.reader.vision.fps,
            "sample_rate_hz": self.reader.audio.sample_rate_hz,
            "vision_frontend": json.dumps(self.reader.vision.model_dump(mode="json")),
            "audio_frontend": json.dumps(self.reader.audio.model_dump(mode="json")),
            "dtype": settings.dtype,
        }
        return {name: str(value) for name, value in facts.items()}

    def _blocks(self, clip: Path, starts_s: list[float]) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield how many segments are done, and the tensors of the last few of them."""
        at_once = block_segments(self.reader.vision, self.settings.segment_s)
        reader = self.reader.going_on()
        for first in range(0, len(starts_s), at_once):
            if self.stop.is_set():
                raise KeyboardInterrupt
            starts = starts_s[first : first + at_once]
            block: dict[str, Tensor] = {}
            for modality in self.settings.modalities:
                read = partial(reader.read_segments, modality, clip, starts)
                segments = readable(partial(read, self.settings.segment_s), clip)
                block |= self._encode(modality, segments)
            for name, rows in block.items():
                if not rows.isfinite().all():
                    raise MediaError(
                        f"{clip.name} gives {name} that do not fit into {self.settings.dtype}"
                    )
            yield first + len(starts), block

    def _encode(self, modality: Modality, segments: Tensor) -> dict[str, Tensor]:
        given = encode(self.encoder.modality(modality), segments.to(self.device))
        wanted = {f"{modality}_{kind}": tensor for kind, tensor in given.items()}
        dtype = DTYPES[self.settings.dtype]
        return {n: t.to(dtype).cpu() for n, t in wanted.items() if n in self.settings.which}


def _shapes_of(part: ModalityEncoder) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what `encode` gives, without the segments."""
    tokens = part.tokens
    places = (tokens.positions,) if tokens.positions > 1 else ()
    shapes: dict[str, tuple[int, ...]] = {"tokens": (tokens.steps, *places, tokens.dim)}
    if isinstance(part, ExtractorEncoder):
        shapes["features"] = part.declared
    return shapes


@torch.no_grad()
def encode(part: ModalityEncoder, segments: Tensor) -> dict[str, Tensor]:
    """Encode segments, a few at a time: ``features`` ``(N, T, P, D)``, ``tokens`` ``(N, T, D)``.

    Tokens are ``(N, T, P, D)`` where the aggregator keeps several positions of a time step.  Only
    extractors give features.
    """
    at_once = min(MOST_SEGMENTS, ENCODED_AT_ONCE // segments.shape[1:].numel()) or 1
    given: dict[str, list[Tensor]] = {name: [] for name in _shapes_of(part)}
    for some in segments.split(at_once):
        if isinstance(part, ExtractorEncoder):
            features = part.extractor(some)  # (N, T, P, D)
            given["features"].append(features)
            given["tokens"].append(part.tokens_from(features))  # (N, T*P, D), P mostly 1
        else:
            given["tokens"].append(part(some))
    whole = {name: torch.cat(tensors) for name, tensors in given.items()}
    if part.tokens.positions > 1:
        whole["tokens"] = whole["tokens"].unflatten(1, (part.tokens.steps, -1))
    return whole


def token_times(starts_s: list[float], tokens: FeatureMap) -> Tensor:
    """Return the centre of every time step of every segment, seconds, ``(M, T)``."""
    times_s = np.add.outer(starts_s, tokens.times_s)
    return torch.from_numpy(times_s.round(6))


def readable(read: Callable[[], T], clip: Path) -> T:
    """Read something of a clip; whatever goes wrong is the clip's fault.

    Raises:
        MediaError: saying what.
    """
    try:
        return read()
    except MediaError:
        raise
    except Exception as error:  # one strange file must not end a run over thousands
        log.debug("reading %s", clip, exc_info=True)
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise MediaError(f"{clip.name} cannot be read: {reason}") from error
