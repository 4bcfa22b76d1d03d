"""The clips of a split as one worker reads them: cut, augmented, broken ones left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.frontend import crop_square, cut_audio, cut_crops, without_filling
from zoo.data.manifest import Clip
from zoo.data.vary_frames import scale_frames, vary_colours
from zoo.data.vary_sound import add_noise, reverberate, shift_rows
from zoo.data.wrapped import place_middle, place_wrapped, read_around
from zoo.errors import MediaError, TrainingError
from zoo.models.segments import Segments
from zoo.timeline import Sample, SegmentLayout

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Cut:
    """A crop of both streams as decoded.

    Attributes:
        samples: mono waveform ``(N,)``, which may end before the crop does.
        frames: ``(T, H, W, C)`` as `cut_crops` takes them, bytes or floats.
    """

    samples: np.ndarray
    frames: np.ndarray


def move_sample(
    sample: Sample,
    reader: ClipReader,
    layout: SegmentLayout,
    duration_s: float,
    augment: Augment,
    rng: np.random.Generator,
    choice: int | None = None,
) -> Sample:
    """Move the times at which a sample is read, as its augmentation asks.

    Args:
        sample: which reads it in the middle.
        reader: of the clip.
        layout: of the segments.
        duration_s: of the clip, seconds.
        augment: how many evenly spaced times there are to choose from, or whether audio wraps.
        rng: source of randomness.
        choice: number of the time to take, from 0; by default a random one.
    """
    if augment.sampling == "middle":
        return place_middle(sample, reader, layout, duration_s)
    if augment.sampling == "wrapped":
        return place_wrapped(sample, reader, layout, duration_s, rng)
    if augment.frame_choices == 1:
        return sample
    if choice is None:
        choice = int(rng.integers(augment.frame_choices))
    left_s = duration_s - sample.audio_start_s
    start_s = reader.frame_start_s(layout, choice / augment.frame_choices, left_s)
    return replace(sample, vision_start_s=round(sample.vision_start_s + start_s, 6))


def read_sample(
    reader: ClipReader,
    clip: Clip,
    sample: Sample,
    layout: SegmentLayout,
    augment: Augment,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "S F Ta"], Real[Tensor, "T H W C"]]:
    """Read a crop of both streams: the audio as segments, the frames as `cut_crops` takes them."""
    cut = read_cut(reader, clip, sample, layout, augment, rng)
    return finish_cut(cut, reader, layout, augment, rng)


def read_cut(
    reader: ClipReader,
    clip: Clip,
    sample: Sample,
    layout: SegmentLayout,
    augment: Augment,
    rng: np.random.Generator,
) -> Cut:
    """Read a crop of both streams, varied as far as waveform and frames can be."""
    seen, heard = (reader.read_part(modality, layout) for modality in ("vision", "audio"))
    frames = reader.read_vision(
        clip.path, round(sample.vision_start_s + seen.start_s, 6), seen.length_s
    )
    start_s, is_wrapped = (
        round(sample.audio_start_s + heard.start_s, 6),
        augment.sampling != "aligned",
    )
    if is_wrapped:
        samples = read_around(reader, clip.path, start_s, heard.length_s, clip.duration_s)
    else:
        samples = reader.read_audio(clip.path, start_s, heard.length_s)
    if augment.scales:
        frames = scale_frames(frames, reader.vision.size, augment.scale_jitter, rng)
    frames = crop_square(frames, reader.vision.size, rng if augment.random_crop else None)
    if rng.random() < augment.flip:
        frames = frames[:, :, ::-1]
    if augment.colour_jitter or augment.grey:
        frames = vary_colours(frames, augment.colour_jitter, augment.grey, rng)
    if augment.gain_db:
        samples = samples * np.float32(10 ** (rng.uniform(-1, 1) * augment.gain_db / 20))
    if augment.reverb and rng.random() < augment.reverb:
        samples = reverberate(samples, reader.audio.sample_rate_hz, rng)
    if augment.snr_db is not None:
        samples = add_noise(samples, augment.snr_db, rng)
    if layout.num_segments == 1 and not is_wrapped:
        samples = without_filling(samples, reader.audio, clip.duration_s - start_s)
    return Cut(samples, frames)


def finish_cut(
    cut: Cut, reader: ClipReader, layout: SegmentLayout, augment: Augment, rng: np.random.Generator
) -> tuple[Float[Tensor, "S F Ta"], Real[Tensor, "T H W C"]]:
    """Turn a crop into what `read_sample` returns."""
    heard = reader.read_part("audio", layout)
    audio = cut_audio(cut.samples, *heard.places, reader.audio)
    audio = vary_spectrograms(audio, reader.audio.filling, augment, rng)
    return audio, torch.from_numpy(np.array(cut.frames, order="C"))  # the cache is read-only


def vary_spectrograms(
    audio: Float[Tensor, "S F Ta"], filling: float, augment: Augment, rng: np.random.Generator
) -> Float[Tensor, "S F Ta"]:
    """Shift rows, hide bands and stretches (SpecAugment), add noise, shift in a circle.

    All segments alike.

    (Source: CAV-MAE's loader, whose masks are 0 before the normalisation: ``filling`` after it.
    MBT's are 0 after it, and may be several; it shifts before it hides, which for bands is the
    same.)
    """
    if augment.shift_bins:
        audio = shift_rows(audio, augment.shift_bins, filling, rng)
    bins, frames = audio.shape[1:]
    value = filling if augment.mask_fill == "filling" else 0.0
    masks = [(1, bins, augment.mask_bins)] * augment.mask_bins_times
    masks += [(2, frames, augment.mask_frames)] * augment.mask_frames_times
    for dim, size, width in masks:
        if width:
            hidden = int(rng.random() * min(width, size))
            start = int(rng.random() * (size - hidden))
            audio.narrow(dim, start, hidden).fill_(value)
    if augment.noise:
        drawn = torch.from_numpy(rng.random(audio.shape[1:], dtype=np.float32))
        audio = audio + drawn * (augment.noise * rng.random())
    if augment.roll:
        reach = max(1, round(augment.roll * frames))
        audio = audio.roll(int(rng.integers(-reach, reach)), dims=2)
    return audio


def mix(first: Cut, second: Cut, share: float, share_of_frames: float) -> Cut:
    """Mix two crops; both waveforms lose their mean first, the second gets the first's length.

    (Source: CAV-MAE's loader.  Frames that are bytes stay bytes, half a step beside the published
    mix of normalised ones.)

    Args:
        first: whose length counts.
        second: cut, or filled up with silence.
        share: of the first waveform, 0 to 1.
        share_of_frames: of the first one's frames.
    """
    one, other = (cut.samples - cut.samples.mean(dtype=np.float32) for cut in (first, second))
    other = np.pad(other[: len(one)], (0, max(0, len(one) - len(other))))
    samples = np.float32(share) * one + np.float32(1 - share) * other
    frames = share_of_frames * first.frames + (1 - share_of_frames) * second.frames
    if first.frames.dtype == np.uint8:
        frames = np.rint(frames)
    return Cut(samples.astype(np.float32), frames.astype(first.frames.dtype))


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
