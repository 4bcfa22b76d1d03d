"""Clips as the published code reads and cuts them: every quirk of it, and nothing else.

The zoo reads clips on their own clock and rounds (`zoo.data.clip_reader`, `zoo.timeline`).  Numbers
made with the published code need what that code does, which is here and nowhere else:

* all frames and samples are taken in order, whatever their times: there is no common clock;
* the frame rate is the stream's mean rate, and clips are not resized or resampled;
* seconds become frames and samples by truncation, ``int(seconds * rate)``;
* a fixed sample starts the video on a frame but its audio at the start as it was given;
* a negative audio start of up to one frame becomes 0;
* segments lie in the middle of a crop of 5 s;
* classes are looked up in float32;
* stage II normalises frames in float16;
* random samples come from Python's ``random`` in a fixed order.

Source: v-iashin/Synchformer at b66668a, and torchvision's ``read_video`` as it was.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.contracts import Frames, LogMel
from zoo.data.frontend import crop_square, log_mel, per_channel
from zoo.errors import MediaError, option
from zoo.media.apart import reads_clip
from zoo.media.audio import in_full_scale
from zoo.media.untrusted import demuxed, open_container
from zoo.timeline import FIXED_CROP_S, OffsetGrid, SegmentLayout

LONGEST_S = 10.0  # what is kept of a clip
JITTER_S = 0.05  # of the audio, in training only


# --- reading ---


@dataclass(frozen=True)
class RawClip:
    """A clip as decoded: ``frames`` uint8 ``(T, H, W, 3)``, ``samples`` float32 mono ``(N,)``."""

    frames: np.ndarray
    samples: np.ndarray
    fps: float
    sample_rate_hz: int


@reads_clip
def read_clip(path: Path, *, end_s: float | None = None, audio_shift_s: float = 0.0) -> RawClip:
    """Decode a clip in the order of its presentation times, without placing it on a clock.

    Args:
        path: the clip's file.
        end_s: last presentation time to take, inclusive; LRS3 is read up to 11 s.
        audio_shift_s: silence put in front of the audio, or how much of it is left out (negative),
            seconds.  Published accuracies change by such a shift with the version of the decoder.

    Raises:
        MediaError: if the clip cannot be read, lacks a stream or has audio that is not planar
            float (AAC is).
    """
    try:
        with open_container(path) as container:
            if not container.streams.video or not container.streams.audio:
                lacking = "audio" if container.streams.video else "video"
                raise MediaError(f"{path.name} has no {lacking} stream")
            for stream in (container.streams.video[0], container.streams.audio[0]):
                if stream.codec_context is None:
                    raise MediaError(f"the {stream.type} of {path.name} cannot be decoded")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or 0)
            decoded = _in_order(_decoded(container, stream), 0.0, end_s, stream.time_base)
            frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
        with open_container(path) as container:
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            decoded = _in_order(_decoded(container, stream), 0.0, end_s, stream.time_base)
            parts = [_planar(frame, path) for frame in decoded]
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{path} cannot be read: {reason}") from None
    if not frames or not parts:
        raise MediaError(f"{path} holds no {'audio' if frames else 'video'} that can be decoded")
    if len({frame.shape for frame in frames}) > 1 or len({len(part) for part in parts}) > 1:
        raise MediaError(f"{path.name} changes its size or its channels half-way")
    if not (fps > 0 and rate > 0):
        raise MediaError(f"{path.name} is damaged: it has no frame rate, or no sample rate")
    samples = np.concatenate(parts, axis=1).mean(axis=0)  # (N,)
    shifted = _shift(samples, int(audio_shift_s * rate))
    return RawClip(np.stack(frames), shifted, fps, rate)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield frames up to the first error, which the published reader passes over in silence."""
    try:
        for packet in demuxed(container, stream):
            yield from packet.decode()
    except av.FFmpegError:
        return


def _in_order(frames: Iterator[Any], start_s: float, end_s: float | None, tick: Any) -> list[Any]:
    """Return the frames between two times, both included, in the order of their times."""
    first = math.floor(start_s / tick)
    last = math.inf if end_s is None else math.ceil(end_s / tick)
    kept: dict[int, Any] = {}
    for frame in frames:
        if frame.pts is None:
            continue
        if frame.pts > last:
            break
        kept[frame.pts] = frame
    return [kept[pts] for pts in sorted(kept) if pts >= first]


def _planar(frame: Any, path: Path) -> np.ndarray:
    if frame.format.name != "fltp":
        raise MediaError(
            f"{path.name} has {frame.format.name} audio, and the published code expects AAC",
            f"re-encode the clips, or leave out {option('as_published')}",
        )
    return in_full_scale([frame])  # (channels, samples), as they are


def _shift(samples: np.ndarray, by: int) -> np.ndarray:
    if by < 0:
        return samples[-by:]
    return np.concatenate([np.zeros(by, samples.dtype), samples])


def trim(clip: RawClip, longest_s: float = LONGEST_S) -> RawClip:
    """Cut both streams at their ends to a common length of at most ``longest_s``."""
    video_s, audio_s = len(clip.frames) / clip.fps, len(clip.samples) / clip.sample_rate_hz
    length_s = min(longest_s, audio_s, video_s)
    num_frames = int(clip.fps * length_s)
    num_samples = int((clip.sample_rate_hz // clip.fps) * num_frames)
    return replace(clip, frames=clip.frames[:num_frames], samples=clip.samples[:num_samples])


# --- offsets and crops ---


def class_grid(grid: OffsetGrid) -> np.ndarray:
    """Return the offsets of the classes in float32."""
    return np.linspace(grid.min_s, grid.max_s, grid.num_classes).astype(np.float32)


def class_of(offset_s: float, grid: OffsetGrid) -> int:
    """Return the closest class, the first of equals, as float32 sees them."""
    return int(np.argmin(np.abs(class_grid(grid) - np.float32(offset_s))))


@dataclass(frozen=True)
class Crop:
    """Where both crops of a clip start.

    Attributes:
        offset_s: of the audio against the video, seconds.
        start_s: of the video, seconds.
        first_frame: first frame of the video crop.
        first_sample: first sample of the audio crop.
        num_frames: length of the video crop.
        num_samples: length of the audio crop.
        target: the right answer: class of the offset, unless a task asks for something else.
    """

    offset_s: float
    start_s: float
    first_frame: int
    first_sample: int
    num_frames: int
    num_samples: int
    target: Any


def crop_s(layout: SegmentLayout) -> float:
    """Return the length of the crop that holds the segments of an offset model, seconds."""
    return max(FIXED_CROP_S, layout.covered_s)


def require_length(clip: RawClip, needed_s: float) -> None:
    """Refuse a clip that does not hold a crop and every offset.

    Raises:
        MediaError: if it is shorter.
    """
    if len(clip.frames) < round(needed_s * clip.fps):
        has_s = len(clip.frames) / clip.fps
        raise MediaError(f"too short: {has_s:.2f} s, crop and offsets need {needed_s:g} s")


def fixed_crop(
    clip: RawClip, grid: OffsetGrid, length_s: float, offset_s: float, start_s: float
) -> Crop:
    """Cut at a given offset and start; the audio starts at the start as it was given.

    Raises:
        MediaError: if a crop does not fit.
    """
    return _crop(clip, grid, length_s, round(offset_s, 2), start_s, int(start_s * clip.fps))


def random_crop(
    clip: RawClip, grid: OffsetGrid, length_s: float, rng: random.Random, jitter_s: float = 0.0
) -> Crop:
    """Choose an offset and a start at random, then the jitter of the audio.

    Raises:
        MediaError: if the clip is not longer than the crop.
    """
    offset_s = round(float(rng.choice(class_grid(grid))), 2)
    return jitter(random_start(clip, grid, length_s, offset_s, rng), clip, rng, jitter_s)


def random_start(
    clip: RawClip, grid: OffsetGrid, length_s: float, offset_s: float, rng: random.Random
) -> Crop:
    """Choose a start at random for a given offset.

    Raises:
        MediaError: if the clip is not longer than the crop and the offset.
    """
    last_s = (len(clip.frames) - int(length_s * clip.fps)) / clip.fps
    low_s, high_s = max(0.0, -offset_s), min(last_s, last_s - offset_s)
    if last_s <= 0 or high_s < low_s:
        raise MediaError(
            f"too short: {len(clip.frames) / clip.fps:.2f} s cannot hold a crop of {length_s:g} s "
            f"at offset {offset_s:+g} s"
        )
    first_frame = int(rng.uniform(low_s, high_s) * clip.fps)
    return _crop(clip, grid, length_s, offset_s, first_frame / clip.fps, first_frame)


def _crop(
    clip: RawClip,
    grid: OffsetGrid,
    length_s: float,
    offset_s: float,
    start_s: float,
    first_frame: int,
) -> Crop:
    fps, rate = clip.fps, clip.sample_rate_hz
    num_frames, num_samples = int(length_s * fps), int(length_s * rate)
    first_sample = int((start_s + offset_s) * rate)
    if -rate / fps <= first_sample < 0:
        first_sample = 0
    if (
        first_sample < 0
        or first_frame + num_frames > len(clip.frames)
        or first_sample + num_samples > len(clip.samples)
    ):
        raise MediaError(
            f"too short: a crop of {length_s:g} s from {start_s:.2f} s at offset {offset_s:+g} s "
            f"does not fit into {len(clip.frames) / fps:.2f} s"
        )
    target = class_of(offset_s, grid)
    return Crop(offset_s, start_s, first_frame, first_sample, num_frames, num_samples, target)


def jitter(crop: Crop, clip: RawClip, rng: random.Random, jitter_s: float) -> Crop:
    """Move the audio at random by up to ``jitter_s``; without any, ``rng`` is not asked."""
    if not jitter_s:
        return crop
    most = int(jitter_s * clip.sample_rate_hz)
    left = min(most, crop.first_sample)
    right = min(most, len(clip.samples) - crop.first_sample - crop.num_samples)
    return replace(crop, first_sample=crop.first_sample + rng.randint(-left, right))


# --- segments ---


def place_segments(
    layout: SegmentLayout,
    num_frames: int,
    num_samples: int,
    *,
    fps: float = 25.0,
    sample_rate_hz: int = 16_000,
    rng: random.Random | None = None,
    jitter_s: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Place segments in a window: in its middle, or at random as stage I does in training.

    Returns:
        Frames and samples ``(S, 2)``, start and end of every segment.

    Raises:
        MediaError: if so many do not fit.
    """
    n, q = layout.num_segments, step_in_segments(layout)
    size = round(layout.segment_s * fps), int(round(layout.segment_s * fps) / fps * sample_rate_hz)
    stride = int(q * size[0]), int(q * size[1])
    most = min(
        (length - s) // d + 1
        for length, s, d in zip((num_frames, num_samples), size, stride, strict=True)
    )
    if n > most:
        raise MediaError(f"too short: {n} segments do not fit into {num_frames} frames")
    covered = n * q + (1 - q)
    slack = num_frames - int(covered * size[0])
    first_frame = slack // 2 if rng is None else rng.randint(0, slack)
    first_sample = int(first_frame / fps * sample_rate_hz)
    if rng is not None and jitter_s:
        left = num_samples - first_sample - int(covered * size[1])
        reach = min(int(jitter_s * sample_rate_hz), first_sample, left)
        first_sample += rng.randint(-reach, reach)
    starts = [
        first + np.arange(n) * d
        for first, d in zip((first_frame, first_sample), stride, strict=True)
    ]
    vision, audio = (np.stack([x, x + s], axis=1) for x, s in zip(starts, size, strict=True))
    return vision, audio


def step_in_segments(layout: SegmentLayout) -> float:
    """Return the step in segments: 0.5 for half overlapped ones."""
    return round(layout.step_s / layout.segment_s, 6)


def cut_segments(
    clip: RawClip,
    crop: Crop | None,
    layout: SegmentLayout,
    vision: Frames,
    audio: LogMel,
    *,
    in_float16: bool = True,
) -> tuple[Float[Tensor, "S F Ta"], Float[Tensor, "S C Tv H W"]]:
    """Cut the segments in the middle of a crop and bring them into the form the extractors read.

    Args:
        clip: trimmed.
        crop: where both streams start; by default the whole clip, as stage I does.
        layout: of the segments.
        vision: size of the centred crop of the frames, mean and std.
        audio: mel parameters.
        in_float16: normalise frames in float16, as all but the test of stage I do; the result is
            float32 that keeps this rounding.
    """
    frames, samples = clip.frames, clip.samples
    if crop is not None:
        frames = frames[crop.first_frame : crop.first_frame + crop.num_frames]
        samples = samples[crop.first_sample : crop.first_sample + crop.num_samples]
    if min(frames.shape[1:3]) < vision.size:
        raise MediaError(
            f"too small: {frames.shape[2]} x {frames.shape[1]} pixels do not hold a crop of "
            f"{vision.size}, and the published code does not resize"
        )
    at_v, at_a = place_segments(
        layout, len(frames), len(samples), fps=clip.fps, sample_rate_hz=clip.sample_rate_hz
    )
    frames = crop_square(frames, vision.size, None)
    pixels = torch.from_numpy(np.stack([frames[i:j] for i, j in at_v]))  # (S, Tv, H, W, C)
    cut = torch.from_numpy(np.stack([samples[i:j] for i, j in at_a]))  # (S, N)
    scaled = pixels.permute(0, 4, 1, 2, 3).to(torch.float16 if in_float16 else torch.float32)
    mean, std = (per_channel(x).to(scaled.dtype) for x in (vision.mean, vision.std))
    scaled = scaled.div_(255).sub_(mean).div_(std).float()  # (S, C, Tv, H, W)
    return log_mel(cut, audio, layout.segment_s), scaled
