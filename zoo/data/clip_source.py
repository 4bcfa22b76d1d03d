"""The clips of a split as one worker reads them: cut, augmented, broken ones left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.frontend import crop_square, cut_audio, cut_crops, without_filling
from zoo.data.manifest import Clip
from zoo.errors import MediaError, TrainingError
from zoo.models.segments import Segments
from zoo.timeline import Sample, SegmentLayout

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Augment:
    """What varies between two readings of a clip; all zero when validating."""

    jitter_s: float = 0.0
    flip: float = 0.0
    gain_db: float = 0.0
    random_crop: bool = False


def read_sample(
    reader: ClipReader,
    clip: Clip,
    sample: Sample,
    layout: SegmentLayout,
    augment: Augment,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "S F Ta"], Real[Tensor, "T H W C"]]:
    """Read a crop of both streams: the audio as segments, the frames as `cut_crops` takes them."""
    seen, heard = (reader.read_part(modality, layout) for modality in ("vision", "audio"))
    frames = reader.read_vision(
        clip.path, round(sample.vision_start_s + seen.start_s, 6), seen.length_s
    )
    samples = reader.read_audio(
        clip.path, round(sample.audio_start_s + heard.start_s, 6), heard.length_s
    )
    frames = crop_square(frames, reader.vision.size, rng if augment.random_crop else None)
    if rng.random() < augment.flip:
        frames = frames[:, :, ::-1]
    if augment.gain_db:
        samples = samples * np.float32(10 ** (rng.uniform(-1, 1) * augment.gain_db / 20))
    if layout.num_segments == 1:
        left_s = clip.duration_s - sample.audio_start_s - heard.start_s
        samples = without_filling(samples, reader.audio, left_s)
    audio = cut_audio(samples, *heard.places, reader.audio)
    return audio, torch.from_numpy(np.array(frames, order="C"))  # the cache is read-only


def read_segments(
    reader: ClipReader, clip: Clip, sample: Sample, layout: SegmentLayout
) -> Segments:
    """Read a crop of both streams as it is and cut it into segments, a batch of one."""
    nothing_varies = Augment(), np.random.default_rng(0)
    audio, frames = read_sample(reader, clip, sample, layout, *nothing_varies)
    return Segments(
        audio[None],
        cut_crops(frames[None], *reader.read_part("vision", layout).places, reader.vision),
    )


@dataclass
class ClipSource:
    """The clips of a split as one worker reads them; broken ones are quarantined, not fatal."""

    clips: list[Clip]
    reader: ClipReader
    on_broken: Callable[[Path, str], None] | None = None
    broken: dict[int, str] = field(default_factory=dict)

    def durations_s(self) -> list[float]:
        """Return what can be drawn from, per clip, seconds."""
        return [whole_frames_s(clip.duration_s, self.reader.vision.fps) for clip in self.clips]

    def first_readable(
        self,
        clip: int,
        rng: np.random.Generator,
        read: Callable[[int], T],
        among: Sequence[int] | None = None,
    ) -> T:
        """Read a clip, or another one in its place if it cannot be read.

        Args:
            clip: index of the clip.
            rng: given to nobody else; picks the other one.
            read: reads the clip of an index.
            among: clips that may take its place, by default all.

        Raises:
            TrainingError: if not one clip can be read.
        """
        start = rng.bit_generator.state
        for candidate in self._order(clip, rng, among or range(len(self.clips))):
            if candidate in self.broken:
                continue
            # Every candidate is read with the same randomness, whether or not clips before it are
            # known to be broken yet: a resumed run, which knows of none, draws alike.
            rng.bit_generator.state = start
            try:
                return read(candidate)
            except MediaError as error:
                self._leave_out(candidate, str(error))
        reason = next(reversed(self.broken.values()), "the manifest has none")
        raise TrainingError(f"not one clip could be read; the last because: {reason}")

    def _order(self, clip: int, rng: np.random.Generator, among: Sequence[int]) -> Iterator[int]:
        yield clip
        others = rng.spawn(1)[0].permutation(len(among))
        yield from (among[place] for place in others if among[place] != clip)

    def _leave_out(self, clip: int, reason: str) -> None:
        log.warning("clip left out: %s", reason)
        self.broken[clip] = reason
        if self.on_broken is not None:
            self.on_broken(self.clips[clip].path, reason)
