"""Frames of a film clip: everything in front of a background, as the camera sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from plugins.synthetic.film.camera import Camera, View
from plugins.synthetic.film.cast import Part, Pose
from plugins.synthetic.film.schedule import Times
from plugins.synthetic.film.textures import Array
from plugins.synthetic.scene import Wander

BACKGROUND_REACH = 1.7  # half the side of a background, in halves of the frame
CHUNK_PIXELS = 124_000  # frames are drawn in groups that stay in the processor's cache


@dataclass(frozen=True)
class Look:
    """What all frames of a clip have in common.

    Attributes:
        gamma: exponent of the brightness.
        tint: what is added to red, green and blue, 0..1.
        saturation: factor of the distance from grey.
        vignette: how much darker the corners are.
        grain: spread of the noise.
        light: share by which the light changes.
        shutter: share of a frame's time between the two moments that it shows; 0 shows one.
        bars: height of the black bars at top and bottom, share of the frame.
    """

    gamma: float
    tint: NDArray[np.float64]
    saturation: float
    vignette: float
    grain: float
    light: Wander
    shutter: float
    bars: float


def sample_look(rng: np.random.Generator) -> Look:
    """Sample the look of a clip."""
    return Look(
        gamma=float(np.exp(rng.normal(0, 0.3))),
        tint=rng.normal(0, 0.03, 3) + rng.normal(0, 0.05),
        saturation=float(rng.choice([0.0, rng.uniform(0.3, 1.5)], p=[0.1, 0.9])),
        vignette=float(rng.choice([0.0, rng.uniform(0, 0.6)])),
        grain=float(rng.choice([0.0, rng.uniform(0, 0.04)])),
        light=Wander(rng, 0.08, 0.03, 0.3),
        shutter=float(rng.choice([0.0, rng.uniform(0.3, 0.6)])),
        bars=float(rng.choice([0.0, rng.uniform(0.04, 0.14)], p=[0.9, 0.1])),
    )


@dataclass(frozen=True)
class FilmScene:
    """What is filmed, and how.

    Attributes:
        camera: where it looks, and when it cuts.
        parts: from the farthest to the nearest.
        backgrounds: one ``(3, side, side)`` for every shot.
        look: what all frames have in common.
        size: width and height of the frames, pixels.
    """

    camera: Camera
    parts: Sequence[Part]
    backgrounds: Sequence[Array]
    look: Look
    size: int

    def render(self, rng: np.random.Generator, num_frames: int, fps: float) -> NDArray[np.uint8]:
        """Draw frames ``(T, H, W, 3)``."""
        frames = np.empty((num_frames, self.size, self.size, 3), np.uint8)
        step = max(1, CHUNK_PIXELS // self.size**2)
        with _one_thread():
            for start in range(0, num_frames, step):
                times_s = np.arange(start, min(start + step, num_frames)) / fps
                x = self._draw(times_s)  # (T, 3, H, W)
                if self.look.shutter:
                    x = (x + self._draw(times_s, self.look.shutter / fps)) / 2
                frames[start : start + len(times_s)] = self._develop(x, times_s, rng)
        return frames

    @cached_property
    def _places(self) -> Float[Tensor, "H*W 3"]:
        """Where every pixel is, x and y in -1..1, and 1."""
        centres = (torch.arange(self.size) + 0.5) / self.size * 2 - 1
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)

    def _draw(self, times_s: Times, later_s: float = 0.0) -> Float[Tensor, "T 3 H W"]:
        view = self.camera.view(times_s, later_s)
        world = _to_world(view)  # (T, 3, 3)
        canvas = torch.empty(len(times_s), 3, self.size, self.size)
        behind = torch.diag(torch.tensor([1 / BACKGROUND_REACH, 1 / BACKGROUND_REACH, 1.0]))
        for shot in np.unique(view.shot):
            now = torch.from_numpy(view.shot == shot)
            picture = torch.from_numpy(self.backgrounds[int(shot)])
            canvas[now] = self._sample(picture, behind @ world[now], "reflection")
        for part in self.parts:
            self._put(canvas, part, part.pose(times_s + later_s), world)
        return canvas

    def _put(
        self,
        canvas: Float[Tensor, "T 3 H W"],
        part: Part,
        pose: Pose,
        world: Float[Tensor, "T 3 3"],
    ) -> None:
        seen = torch.from_numpy((pose.opacity > 0.01) & (pose.half_height > 1e-3))
        if not seen.any():
            return
        picture = torch.from_numpy(part.picture)
        layer = self._sample(picture, _to_part(pose)[seen] @ world[seen], "zeros")  # (T, 4, H, W)
        layer = layer * torch.from_numpy(pose.opacity).float()[seen][:, None, None, None]
        canvas[seen] = canvas[seen] * (1 - layer[:, 3:]) + layer[:, :3]

    def _sample(
        self, picture: Float[Tensor, "C h w"], to_picture: Float[Tensor, "T 3 3"], beyond: str
    ) -> Float[Tensor, "T C H W"]:
        """Show a picture through matrices from places in the frame to places in it."""
        grid = self._places @ to_picture[:, :2].transpose(1, 2)  # (T, H*W, 2)
        return grid_sample(
            picture.expand(len(grid), -1, -1, -1),
            grid.unflatten(1, (self.size, self.size)),
            padding_mode=beyond,
            align_corners=False,
        )

    def _develop(
        self, x: Float[Tensor, "T 3 H W"], times_s: Times, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Give frames the look of the clip, as bytes ``(T, H, W, 3)``."""
        look, size = self.look, self.size
        light = torch.from_numpy(1 + look.light(times_s)).float()[:, None, None, None]
        far = self._places[:, :2].square().mean(dim=1).reshape(size, size)  # 1 at corners
        x = x.clamp(0, 1) ** look.gamma * light * (1 - look.vignette * far)
        grey = x.mean(dim=1, keepdim=True)
        tint = torch.from_numpy(look.tint).float()[:, None, None]
        x = grey + look.saturation * (x - grey) + tint
        if look.grain:
            noise = rng.standard_normal((len(times_s), 1, size, size), np.float32)
            x = x + look.grain * torch.from_numpy(noise)
        bars = round(look.bars * size)
        if bars:
            x[:, :, :bars] = x[:, :, -bars:] = 0
        return (255 * x.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Draw with one thread: clips are rendered side by side, and threads that wait cost as much."""
    num = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num)


def _to_world(view: View) -> Float[Tensor, "T 3 3"]:
    """Return matrices from places in the frame to places in the scene."""
    cos, sin = view.scale * np.cos(view.angle), view.scale * np.sin(view.angle)
    return _matrices(cos, -sin, view.x, sin, cos, view.y)


def _to_part(pose: Pose) -> Float[Tensor, "T 3 3"]:
    """Return matrices from places in the scene to places in the picture of a part."""
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    wide, high = 1 / pose.half_width, 1 / np.maximum(pose.half_height, 1e-4)
    along, across = -(pose.x * cos + pose.y * sin), pose.x * sin - pose.y * cos
    return _matrices(cos * wide, sin * wide, along * wide, -sin * high, cos * high, across * high)


def _matrices(*rows: Times) -> Float[Tensor, "T 3 3"]:
    zero, one = np.zeros_like(rows[0]), np.ones_like(rows[0])
    flat = np.stack([*rows, zero, zero, one], axis=1).astype(np.float32)
    return torch.from_numpy(flat).unflatten(1, (3, 3))
