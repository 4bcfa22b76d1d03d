"""Frames: a scene of flat, antialiased shapes over a textured background, seen by a shaky camera.

Places are shares of the frame (0 left or top, 1 right or bottom), so that a scene looks the same
at any size.  Everything is a function of continuous time: a frame shows the scene at frame / fps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic.config import FPS, Nuisance

Array = NDArray[np.float32]
Times = NDArray[np.float64]

CHUNK_PIXELS = 200_000  # frames are drawn in groups that stay in the processor's cache
TEXTURE_MARGIN = 0.1  # texture beyond the frame, for the shake


class Wander:
    """A smooth random path with no beginning: a sum of slow sinusoids with random phases."""

    def __init__(
        self,
        rng: np.random.Generator,
        amplitude: float,
        slowest_hz: float,
        fastest_hz: float,
        terms: int = 3,
    ) -> None:
        self._hz = rng.uniform(slowest_hz, fastest_hz, terms)
        self._phase = rng.uniform(0, 2 * np.pi, terms)
        self._amplitude = amplitude / np.sqrt(terms) * rng.uniform(0.7, 1.3, terms)

    def __call__(self, times_s: Times) -> Times:
        """Return the path at these times."""
        angle = 2 * np.pi * self._hz * times_s[:, None] + self._phase
        return np.asarray(np.sin(angle) @ self._amplitude)


@dataclass(frozen=True)
class Pose:
    """Where one shape is in every frame of a group: all arrays are ``(frames,)``."""

    x: Times
    y: Times
    half_width: Times
    half_height: Times
    angle: Times


class Layer(Protocol):
    """One shape of the scene."""

    @property
    def colour(self) -> tuple[float, float, float]:
        """Red, green and blue in 0..1."""

    @property
    def sides(self) -> int:
        """Corners of the polygon; 0 is an ellipse."""

    @property
    def ring(self) -> float:
        """Share of the radius that is hollow; 0 is filled."""

    def pose(self, times_s: Times) -> Pose:
        """Return where the shape is at these times."""


def _coverage(layer: Layer, pose: Pose, size: int) -> Array:
    """Return how much of every pixel the shape covers, ``(frames, H, W)`` in 0..1."""
    centres: Array = ((np.arange(size) + 0.5) / size).astype(np.float32)
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    # Into the shape's own axes, in units of its half width and half height.
    x = centres[None, :] - pose.x.astype(np.float32)[:, None]
    y = centres[None, :] - pose.y.astype(np.float32)[:, None]
    wide, high = 1 / pose.half_width, 1 / pose.half_height
    u = _outer(x, cos * wide, y, sin * wide)
    v = _outer(x, -sin * high, y, cos * high)
    if layer.sides == 0:
        distance = np.sqrt(u * u + v * v)
    else:
        turns = 2 * np.pi * np.arange(layer.sides) / layer.sides + np.pi / 2
        distance = np.full_like(u, -1.0)
        for turn in turns:
            side = u * np.float32(np.cos(turn)) + v * np.float32(np.sin(turn))
            np.maximum(distance, side, out=distance)
    sharpness = (np.minimum(pose.half_width, pose.half_height) * size).astype(np.float32)
    sharpness = sharpness[:, None, None]
    cover = np.clip((1 - distance) * sharpness + 0.5, 0, 1)
    if layer.ring:
        cover *= np.clip((distance - layer.ring) * sharpness + 0.5, 0, 1)
    return cover


def _outer(x: Array, along_x: Times, y: Array, along_y: Times) -> Array:
    across = x * along_x.astype(np.float32)[:, None]
    down = y * along_y.astype(np.float32)[:, None]
    return across[:, None, :] + down[:, :, None]  # (frames, H, W)


class Background:
    """A muted texture of smooth noise at three scales."""

    def __init__(self, rng: np.random.Generator, size: int, contrast: float) -> None:
        self._size = size
        self._margin = round(TEXTURE_MARGIN * size)
        side = size + 2 * self._margin + 1
        texture = np.zeros((3, side, side), np.float32)
        for cells, share in ((3, 0.6), (8, 0.6), (20, 0.5)):
            texture += share * _smooth_noise(rng, cells, side)
        base = rng.uniform(0.22, 0.42) + rng.uniform(-0.06, 0.06, 3)
        self._texture = np.clip(base[:, None, None] + contrast * texture, 0, 1).astype(np.float32)

    def draw(self, shift_x: Times, shift_y: Times) -> Array:
        """Return ``(3, frames, H, W)``, moved by shares of the frame."""
        left, right = self._place(shift_x)
        top, bottom = self._place(shift_y)
        windows = np.lib.stride_tricks.sliding_window_view(
            self._texture, (self._size + 1, self._size + 1), axis=(1, 2)
        )
        patch = windows[:, top, left]  # (3, frames, H + 1, W + 1)
        weight = bottom[:, None, None]
        patch = patch[:, :, :-1] + weight * (patch[:, :, 1:] - patch[:, :, :-1])
        weight = right[:, None, None]
        return patch[..., :-1] + weight * (patch[..., 1:] - patch[..., :-1])

    def _place(self, shift: Times) -> tuple[NDArray[np.int64], Array]:
        start = np.clip(self._margin - shift * self._size, 0, 2 * self._margin - 1e-3)
        whole = np.floor(start).astype(np.int64)
        return whole, (start - whole).astype(np.float32)


def _smooth_noise(rng: np.random.Generator, cells: int, side: int) -> Array:
    """Return ``(3, side, side)`` of unit noise, interpolated between ``cells`` per side."""
    noise = rng.standard_normal((3, cells + 2, cells + 2)).astype(np.float32)
    at = np.linspace(0, cells, side, dtype=np.float32)
    low = at.astype(np.int64)
    part = at - low
    part = part * part * (3 - 2 * part)  # smooth step: no creases between cells
    rows = noise[:, low] + part[:, None] * (noise[:, low + 1] - noise[:, low])
    return rows[..., low] + part * (rows[..., low + 1] - rows[..., low])


class Scene:
    """Background, shapes, camera shake and a slow drift of the light."""

    def __init__(
        self, rng: np.random.Generator, nuisance: Nuisance, size: int, layers: Sequence[Layer]
    ) -> None:
        self._size = size
        self._layers = layers
        self._background = Background(rng, size, nuisance.texture)
        self._shake = [Wander(rng, nuisance.shake, 0.4, 3.5, terms=4) for _ in range(2)]
        self._light = Wander(rng, 0.05, 0.03, 0.15)

    def render(self, num_frames: int) -> NDArray[np.uint8]:
        """Draw ``(frames, H, W, 3)``."""
        frames = np.empty((num_frames, self._size, self._size, 3), np.uint8)
        step = max(1, CHUNK_PIXELS // self._size**2)
        for start in range(0, num_frames, step):
            times_s = np.arange(start, min(start + step, num_frames)) / FPS
            self._draw(times_s, frames[start : start + step])
        return frames

    def _draw(self, times_s: Times, out: NDArray[np.uint8]) -> None:
        shift_x, shift_y = (shake(times_s) for shake in self._shake)
        canvas = self._background.draw(shift_x, shift_y)
        for layer in self._layers:
            pose = layer.pose(times_s)
            moved = Pose(
                pose.x + shift_x, pose.y + shift_y, pose.half_width, pose.half_height, pose.angle
            )
            cover = _coverage(layer, moved, self._size)
            for channel, value in enumerate(layer.colour):
                canvas[channel] += cover * (np.float32(value) - canvas[channel])
        light = (255 * (1 + self._light(times_s))).astype(np.float32)
        canvas *= light[:, None, None]
        np.clip(canvas + np.float32(0.5), 0, 255, out=canvas)
        for index in range(3):
            out[..., index] = canvas[index]


@dataclass(frozen=True)
class Distractor:
    """A blob that drifts and deforms smoothly and never makes a sound."""

    colour: tuple[float, float, float]
    x: Wander
    y: Wander
    centre: tuple[float, float]
    radius: float
    stretch: Wander
    turn: Wander
    sides: int = 0
    ring: float = 0.0

    def pose(self, times_s: Times) -> Pose:
        """Return where the blob is: it stays in the middle 80 % of the frame."""
        stretch = np.exp(self.stretch(times_s))
        low, high = 0.1 + self.radius, 0.9 - self.radius
        return Pose(
            np.clip(self.centre[0] + self.x(times_s), low, high),
            np.clip(self.centre[1] + self.y(times_s), low, high),
            self.radius * stretch,
            self.radius / stretch,
            self.turn(times_s),
        )


def sample_distractor(rng: np.random.Generator) -> Distractor:
    """Sample a distractor of random colour, size and path."""
    level = rng.uniform(0.45, 0.85)
    red, green, blue = (float(np.clip(level + rng.uniform(-0.3, 0.3), 0.1, 1)) for _ in range(3))
    return Distractor(
        colour=(red, green, blue),
        x=Wander(rng, 0.2, 0.06, 0.35),
        y=Wander(rng, 0.2, 0.06, 0.35),
        centre=(rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)),
        radius=rng.uniform(0.06, 0.11),
        stretch=Wander(rng, 0.25, 0.1, 0.5),
        turn=Wander(rng, 1.0, 0.05, 0.3),
        ring=float(rng.choice([0.0, 0.0, 0.5])),
    )
