"""Sizes and colours that vary between two readings of a clip, one choice for all its frames.

Source: AV-MAE and MBT (scenic, dmvr:modalities.py).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Real
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

BRIGHTNESS = 32 / 255  # largest number added to RGB in 0..1, either way
SATURATION = CONTRAST = (0.6, 1.4)
HUE = 0.2  # largest turn either way, share of the circle


def scale_frames(
    frames: Real[np.ndarray, "T H W C"],
    size: int,
    factors: tuple[float, float],
    rng: np.random.Generator,
) -> Real[np.ndarray, "T H W C"]:
    """Resize height and width by factors of their own, without smoothing, as TensorFlow does.

    Args:
        frames: bytes, or floats.
        size: of the crop that follows: no side becomes smaller.
        factors: the smallest and the largest.
        rng: source of randomness.
    """
    height, width = (
        max(size, int(side * factor))
        for side, factor in zip(frames.shape[1:3], rng.uniform(*factors, 2), strict=True)
    )
    resized = functional.resize(
        _planes(frames), [height, width], InterpolationMode.BILINEAR, antialias=False
    )
    return resized.permute(0, 2, 3, 1).numpy()


def vary_colours(
    frames: Real[np.ndarray, "T H W C"],
    jitter: float,
    grey: float,
    rng: np.random.Generator,
) -> Real[np.ndarray, "T H W C"]:
    """Change brightness, saturation, contrast and hue, in this order; then leave out all colour.

    Saturation is that of HSV, and contrast is about the mean of each channel of a frame, as in
    TensorFlow.  Values are clipped after every change, theirs only at the end; bytes stay bytes.

    Args:
        frames: bytes, or floats around 0 to 255.
        jitter: probability of the changes.
        grey: probability of grey frames.
        rng: source of randomness.
    """
    has_jitter, is_grey = rng.random() < jitter, rng.random() < grey
    if not (has_jitter or is_grey):
        return frames
    x = _planes(frames).float() / 255  # (T, C, H, W)
    if has_jitter:
        x = (x + rng.uniform(-BRIGHTNESS, BRIGHTNESS)).clamp_(0, 1)
        x = _saturate(x, rng.uniform(*SATURATION))
        mean = x.mean(dim=(2, 3), keepdim=True)
        x = ((x - mean) * rng.uniform(*CONTRAST) + mean).clamp_(0, 1)
        x = functional.adjust_hue(x, rng.uniform(-HUE, HUE))
    if is_grey:
        x = functional.rgb_to_grayscale(x, num_output_channels=3)
    x = 255 * x.permute(0, 2, 3, 1)  # (T, H, W, C)
    return (x.round().to(torch.uint8) if frames.dtype == np.uint8 else x).numpy()


def _saturate(x: Real[Tensor, "T C H W"], factor: float) -> Real[Tensor, "T C H W"]:
    """Multiply HSV's saturation, at most to 1: the distance from a pixel's largest channel."""
    largest, smallest = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    most = largest / (largest - smallest).clamp_min(1e-6)
    return (largest - (largest - x) * most.clamp_max(factor)).clamp_(0, 1)


def _planes(frames: Real[np.ndarray, "T H W C"]) -> Real[Tensor, "T C H W"]:
    """Return a copy, since frames of a cache can only be read, with the channels second."""
    return torch.from_numpy(np.array(frames, order="C")).permute(0, 3, 1, 2)
