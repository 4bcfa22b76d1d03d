"""Clips extracted beforehand, as CAV-MAE wants them: ten JPEGs and a WAV of 16 kHz."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchaudio.compliance.kaldi import fbank

from zoo.contracts import Frames, KaldiFbank
from zoo.media import decode

NUM_FRAMES = 10
CLIP_S = 10.0


def extract(clip: Path, folder: Path, size: int, rate_hz: int) -> Path:
    """Write the frames of a clip, short side ``size``, and its audio; return the new folder."""
    target = folder / clip.stem
    target.mkdir(parents=True, exist_ok=True)
    window = decode(clip, duration_s=CLIP_S, sample_rate_hz=rate_hz)
    assert window.frames is not None
    assert window.samples is not None
    for number in range(NUM_FRAMES):
        frame = window.frames[len(window.frames) * number // NUM_FRAMES]
        middle_cropped(Image.fromarray(frame), size, Image.Resampling.BILINEAR).save(
            target / f"{number}.jpg"
        )
    with wave.open(str(target / "audio.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((window.samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return target


def middle_cropped(image: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """Scale the short side, which leaves an image of that size as it is, and crop the middle."""
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), how).crop((left, top, left + size, top + size))


def read_frame(folder: Path, number: int, vision: Frames) -> Tensor:
    """Return a normalised frame ``(3, H, W)``."""
    image = Image.open(folder / f"{number}.jpg").convert("RGB")
    image = middle_cropped(image, vision.size, Image.Resampling.BICUBIC)
    frame = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (vision.mean, vision.std))
    return (frame - mean) / std


def read_spectrogram(folder: Path, audio: KaldiFbank, segment_s: float) -> Tensor:
    """Return a normalised filter bank ``(Ta, F)``."""
    with wave.open(str(folder / "audio.wav"), "rb") as file:
        rate_hz = file.getframerate()
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    samples = torch.from_numpy(values.astype(np.float32) / 32768)[None]
    mel = fbank(
        samples - samples.mean(),
        htk_compat=True,
        sample_frequency=rate_hz,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=audio.n_mels,
        dither=0.0,
        frame_shift=10,
    )
    num = audio.num_frames(segment_s)
    mel = torch.nn.functional.pad(mel, (0, 0, 0, max(0, num - len(mel))))[:num]
    return (mel - audio.mean) / audio.std
