"""Resizing one frame as published code does, where FFmpeg's scaling would not be the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.contracts import Resize


def resize_frame(
    frame: npt.NDArray[np.uint8], short_side: int, how: Resize
) -> npt.NDArray[np.generic]:
    """Resize an upright frame ``(H, W, 3)``.

    Args:
        frame: RGB of 0 to 255.
        short_side: pixels.
        how: one of these, as FFmpeg scales while it decodes:
            ``bicubic_uint8``: the short side, uint8 (Source: CAV-MAE's loader, by way of Pillow);
            ``bicubic_square``: both sides, whatever the aspect, float32 that may leave 0 to 255
            (Source: AVSiam's loader, by way of torch).
    """
    assert how != "ffmpeg"
    return _shorten(frame, short_side) if how == "bicubic_uint8" else _square(frame, short_side)


def _shorten(frame: npt.NDArray[np.uint8], short_side: int) -> npt.NDArray[np.uint8]:
    from PIL import Image

    height, width = frame.shape[:2]
    short = min(height, width)
    size = int(short_side * width / short), int(short_side * height / short)
    if size == (width, height):
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def _square(frame: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.float32]:
    import torch
    from torch.nn.functional import interpolate

    pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None] / 255
    if tuple(pixels.shape[2:]) != (side, side):
        pixels = interpolate(pixels, (side, side), mode="bicubic", antialias=True)
    resized: Any = pixels[0].permute(1, 2, 0).mul(255).contiguous().numpy()
    return resized


def fit_around(images: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Cut images ``(..., H, W, 3)`` to a size around their middle, or repeat their borders."""
    for axis, wanted in ((-3, height), (-2, width)):
        over = images.shape[axis] - wanted
        if over:
            images = np.take(images, range(over // 2, over // 2 + wanted), axis, mode="clip")
    return images
