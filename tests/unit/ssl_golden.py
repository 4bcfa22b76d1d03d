"""Golden vectors of CAV-MAE and AVSiam."""

from __future__ import annotations

from functools import partial

import golden
import numpy as np
import pytest
import torch
from golden import REFERENCE, SALT, recipe
from torch import Tensor

from plugins.cavmae.config import CavMaeConfig
from zoo.contracts import Frames, Modality
from zoo.data.frontend import crop_square, cut_frames, log_fbank
from zoo.media.resize import resize_frame

FOLDER = "golden_ssl"
arrays = partial(golden.arrays, folder=FOLDER)
check = partial(golden.assert_agrees, folder=FOLDER)

needs_ssl = pytest.mark.skipif(
    not (REFERENCE / FOLDER).is_dir(),
    reason="the golden vectors of CAV-MAE are not beside this checkout",
)


def frontend_items() -> dict[Modality, Tensor]:
    """Return the clips (w0, img0) and (w1, img1) after CAV-MAE's front ends."""
    fbank, frames = CavMaeConfig().audio_frontend, CavMaeConfig().vision_frontend
    audio, vision = [], []
    for suffix, num, height, width in (("", 160_000, 256, 343), ("/b", 150_000, 180, 320)):
        wave = torch.from_numpy(recipe().fake_audio(SALT + suffix, num))
        audio.append(log_fbank(wave, fbank, 10.24))
        video = recipe().fake_video(SALT + suffix, frames=1, height=height, width=width)
        vision.append(read_frames(video, frames))
    return {"audio": torch.stack(audio), "vision": torch.stack(vision)}


def read_frames(video: np.ndarray, frontend: Frames) -> Tensor:
    """Return frames ``(T, H, W, 3)`` after the front end, ``(C, T, H, W)``."""
    resized = [resize_frame(frame, frontend.short_side, frontend.resize) for frame in video]
    cropped = crop_square(np.stack(resized), frontend.size, None)
    return cut_frames(cropped, [0.0], len(cropped) / frontend.fps, frontend)[0]


def tokens_of(x: Tensor) -> Tensor:
    """Return every 37th token and every 48th channel, as the arrays hold them."""
    return x[:, ::37, ::48]
