"""Front ends: from decoded windows to the segments an extractor reads."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor
from torchaudio.compliance.kaldi import fbank
from torchaudio.transforms import MelSpectrogram
from torchaudio.transforms import Spectrogram as PowerSpectrogram

from zoo.contracts import (
    AudioFrontend,
    Frames,
    KaldiFbank,
    LogMel,
    MelAmplitude,
    Spectrogram,
)
from zoo.timeline import to_frames, to_samples

LOG_FLOOR = 1e-6
MOST_NUMBERS = 1 << 27  # of the segments held at a time: 0.5 GB
BLOCK_SEGMENTS = 32  # of a clip, decoded and encoded at a time: memory stays flat on long ones


def segments_at_once(frontend: AudioFrontend | Frames, segment_s: float) -> int:
    """Return how many segments to hold at a time: 55 of 0.64 s and 224 pixels, 7 of 5 s."""
    return max(1, MOST_NUMBERS // math.prod(frontend.segment_shape(segment_s)))


def block_segments(frontend: Frames, segment_s: float) -> int:
    """Return how many segments of a clip to decode and encode at a time."""
    return min(BLOCK_SEGMENTS, segments_at_once(frontend, segment_s))


def cut_audio(
    samples: np.ndarray, starts_s: list[float], segment_s: float, frontend: AudioFrontend
) -> Float[Tensor, "S F Ta"]:
    """Cut segments out of a waveform and turn each into a normalised spectrogram.

    Args:
        samples: mono waveform ``(N,)`` at the front end's rate.
        starts_s: start of each segment from the first sample, seconds.
        segment_s: length of a segment, seconds.
        frontend: parameters of the spectrogram.
    """
    length = to_samples(segment_s, frontend.sample_rate_hz)
    starts = np.array([to_samples(t, frontend.sample_rate_hz) for t in starts_s])
    if isinstance(frontend, Spectrogram):
        return log_spectrogram(_cut(samples, starts, length), frontend)
    if isinstance(frontend, MelAmplitude):
        return log_mel_amplitude(_cut(samples, starts, length), frontend)
    if isinstance(frontend, KaldiFbank):
        segments = (samples[start : start + length] for start in starts)
        return torch.stack(
            [log_fbank(torch.from_numpy(np.array(part)), frontend, segment_s) for part in segments]
        )
    hop = frontend.hop_length
    if length % hop == 0 and not np.any((starts - starts[0]) % hop):
        mel = _overlapping_mel(samples, starts, length, frontend)
    else:
        mel = _mel_transform(frontend)(_cut(samples, starts, length))
    return _finish(mel, frontend, segment_s)


def without_filling(samples: np.ndarray, frontend: AudioFrontend, left_s: float) -> np.ndarray:
    """Return what is read of a clip without the silence behind its end.

    Only for a front end that has a filling of its own.

    Args:
        samples: ``(N,)`` at the front end's rate.
        frontend: what they are meant for.
        left_s: of the clip, from the first sample on, seconds.
    """
    if not isinstance(frontend, KaldiFbank):
        return samples
    shortest = round(frontend.win_s * frontend.sample_rate_hz)
    return samples[: max(shortest, round(left_s * frontend.sample_rate_hz))]


def log_mel(
    segments: Float[Tensor, "S N"], frontend: LogMel, segment_s: float
) -> Float[Tensor, "S F Ta"]:
    """Compute normalised log-mel spectrograms of segments (Source: Synchformer's transforms).

    As published, the padding with 0 comes after the log and before the normalisation, which puts
    the padded last frame far above silence.
    """
    return _finish(_mel_transform(frontend)(segments), frontend, segment_s)


def log_spectrogram(
    segments: Float[Tensor, "S N"], frontend: Spectrogram
) -> Float[Tensor, "S F Ta"]:
    """Compute log power spectrograms whose rows have mean 0 and spread 1 (Source: SparseSync)."""
    transform = _power_transform(frontend.n_fft, frontend.hop_length)
    x = torch.log(transform(segments) + LOG_FLOOR)  # (S, F, Ta)
    return (x - x.mean(dim=2, keepdim=True)) / (x.std(dim=2, keepdim=True) + LOG_FLOOR)


def log_fbank(
    segment: Float[Tensor, N], frontend: KaldiFbank, segment_s: float
) -> Float[Tensor, "F Ta"]:
    """Compute Kaldi's normalised log-mel filter bank of a segment, which may end early.

    (Source: CAV-MAE's loader, whose padding comes before the normalisation.)
    """
    num = frontend.num_frames(segment_s)
    mel = fbank(
        (segment - segment.mean())[None],
        htk_compat=True,
        sample_frequency=frontend.sample_rate_hz,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=frontend.n_mels,
        dither=0.0,
        frame_length=1000 * frontend.win_s,
        frame_shift=1000 * frontend.hop_s,
    )[:num]  # (T, F)
    mel = torch.nn.functional.pad(mel, (0, 0, 0, num - len(mel)))  # (Ta, F)
    return ((mel - frontend.mean) / frontend.std).T


def log_mel_amplitude(
    segments: Float[Tensor, "S N"], frontend: MelAmplitude
) -> Float[Tensor, "S F Ta"]:
    """Compute the normalised log of mel-weighted amplitude spectra, a frame per hop."""
    window, hop = frontend.win_length, frontend.hop_length
    num = -(-segments.shape[1] // hop)
    missing = max(0, (num - 1) * hop + window - segments.shape[1])
    frames = torch.nn.functional.pad(segments, (0, missing)).unfold(1, window, hop)[:, :num]
    spectra = torch.fft.rfft(frames * torch.hamming_window(window), frontend.n_fft).abs()
    mel = spectra @ _mel_triangles(frontend)  # (S, Ta, F)
    return ((torch.log(mel + frontend.floor) - frontend.mean) / frontend.std).transpose(1, 2)


@cache
def _mel_triangles(frontend: MelAmplitude) -> Float[Tensor, "N F"]:
    """Return how much of each frequency goes into each bin; nothing of a constant does."""
    hz = torch.linspace(0, frontend.sample_rate_hz / 2, frontend.n_fft // 2 + 1).double()
    low, high = (_mel(torch.tensor(f).double()) for f in (frontend.low_hz, frontend.high_hz))
    edges = torch.linspace(float(low), float(high), frontend.n_mels + 2, dtype=torch.float64)
    rising = (_mel(hz)[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - _mel(hz)[:, None]) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0)
    triangles[0] = 0
    return triangles.float()


def _mel(hz: Tensor) -> Tensor:
    """Return mels of frequencies (HTK)."""
    return 1127.0 * torch.log1p(hz / 700.0)


def _cut(samples: np.ndarray, starts: np.ndarray, length: int) -> Float[Tensor, "S N"]:
    views = np.lib.stride_tricks.sliding_window_view(samples, length)
    return torch.from_numpy(views[starts])


def _overlapping_mel(
    samples: np.ndarray, starts: np.ndarray, length: int, frontend: LogMel
) -> Float[Tensor, "S F T"]:
    """Compute mel spectrograms of segments that overlap, sharing the frames they have in common.

    A segment has its own reflected borders, which only its outermost frames see; all others are
    frames of the whole waveform.
    """
    mel, hop = _mel_transform(frontend), frontend.hop_length
    border = -(-frontend.win_length // (2 * hop))  # frames on either side that see a border
    num_frames = length // hop + 1
    piece = max(2 * border, frontend.n_fft // (2 * hop) + 2)  # hops around a border
    if 2 * piece >= num_frames:
        return mel(_cut(samples, starts, length))
    first, last = int(starts.min()), int(starts.max()) + length
    whole = mel(torch.from_numpy(np.array(samples[first:last])))  # (F, L)
    heads = mel(_cut(samples, starts, piece * hop))  # (S, F, piece + 1)
    tails = mel(_cut(samples, starts + length - piece * hop, piece * hop))
    inner = np.arange(border, num_frames - border) + ((starts - first) // hop)[:, None]  # (S, I)
    shared = whole[:, torch.from_numpy(inner)].transpose(0, 1)  # (S, F, I)
    return torch.cat([heads[..., :border], shared, tails[..., -border:]], dim=2)


def _finish(
    mel: Float[Tensor, "S F T"], frontend: LogMel, segment_s: float
) -> Float[Tensor, "S F Ta"]:
    mel = torch.log(mel + LOG_FLOOR)  # (S, F, Ta - 1)
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


@cache
def _power_transform(n_fft: int, hop_length: int) -> PowerSpectrogram:
    return PowerSpectrogram(n_fft=n_fft, hop_length=hop_length, power=2.0)


def cut_frames(
    frames: np.ndarray, starts_s: list[float], segment_s: float, frontend: Frames
) -> Float[Tensor, "S C Tv H W"]:
    """Cut segments out of cropped frames ``(T, H, W, 3)`` and normalise them.

    Segments that overlap share their memory: nothing may be written into the answer.

    Args:
        frames: RGB of 0 to 255 at the front end's rate, already ``size`` pixels square.
        starts_s: start of each segment from the first frame, seconds.
        segment_s: length of a segment, seconds.
        frontend: size, mean, std.
    """
    num = frontend.num_frames(segment_s)
    starts = [to_frames(t, frontend.fps) for t in starts_s]
    steps = {late - early for early, late in pairwise(starts)} or {1}
    if len(steps) > 1 or not 0 < (step := steps.pop()) <= num:
        stacked = np.stack([frames[i : i + num] for i in starts])  # (S, Tv, H, W, C)
        return normalise(torch.from_numpy(stacked), frontend)
    covered = frames[None, starts[0] : starts[-1] + num]
    assert covered.shape[1] == starts[-1] + num - starts[0]
    return _overlapping(_planes(covered, frontend), num, step)[0]


def cut_crops(
    frames: Real[Tensor, "B T H W C"],
    starts_s: list[float],
    segment_s: float,
    frontend: Frames,
) -> Float[Tensor, "B S C Tv H W"]:
    """Cut a batch of crops into segments and normalise them, where the crops are.

    Until here most frames travel as bytes: from process to process and to a GPU that is an eighth
    of what segments that overlap by half would take.  Segments share their memory, as in
    `cut_frames`.

    Args:
        frames: RGB of 0 to 255 of all that the layout covers, ``size`` pixels square.
        starts_s: start of each segment from the first frame, equally far apart, seconds.
        segment_s: length of a segment, seconds.
        frontend: size, mean, std.
    """
    num = frontend.num_frames(segment_s)
    first = to_frames(starts_s[0], frontend.fps)
    last = to_frames(starts_s[-1], frontend.fps) + num
    step = to_frames(starts_s[1] - starts_s[0], frontend.fps) if len(starts_s) > 1 else num
    frames = frames[:, first:last]
    is_here = frames.device.type == "cpu"
    planes = _planes(frames.numpy(), frontend) if is_here else normalise(frames, frontend)
    return _overlapping(planes, num, step)


def _overlapping(
    planes: Float[Tensor, "B C T H W"], num: int, step: int
) -> Float[Tensor, "B S C Tv H W"]:
    return planes.unfold(2, num, step).permute(0, 2, 1, 5, 3, 4)


def _planes(frames: Real[np.ndarray, "B T H W C"], frontend: Frames) -> Float[Tensor, "B C T H W"]:
    """Normalise frames as `normalise` does, frame by frame, which stays in the CPU's cache."""
    num_crops, num, height, width, channels = frames.shape
    mean, std = (np.asarray(values, np.float32) for values in (frontend.mean, frontend.std))
    divisors, offsets = (np.broadcast_to(values, channels) for values in (255.0 * std, mean / std))
    planes = np.empty((num_crops, channels, num, height, width), np.float32)
    for crop, time, channel in np.ndindex(num_crops, num, channels):
        plane = planes[crop, channel, time]
        np.divide(frames[crop, time, :, :, channel], divisors[channel], out=plane)
        plane -= offsets[channel]
    return torch.from_numpy(planes)


def normalise(
    segments: Real[Tensor, "S Tv H W C"], frontend: Frames
) -> Float[Tensor, "S C Tv H W"]:
    """Scale 0..255 to 0..1, subtract the mean, divide by the standard deviation."""
    x = segments.permute(0, 4, 1, 2, 3).to(torch.float32, copy=True)  # (S, C, Tv, H, W)
    mean, std = (per_channel(values).to(x.device) for values in (frontend.mean, frontend.std))
    return x.div_(255.0 * std).sub_(mean / std)


def per_channel(values: float | tuple[float, ...]) -> Float[Tensor, "1 C 1 1 1"]:
    """Shape one number, or one per channel, for segments ``(S, C, Tv, H, W)``."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


def crop_square(frames: np.ndarray, size: int, rng: np.random.Generator | None) -> np.ndarray:
    """Crop ``(Tv, H, W, 3)`` to ``size``: at random when training, centred otherwise."""
    slack = (frames.shape[1] - size, frames.shape[2] - size)
    if rng is None:
        top, left = (round(s / 2) for s in slack)
    else:
        top, left = (int(rng.integers(s + 1)) for s in slack)
    return frames[:, top : top + size, left : left + size]
