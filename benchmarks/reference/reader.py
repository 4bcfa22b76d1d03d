"""Clips read the published way: all of a clip is decoded, and then nearly all of it thrown away."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from zoo.contracts import Frames, LogMel
from zoo.data.frontend import log_mel, per_channel
from zoo.timeline import Sample, SegmentLayout, to_frames, to_samples

LONGEST_S = 11.0  # Source: Synchformer's reader stops here on LRS3; its other clips have 10 s


def read_whole_clip(path: Path) -> tuple[Tensor, Tensor]:
    """Return all frames ``(Tv, C, H, W)`` uint8, and all samples, mono ``(N,)``."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        decoded = sorted(_until(container.decode(stream), LONGEST_S), key=_pts)
        frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        decoded = sorted(_until(container.decode(stream), LONGEST_S), key=_pts)
        samples = np.concatenate([frame.to_ndarray() for frame in decoded], axis=1).mean(0)
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), torch.from_numpy(samples)


def _pts(frame: av.VideoFrame | av.AudioFrame) -> int:
    return frame.pts


def _until(frames, end_s: float):
    for frame in frames:
        if frame.time > end_s:
            return
        yield frame


def read_sample(
    path: Path, sample: Sample, layout: SegmentLayout, vision: Frames, audio: LogMel
) -> tuple[Tensor, Tensor]:
    """Return the segments of a sample, audio ``(S, F, Ta)`` and video ``(S, C, Tv, H, W)``.

    The published code normalises in half precision, which takes CPUs longer; here it is single.
    """
    frames, samples = read_whole_clip(path)
    if min(frames.shape[2:]) != vision.short_side:  # the published sizes need no scaling
        frames = resize(frames, [vision.short_side], antialias=True)
    top, left = (round((side - vision.size) / 2) for side in frames.shape[2:])
    frames = frames[:, :, top : top + vision.size, left : left + vision.size]
    num = to_frames(layout.segment_s, vision.fps)
    starts = [to_frames(sample.vision_start_s + t, vision.fps) for t in layout.starts_s]
    cut = torch.stack([frames[i : i + num] for i in starts])  # (S, Tv, C, H, W)
    cut = (cut.float() / 255).transpose(1, 2)  # (S, C, Tv, H, W)
    cut = (cut - per_channel(vision.mean)) / per_channel(vision.std)
    length = to_samples(layout.segment_s, audio.sample_rate_hz)
    firsts = [to_samples(sample.audio_start_s + t, audio.sample_rate_hz) for t in layout.starts_s]
    waves = torch.stack([samples[i : i + length] for i in firsts])
    return log_mel(waves, audio, layout.segment_s), cut.contiguous()
