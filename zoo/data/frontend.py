"""Front ends: from decoded windows to the segments an extractor reads."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from zoo.contracts import Frames, LogMel
from zoo.timeline import to_frames, to_samples

LOG_FLOOR = 1e-6


def cut_audio(
    samples: np.ndarray, starts_s: list[float], segment_s: float, frontend: LogMel
) -> Float[Tensor, "S F Ta"]:
    """Cut segments out of a waveform and turn each into a normalised log-mel spectrogram.

    Args:
        samples: mono waveform ``(N,)`` at the front end's rate.
        starts_s: start of each segment from the first sample, seconds.
        segment_s: length of a segment, seconds.
        frontend: mel parameters.
    """
    length = to_samples(segment_s, frontend.sample_rate_hz)
    starts = [to_samples(t, frontend.sample_rate_hz) for t in starts_s]
    views = np.lib.stride_tricks.sliding_window_view(samples, length)
    return log_mel(torch.from_numpy(views[starts]), frontend, segment_s)


def log_mel(
    segments: Float[Tensor, "S N"], frontend: LogMel, segment_s: float
) -> Float[Tensor, "S F Ta"]:
    """Compute normalised log-mel spectrograms of segments (Source: Synchformer's transforms).

    As published, the padding with 0 comes after the log and before the normalisation, which puts
    the padded last frame far above silence.
    """
    mel = torch.log(_mel_transform(frontend)(segments) + LOG_FLOOR)  # (S, F, Ta - 1)
    missing = frontend.num_frames(segment_s) - mel.shape[2]
    mel = torch.nn.functional.pad(mel, (0, missing))  # (S, F, Ta)
    return (mel - frontend.mean) / (2 * frontend.std)


@cache
def _mel_transform(frontend: LogMel) -> MelSpectrogram:
    return MelSpectrogram(
        sample_rate=frontend.sample_rate_hz,
        n_fft=frontend.n_fft,
        win_length=frontend.win_length,
        hop_length=frontend.hop_length,
        n_mels=frontend.n_mels,
    )


def cut_frames(
    frames: np.ndarray, starts_s: list[float], segment_s: float, frontend: Frames
) -> Float[Tensor, "S C Tv H W"]:
    """Cut segments out of cropped frames ``(Tv, H, W, 3)`` and normalise them.

    Args:
        frames: uint8 RGB at the front end's rate, already ``size`` pixels square.
        starts_s: start of each segment from the first frame, seconds.
        segment_s: length of a segment, seconds.
        frontend: size, mean, std.
    """
    num = frontend.num_frames(segment_s)
    starts = [to_frames(t, frontend.fps) for t in starts_s]
    segments = torch.from_numpy(np.stack([frames[i : i + num] for i in starts]))
    return normalise(segments, frontend)


def normalise(
    segments: UInt8[Tensor, "S Tv H W C"], frontend: Frames
) -> Float[Tensor, "S C Tv H W"]:
    """Scale uint8 to 0..1, subtract the mean, divide by the standard deviation."""
    x = segments.permute(0, 4, 1, 2, 3).float()  # (S, C, Tv, H, W)
    return x.div_(255.0 * frontend.std).sub_(frontend.mean / frontend.std)


def crop_square(frames: np.ndarray, size: int, rng: np.random.Generator | None) -> np.ndarray:
    """Crop ``(Tv, H, W, 3)`` to ``size``: at random when training, centred otherwise."""
    slack = (frames.shape[1] - size, frames.shape[2] - size)
    if rng is None:
        top, left = (round(s / 2) for s in slack)
    else:
        top, left = (int(rng.integers(s + 1)) for s in slack)
    return frames[:, top : top + size, left : left + size]
