"""Textures and outlines with the statistics of photographs.

Leaves that fall on each other with sizes of a power law give the edges and the scale invariance of
natural images (the dead leaves model: Lee, Mumford and Huang, 2001), noise whose amplitude falls as
1 / f their shading.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

NUM_LEAVES = 160
RADII = (0.02, 0.5)  # of leaves, share of the side
OUTLINE_WAVES = 6


def pink(rng: np.random.Generator, side: int, slope: float) -> Array:
    """Return ``(side, side)`` of noise with mean 0 and spread 1 whose amplitude is 1 / f**slope."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    frequency = np.maximum(np.hypot(fx, fy), 1 / side)
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * frequency**-slope
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (side, side))
    return np.asarray(noise / max(noise.std(), 1e-9), np.float32)


def colours(rng: np.random.Generator, num: int) -> Array:
    """Return colours ``(num, 3)`` in 0..1 that go together: mostly dull, some of them strong."""
    light = rng.beta(rng.uniform(0.8, 2.5), rng.uniform(0.8, 2.5), (num, 1))
    chroma = rng.uniform(0.02, 0.12) * np.where(rng.random((num, 1)) < 0.15, 3, 1)
    cast = rng.normal(0, 0.05, 3)
    return np.clip(light + cast + chroma * rng.standard_normal((num, 3)), 0, 1).astype(np.float32)


def leaves(rng: np.random.Generator, side: int, num: int = NUM_LEAVES) -> Array:
    """Return ``(3, side, side)`` in 0..1 of leaves on top of each other, shaded."""
    picture = np.empty((3, side, side), np.float32)
    palette = colours(rng, num + 1)
    picture[:] = palette[num][:, None, None]
    # Areas of equal share at every scale: the density of radii falls as r**-3.
    low, high = RADII[0] ** -2.0, RADII[1] ** -2.0
    radii = rng.uniform(high, low, num) ** -0.5 * side
    places = rng.uniform(0, side, (num, 2))
    stretches, turns = rng.uniform(0.3, 1, num), rng.uniform(0, np.pi, num)
    has_corners = rng.random(num) < 0.4
    for i in range(num):
        (y, x), radius = places[i], radii[i]
        top, bottom = max(0, int(y - radius)), min(side, int(y + radius) + 2)
        left, right = max(0, int(x - radius)), min(side, int(x + radius) + 2)
        dy, dx = np.mgrid[top:bottom, left:right].astype(np.float32)
        dy, dx = (dy - y) / radius, (dx - x) / radius
        cos, sin = np.cos(turns[i]), np.sin(turns[i])
        u, v = dx * cos + dy * sin, (dy * cos - dx * sin) / stretches[i]
        far = np.maximum(np.abs(u), np.abs(v)) * 1.3 if has_corners[i] else np.hypot(u, v)
        picture[:, top:bottom, left:right][:, far < 1] = palette[i][:, None]
    shading = pink(rng, side, rng.uniform(0.9, 1.6)) * rng.uniform(0.02, 0.12)
    grain = pink(rng, side, rng.uniform(0.2, 0.8)) * rng.uniform(0.0, 0.05)
    return np.clip(picture + shading + grain, 0, 1)


def outline(rng: np.random.Generator, side: int) -> Array:
    """Return how much of every pixel some shape covers, ``(side, side)`` in 0..1.

    An ellipse or a box with waves around its edge; it fills the square without touching it.
    """
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5) / side * 2 - 1
    angle, far = np.arctan2(y, x), np.hypot(x, y)
    corners = rng.choice([2.0, 2.0, 4.0, 8.0])  # of a superellipse
    base = (np.abs(np.cos(angle)) ** corners + np.abs(np.sin(angle)) ** corners) ** (-1 / corners)
    waves = np.zeros_like(angle)
    roughness = rng.uniform(0, 0.2) * (rng.random() < 0.7)
    for number in range(1, OUTLINE_WAVES + 1):
        waves += rng.normal(0, roughness / number) * np.cos(number * angle + rng.uniform(0, 6.28))
    radius = base * (1 + waves)
    radius *= 0.92 / max(
        float((radius * np.maximum(*np.abs([np.cos(angle), np.sin(angle)]))).max()), 1e-6
    )
    return np.clip((radius - far) * side / 2 + 0.5, 0, 1).astype(np.float32)


def sprite(rng: np.random.Generator, side: int) -> Array:
    """Return ``(4, side, side)``: red, green and blue times coverage, and coverage."""
    if rng.random() < 0.5:
        picture = leaves(rng, side, num=int(rng.integers(2, 30)))
    else:
        shading = pink(rng, side, rng.uniform(0.8, 1.8)) * rng.uniform(0.02, 0.15)
        picture = colours(rng, 1).reshape(3, 1, 1) + shading
    light = np.linspace(-1, 1, side, dtype=np.float32) * rng.uniform(-0.25, 0.25)
    picture = np.clip(picture + (light[:, None] if rng.random() < 0.5 else light), 0, 1)
    cover = outline(rng, side)
    return np.concatenate([picture * cover, cover[None]]).astype(np.float32)


def flat(colour: NDArray[np.float64], side: int, softness: float) -> Array:
    """Return a sprite that is an ellipse of one colour, its edge so soft (0 to 1)."""
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5) / side * 2 - 1
    edge = np.maximum(softness, 2 / side)
    cover = np.clip((0.95 - np.hypot(x, y)) / edge, 0, 1)
    return np.concatenate([colour[:, None, None] * cover, cover[None]]).astype(np.float32)
