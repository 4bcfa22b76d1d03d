"""All arithmetic between seconds, frames, samples and offset classes.

Every conversion is exact or an error: a time that does not fall on the lattice it is asked for is
a mistake in a configuration, not something to round away.

Sign: ``offset_s > 0`` means the audio is *early*: the audio that belongs to video time t is found
at t - offset_s in the file. A training sample with offset o starts its audio at video start + o.
To repair a clip, delay its audio by ``offset_s``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from zoo.errors import ConfigError

FILLED_UP_FROM_S = 1.0  # shorter clips are not worth a crop of one segment
LATTICE_TOLERANCE = 1e-6  # seconds are floats: how far from a lattice point still counts as on it


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def to_units(seconds: float, per_second: float, unit: str) -> int:
    """Convert seconds to a whole number of units (frames, samples, lattice steps).

    Raises:
        ConfigError: if the time does not fall on a whole unit.
    """
    exact = seconds * per_second
    whole = round(exact)
    if abs(exact - whole) > LATTICE_TOLERANCE * max(1.0, per_second):
        raise ConfigError(
            f"{seconds:g} s is not a whole number of {unit} at {per_second:g} per second; the "
            f"nearest that is: {(whole or 1) / per_second:.6g} s"
        )
    return whole


def to_frames(seconds: float, fps: float) -> int:
    """Convert seconds to video frames, exactly."""
    return to_units(seconds, fps, "video frames")


def to_samples(seconds: float, sample_rate_hz: int) -> int:
    """Convert seconds to audio samples, exactly."""
    return to_units(seconds, sample_rate_hz, "audio samples")


def count_steps(length_s: float, window_s: float, hop_s: float) -> int:
    """Count the windows of ``window_s`` that fit into ``length_s`` when started every ``hop_s``."""
    if length_s < window_s - LATTICE_TOLERANCE:
        return 0
    return math.floor((length_s - window_s) / hop_s + LATTICE_TOLERANCE) + 1


def hops_to_end(length_s: float, window_s: float, hop_s: float) -> int:
    """Count the hops after which a window reaches the end of ``length_s``, or a little beyond."""
    return max(0, math.ceil((length_s - window_s) / hop_s - LATTICE_TOLERANCE))


class SegmentLayout(_Frozen):
    """Where the segments of one crop lie (paper section 3.1): 14 of 0.64 s, every 0.32 s."""

    num_segments: int = Field(14, gt=0, description="S, segments per crop")
    segment_s: float = Field(0.64, gt=0, description="length of one segment, seconds")
    step_s: float = Field(0.32, gt=0, description="from one segment's start to the next, seconds")

    @model_validator(mode="after")
    def _no_gaps(self) -> SegmentLayout:
        if self.step_s > self.segment_s + LATTICE_TOLERANCE:
            raise ValueError(
                f"step_s={self.step_s:g} leaves gaps between segments of {self.segment_s:g} s"
            )
        return self

    @property
    def covered_s(self) -> float:
        """Length of the crop that the segments cover, seconds: 4.8 for the published setting."""
        return round((self.num_segments - 1) * self.step_s + self.segment_s, 6)

    @property
    def shortest_s(self) -> float:
        """Length of the shortest clip that is looked at, seconds, where crops are not moved.

        A crop of one segment is filled up behind the end of a clip; several segments are not.
        """
        return min(self.covered_s, FILLED_UP_FROM_S) if self.num_segments == 1 else self.covered_s

    @property
    def starts_s(self) -> list[float]:
        """Start of every segment from the start of the crop, seconds."""
        return [round(i * self.step_s, 6) for i in range(self.num_segments)]


def overlapping_segments(
    input_s: float, segment_s: float, overlap: float, fps: float
) -> SegmentLayout | None:
    """Lay segments that overlap by a share of their length into an input (paper table 3).

    The step is rounded to whole video frames.

    Args:
        input_s: length of the input, seconds.
        segment_s: length of a segment, seconds.
        overlap: share of a segment that the next one repeats, below 1.
        fps: video frames per second.

    Returns:
        As many segments as fit; None if not one does.

    Raises:
        ConfigError: if a segment is not a whole number of frames.
    """
    frames = to_frames(segment_s, fps)
    step_s = round(max(1, round(frames * (1 - overlap))) / fps, 9)
    num = count_steps(input_s, segment_s, step_s)
    return SegmentLayout(num_segments=num, segment_s=segment_s, step_s=step_s) if num else None


def common_hop_s(steps_s: list[float], fps: float) -> float:
    """Return the coarsest lattice of whole frames that serves all of these steps, seconds."""
    return round(math.gcd(*(to_frames(step_s, fps) for step_s in steps_s)) / fps, 9)


def nearby_lengths_s(length_s: float, fps: float, furthest: int) -> list[float]:
    """Return other lengths of whole frames, the nearest first, seconds.

    Args:
        length_s: where to look around.
        fps: video frames per second.
        furthest: frames to go beyond it.
    """
    lengths_s = [round(frames / fps, 9) for frames in range(1, round(length_s * fps) + furthest)]
    others = [other for other in lengths_s if abs(other - length_s) > LATTICE_TOLERANCE]
    return sorted(others, key=lambda other: abs(other - length_s))


def shared_segments(
    video_s: tuple[float, float],
    audio_s: tuple[float, float],
    layout: SegmentLayout,
    shift_s: float = 0.0,
) -> range:
    """Number the segments that end before picture and sound do, and not before either starts.

    Segment i shows the picture from ``i * layout.step_s`` on, and its sound is read ``shift_s``
    earlier.

    Args:
        video_s: start of the picture and end of its last whole frame, seconds.
        audio_s: start and end of the sound, seconds.
        layout: length and step of the segments.
        shift_s: how much earlier the sound is read, seconds.
    """
    start_s = max(video_s[0], audio_s[0] + shift_s) - layout.segment_s
    in_clip = math.ceil(max(0.0, shift_s) / layout.step_s - LATTICE_TOLERANCE)
    first = max(in_clip, math.floor(start_s / layout.step_s + LATTICE_TOLERANCE) + 1)
    end_s = min(video_s[1], audio_s[1] + shift_s)
    return range(first, max(first, count_steps(end_s, layout.segment_s, layout.step_s)))


class OffsetGrid(_Frozen):
    """The offset classes: 21 from -2 s to +2 s as published."""

    min_s: float = Field(-2.0, description="offset of the first class, seconds")
    max_s: float = Field(2.0, description="offset of the last class, seconds")
    num_classes: int = Field(21, ge=2, description="K, number of classes")

    @model_validator(mode="after")
    def _ordered(self) -> OffsetGrid:
        if self.max_s <= self.min_s:
            raise ValueError(f"max_s={self.max_s:g} must be above min_s={self.min_s:g}")
        return self

    @property
    def step_s(self) -> float:
        """Distance between two classes, seconds: 0.2 as published."""
        return (self.max_s - self.min_s) / (self.num_classes - 1)

    @cached_property
    def offsets_s(self) -> tuple[float, ...]:
        """Offset of every class, seconds."""
        values = np.linspace(self.min_s, self.max_s, self.num_classes)
        return tuple(round(float(v), 6) for v in values)

    @property
    def reach_s(self) -> float:
        """Largest offset in either direction, seconds."""
        return max(abs(self.min_s), abs(self.max_s))

    def class_of(self, offset_s: float) -> int:
        """Return the class whose offset is closest (the first of equals)."""
        distances_s = np.abs(np.asarray(self.offsets_s) - offset_s).round(9)  # ties are exact
        return int(np.argmin(distances_s))


class SlotGrid(_Frozen):
    """Slots of a crop, one after another from its start: ten of 1 s, say."""

    slot_s: float = Field(1.0, gt=0, description="length of a slot, seconds")
    num_slots: int = Field(10, gt=0, description="slots of a crop")

    @classmethod
    def within(cls, length_s: float, slot_s: float) -> SlotGrid:
        """Return the slots of which at least half lies within a length; the first one always."""
        return cls(slot_s=slot_s, num_slots=max(1, count_halves(length_s, slot_s)))

    @property
    def spans_s(self) -> list[tuple[float, float]]:
        """Start and end of every slot from the start of the crop, seconds."""
        edges_s = [round(i * self.slot_s, 6) for i in range(self.num_slots + 1)]
        return list(pairwise(edges_s))

    def weights(self, times_s: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the weight of each time in each slot, ``(slots, times)``: rows add up to 1.

        A slot takes the mean of the times within it, or the nearest one where there is none.

        Args:
            times_s: from the start of the crop, seconds.
        """
        times = np.asarray(times_s, dtype=np.float64)
        starts_s, ends_s = np.asarray(self.spans_s).T[:, :, None]
        inside = (times >= starts_s - LATTICE_TOLERANCE) & (times < ends_s - LATTICE_TOLERANCE)
        distances_s = np.abs(times - (starts_s + ends_s) / 2).round(9)  # ties are exact
        nearest = np.arange(times.size) == distances_s.argmin(1)[:, None]
        chosen = np.where(inside.any(1, keepdims=True), inside, nearest).astype(np.float32)
        return np.asarray(chosen / chosen.sum(1, keepdims=True))


def count_halves(length_s: float, slot_s: float) -> int:
    """Count the slots of ``slot_s`` of which at least half lies within ``length_s``."""
    return math.floor(length_s / slot_s + 0.5 + LATTICE_TOLERANCE)


def overlap_s(one_s: tuple[float, float], other_s: tuple[float, float]) -> float:
    """Return how long two spans (start, end) last together, seconds."""
    return max(0.0, min(one_s[1], other_s[1]) - max(one_s[0], other_s[0]))


@dataclass(frozen=True)
class Sample:
    """A random item for training or evaluation: where both crops of a clip start, and the answer.

    Attributes:
        clip: index of the clip in its split.
        vision_start_s: start of the video crop, seconds.
        audio_start_s: start of the audio crop, seconds.
        target: what is to be answered; a class, or whatever the task collates.
    """

    clip: int
    vision_start_s: float
    audio_start_s: float
    target: Any

    @property
    def offset_s(self) -> float:
        """How far the audio crop starts after the video crop, seconds."""
        return round(self.audio_start_s - self.vision_start_s, 6)


@dataclass(frozen=True)
class Placement:
    """Where crops may start.

    Attributes:
        layout: segments of a crop.
        vision_hop_s: lattice of video starts, seconds.
        audio_hop_s: lattice of audio starts, seconds.
        jitter_s: largest audio jitter, which does not change the answer, seconds.
    """

    layout: SegmentLayout
    vision_hop_s: float
    audio_hop_s: float
    jitter_s: float = 0.0


def place_crops(
    rng: np.random.Generator,
    clip: int,
    duration_s: float,
    place: Placement,
    offset_s: float,
    target: Any,
) -> Sample:
    """Choose where the crops of a synchronous clip start, the audio ``offset_s`` later.

    The video start is uniform over the multiples of ``vision_hop_s`` for which both crops lie
    inside the clip; the audio start then moves by a random multiple of ``audio_hop_s`` within
    ``jitter_s``.

    Args:
        rng: source of randomness.
        clip: index of the clip in its split.
        duration_s: the part that both streams cover, seconds from time 0.
        place: layout and lattices.
        offset_s: of the audio, seconds.
        target: what is to be answered.

    Raises:
        ConfigError: if the clip is too short for the offset.
    """
    layout, audio_hop_s = place.layout, place.audio_hop_s
    starts = feasible_starts(duration_s, layout, offset_s, place.vision_hop_s)
    if not starts and not offset_s and duration_s >= layout.shortest_s:
        starts = [0.0]
    if not starts:
        raise ConfigError(
            f"a clip of {duration_s:.2f} s is too short for a crop of {layout.covered_s:g} s "
            f"at offset {offset_s:+g} s"
        )
    vision_start_s = starts[int(rng.integers(len(starts)))]
    last_audio_start_s = duration_s - layout.covered_s
    reach = math.floor(place.jitter_s / audio_hop_s + LATTICE_TOLERANCE)
    jitter = int(rng.integers(-reach, reach + 1)) * audio_hop_s
    audio_start_s = vision_start_s + offset_s + jitter
    if not -LATTICE_TOLERANCE <= audio_start_s <= last_audio_start_s + LATTICE_TOLERANCE:
        audio_start_s = vision_start_s + offset_s
    return Sample(clip, round(vision_start_s, 6), round(audio_start_s, 6), target)


FIXED_CROP_S = 5.0
"""Length of the crop that published fixed starts refer to; its segments lie in the middle."""


def fixed_sample(
    clip: int,
    duration_s: float,
    layout: SegmentLayout,
    grid: OffsetGrid,
    offset_s: float,
    start_s: float,
    fps: float,
) -> Sample:
    """Place the crops of a published fixed offset: a start and an offset of a crop of 5 s.

    The segments lie in the middle of that crop, rounded down to whole frames as published; the
    video start is rounded to the nearest frame and the audio starts exactly ``offset_s`` later.

    Raises:
        ConfigError: if a crop reaches beyond the clip by more than one frame.
    """
    margin = max(0, math.floor((FIXED_CROP_S - layout.covered_s) * fps / 2 + LATTICE_TOLERANCE))
    vision_start_s = round((round(start_s * fps) + margin) / fps, 6)
    audio_start_s = round(vision_start_s + offset_s, 6)
    first_s = min(vision_start_s, audio_start_s)
    last_s = max(vision_start_s, audio_start_s) + layout.covered_s
    if first_s < -LATTICE_TOLERANCE or last_s > duration_s + 1 / fps + LATTICE_TOLERANCE:
        raise ConfigError(
            f"a crop of {layout.covered_s:g} s from {vision_start_s:.2f} s at offset "
            f"{offset_s:+g} s does not fit into a clip of {duration_s:.2f} s"
        )
    return Sample(clip, vision_start_s, audio_start_s, grid.class_of(offset_s))


def feasible_starts(
    duration_s: float, layout: SegmentLayout, offset_s: float, hop_s: float
) -> list[float]:
    """List the video starts on a lattice for which both crops lie inside the clip, seconds."""
    first_s = max(0.0, -offset_s)
    last_s = duration_s - layout.covered_s - max(0.0, offset_s)
    first = math.ceil(first_s / hop_s - LATTICE_TOLERANCE)
    last = math.floor(last_s / hop_s + LATTICE_TOLERANCE)
    return [round(i * hop_s, 6) for i in range(first, last + 1)]


def shortest_clip_s(layout: SegmentLayout, grid: OffsetGrid, hop_s: float = 0.0) -> float:
    """Return the shortest clip from which every offset can be drawn, seconds."""
    return round(layout.covered_s + grid.reach_s + hop_s, 6)


def search_shifts(layout: SegmentLayout, grid: OffsetGrid, max_offset_s: float) -> list[int]:
    """List shifts of the sound, in segment steps, from which the grid reaches a largest offset.

    They are half the grid's reach apart, so that every offset is seen from at least two of them.
    """
    hop = max(1, math.floor(grid.reach_s / 2 / layout.step_s))
    beyond_s = max(0.0, max_offset_s - grid.reach_s)
    count = math.ceil(beyond_s / (hop * layout.step_s) - LATTICE_TOLERANCE)
    return [hop * i for i in range(-count, count + 1)]


def count_hops(length_s: float, hop_s: float) -> int:
    """Count the whole hops in a length: frames of a clip, say."""
    return math.floor(length_s / hop_s + LATTICE_TOLERANCE)


def view_starts(num_units: int, size: int, views: int) -> list[int]:
    """Return where evenly spaced views start, from the first place of a stream to the last.

    Args:
        num_units: length of the stream, in frames or the like.
        size: of a view, which may be longer than the stream.
        views: how many.
    """
    return [int(start) for start in np.linspace(0, max(0, num_units - size), views)]


def middle_start(num_units: int, size: int) -> int:
    """Return where a view in the middle of a stream starts; 0 if it is longer than the stream."""
    return max(0, (num_units - size) // 2)


def clock_time(seconds: float) -> str:
    """Write a moment of a clip as players do: 12:31, or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def clock_span(start_s: float, end_s: float) -> str:
    """Write a stretch of a clip as players do, with tenths where it has some: 0:02-0:06."""
    return f"{clock_tenths(start_s)}-{clock_tenths(end_s)}"


def clock_tenths(seconds: float) -> str:
    """Write a moment as players do, with the tenth of a second where it has one: 0:02.5."""
    whole, tenth = divmod(round(10 * seconds), 10)
    return clock_time(whole) + (f".{tenth}" if tenth else "")


def count_chunks(length_s: float, chunk_s: float) -> int:
    """Count the chunks of ``chunk_s`` that cover ``length_s``; the last may be shorter."""
    return max(1, math.ceil(length_s / chunk_s - LATTICE_TOLERANCE))


def chunk_at(times_s: npt.ArrayLike, chunk_s: float, num_chunks: int) -> npt.NDArray[np.int64]:
    """Return which chunk each time lies in; what lies beyond the last one belongs to it."""
    chunks = np.floor(np.asarray(times_s) / chunk_s + LATTICE_TOLERANCE).astype(np.int64)
    return np.minimum(chunks, num_chunks - 1)


def describe_offset(offset_s: float) -> str:
    """Say in words what an offset means, so that nobody has to remember the sign."""
    if abs(offset_s) < 0.005:
        return "audio and video are in sync"
    lead = "early" if offset_s > 0 else "late"
    repair = "delay" if offset_s > 0 else "advance"
    amount = f"{abs(offset_s):.2f}".rstrip("0").rstrip(".")
    return f"the audio is {amount} s {lead}; to repair, {repair} it by {amount} s"
