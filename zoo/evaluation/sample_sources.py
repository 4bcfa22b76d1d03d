"""Where the samples of an evaluation come from: random or fixed, read right or as published."""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.contracts import Frames, LogMel, Modality
from zoo.data import published
from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.clip_source import read_segments
from zoo.data.fixed_offsets import FixedOffset, fixed_for
from zoo.data.manifest import Clip
from zoo.data.samples import SampleSource
from zoo.data.sampling import slot_rng
from zoo.errors import ConfigError, ManifestError, MediaError, option
from zoo.models.segments import Segments
from zoo.models.task import Task
from zoo.timeline import (
    OffsetGrid,
    Sample,
    SegmentLayout,
    count_hops,
    fixed_sample,
    view_starts,
)

EVALUATION = 4  # the "stage" of the random numbers

log = logging.getLogger(__name__)


class Samples(ABC):
    """Samples of the clips of a split.

    Attributes:
        clips: all of them.
        layout: of the segments of a crop.
        usable: clips that can be sampled.
        left_out: why the others cannot, by index.
    """

    clips: list[Clip]
    layout: SegmentLayout
    usable: list[int]
    left_out: dict[int, str]

    @abstractmethod
    def sample(self, clip: int, number: int) -> tuple[Sample, Segments | None]:
        """Sample a clip in a round.

        Returns:
            The sample, and its segments, a batch of one; None if they are in a store.

        Raises:
            MediaError: if the clip cannot be read, or is too short after all.
        """

    def leave_out(self, clip: int, reason: str) -> None:
        """Sample a clip no more."""
        log.warning("%s left out: %s", self.clips[clip].path.name, reason)
        self.left_out[clip] = reason
        self.usable = [i for i in self.usable if i != clip]


class RandomSamples(Samples):
    """Random samples on the clip's own clock, from the feature store or from files.

    With several frames, as many numbers in a row are the same sample beside another frame.
    """

    def __init__(self, source: SampleSource, frames: int = 1) -> None:
        self.source, self.clips, self.layout = source, source.clips.clips, source.layout
        self.frames = frames
        self.usable = list(source.usable)
        store = source.store
        self.left_out = dict(store.skipped) if store is not None else {}
        for i, duration_s in enumerate(source.durations_s):
            if i not in self.left_out and duration_s < source.needed_s:
                self.left_out[i] = (
                    f"too short: {duration_s:.2f} s, crop and offsets need {source.needed_s:g} s"
                )

    def sample(self, clip: int, number: int) -> tuple[Sample, Segments | None]:  # noqa: D102
        source, (number, choice) = self.source, divmod(number, self.frames)
        rng = slot_rng(source.seed, EVALUATION, number, clip)
        sample = source.sample(clip, rng, Augment(frame_choices=self.frames), choice)
        if source.store is not None:
            return sample, None
        return sample, read_segments(source.clips.reader, self.clips[clip], sample, self.layout)


class ViewSamples(Samples):
    """Evenly spaced views of every clip, of audio and of video each by itself; nothing is random.

    Source: the test rule of AV-MAE and MBT (dmvr:sampling): the first views start with the clip,
    the last ones end with it.
    """

    def __init__(self, source: SampleSource, views: int) -> None:
        self.source, self.clips, self.layout = source, source.clips.clips, source.layout
        self.views, self.usable = views, list(source.usable)
        self.left_out = dict[int, str]()

    def sample(self, clip: int, number: int) -> tuple[Sample, Segments | None]:  # noqa: D102
        source, row = self.source, self.clips[clip]
        reader = source.clips.reader
        target = source.sample(clip, slot_rng(source.seed, EVALUATION, 0, clip), Augment()).target
        sample = Sample(
            clip,
            vision_start_s=self._start_s(row, "vision", 1 / row.video_fps, number),
            audio_start_s=self._start_s(row, "audio", reader.audio.hop_s, number),
            target=target,
        )
        return sample, read_segments(reader, row, sample, self.layout)

    def _start_s(self, clip: Clip, modality: Modality, hop_s: float, number: int) -> float:
        """Return the start of a crop in which a modality is read from the start of a view."""
        part = self.source.clips.reader.read_part(modality, self.layout)
        units, size = count_hops(clip.duration_s, hop_s), round(part.length_s / hop_s)
        return round(view_starts(units, size, self.views)[number] * hop_s - part.start_s, 6)


@dataclass
class FixedSamples(Samples):
    """One sample of every clip, at its fixed offset, on the clip's own clock."""

    clips: list[Clip]
    reader: ClipReader
    layout: SegmentLayout
    grid: OffsetGrid
    fixed: Mapping[int, FixedOffset]
    left_out: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._samples: dict[int, Sample] = {}
        for clip, fixed in self.fixed.items():
            length_s = whole_frames_s(self.clips[clip].duration_s, self.reader.vision.fps)
            place = (self.layout, self.grid, fixed.offset_s, fixed.start_s, self.reader.vision.fps)
            try:
                self._samples[clip] = fixed_sample(clip, length_s, *place)
            except ConfigError as error:
                self.left_out[clip] = f"too short: {error}"
        self.usable = list(self._samples)

    def sample(self, clip: int, number: int) -> tuple[Sample, Segments | None]:  # noqa: D102
        sample = self._samples[clip]
        return sample, read_segments(self.reader, self.clips[clip], sample, self.layout)


@dataclass
class PublishedSamples(Samples):
    """Samples that are read, cut and chosen as the published code does."""

    clips: list[Clip]
    layout: SegmentLayout
    task: Task
    vision: Frames
    audio: LogMel
    seed: int = 0
    fixed: Mapping[int, FixedOffset] | None = None
    end_s: float | None = None
    audio_shift_s: float = 0.0
    left_out: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.usable = list(range(len(self.clips)) if self.fixed is None else self.fixed)

    def sample(self, clip: int, number: int) -> tuple[Sample, Segments | None]:  # noqa: D102
        raw = published.read_clip(
            self.clips[clip].path, end_s=self.end_s, audio_shift_s=self.audio_shift_s
        )
        _check_rates(raw, self.clips[clip].path, self.vision, self.audio)
        raw = published.trim(raw)
        crop = self._crop(raw, clip, number)
        audio, vision = published.cut_segments(raw, crop, self.layout, self.vision, self.audio)
        at_v, at_a = published.place_segments(
            self.layout,
            crop.num_frames,
            crop.num_samples,
            fps=raw.fps,
            sample_rate_hz=raw.sample_rate_hz,
        )
        sample = Sample(
            clip,
            vision_start_s=(crop.first_frame + int(at_v[0, 0])) / raw.fps,
            audio_start_s=(crop.first_sample + int(at_a[0, 0])) / raw.sample_rate_hz,
            target=crop.target,
        )
        return sample, Segments(audio[None], vision[None])

    def _crop(self, raw: published.RawClip, clip: int, number: int) -> published.Crop:
        if self.fixed is not None:
            fixed, length_s = self.fixed[clip], published.crop_s(self.layout)
            assert self.task.grid is not None
            return published.fixed_crop(
                raw, self.task.grid, length_s, fixed.offset_s, fixed.start_s
            )
        rng = random.Random(f"{self.seed}/{number}/{clip}")
        return self.task.published_crop(raw, self.layout, rng)


def _check_rates(raw: published.RawClip, path: Path, vision: Frames, audio: LogMel) -> None:
    if (raw.fps, raw.sample_rate_hz) != (vision.fps, audio.sample_rate_hz):
        raise MediaError(
            f"{path.name} has {raw.fps:g} frames and {raw.sample_rate_hz} samples per second; the "
            f"published code reads clips of {vision.fps:g} and {audio.sample_rate_hz} and does not "
            "convert them"
        )


def find_fixed(
    clips: list[Clip], offsets: Mapping[str, FixedOffset] | None, where: str
) -> tuple[dict[int, FixedOffset], dict[int, str]]:
    """Find the fixed offset of every clip.

    Args:
        clips: of the split.
        offsets: by clip id; None takes what the manifest says.
        where: names the list in messages.

    Returns:
        Offsets, and the reason where there is none, by index.

    Raises:
        ManifestError: if there is none for any clip.
    """
    found: dict[int, FixedOffset] = {}
    left_out: dict[int, str] = {}
    for i, clip in enumerate(clips):
        fixed = _of_manifest(clip) if offsets is None else fixed_for(clip.path, offsets)
        if fixed is None:
            left_out[i] = f"no fixed offset in {where}"
        elif fixed.is_sync is False:
            left_out[i] = f"not in sync according to {where}"
        else:
            found[i] = fixed
    if not found and offsets is None:
        raise ManifestError(
            f"{where} gives no fixed offset for any of {len(clips)} clips",
            f"give the published list with {option('offsets')}, or use a protocol with random "
            "samples",
        )
    if not found:
        raise ManifestError(
            f"{where} fits none of {len(clips)} clips: its ids look like "
            f"'{next(iter(offsets or ['']))}', the first clip is {clips[0].path}"
        )
    return found, left_out


def _of_manifest(clip: Clip) -> FixedOffset | None:
    if clip.fixed_offset_s is None or clip.fixed_start_s is None:
        return None
    return FixedOffset(clip.fixed_offset_s, clip.fixed_start_s)
