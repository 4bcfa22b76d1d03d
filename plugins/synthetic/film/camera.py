"""The camera of a film clip: it stands, shakes, pans, zooms and cuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic.film.schedule import Schedule, Times
from plugins.synthetic.scene import Wander

SHORTEST_SHOT_S = 1.0


@dataclass(frozen=True)
class View:
    """What the camera sees at some times; all arrays are ``(T,)``.

    Attributes:
        x, y: its centre.
        scale: half of what it sees; 1 is the whole scene.
        angle: its roll, radians.
        shot: number of the shot, from 0.
    """

    x: Times
    y: Times
    scale: Times
    angle: Times
    shot: NDArray[np.int64]


@dataclass(frozen=True)
class Shot:
    """One place of the camera and how it moves there."""

    place: tuple[float, float]
    scale: float
    pans: tuple[Wander, Wander]
    shakes: tuple[Wander, Wander]
    zoom: Wander
    roll: Wander


@dataclass(frozen=True)
class Camera:
    """Shots one after another, and what shakes the camera.

    Attributes:
        cuts_s: when the next shot begins, seconds.
        shots: one more than cuts.
        jolts: events that shake it, if any.
        jolt: how much, share of half the frame.
    """

    cuts_s: Times
    shots: tuple[Shot, ...]
    jolts: Schedule | None
    jolt: float

    def view(self, times_s: Times, later_s: float = 0.0) -> View:
        """Return what the camera sees a little later, in the shots of these times."""
        number = np.searchsorted(self.cuts_s, times_s, side="right")
        times_s = times_s + later_s
        x, y, scale, angle = (np.zeros_like(times_s) for _ in range(4))
        for i, shot in enumerate(self.shots):
            now = number == i
            at = times_s[now]
            x[now] = shot.place[0] + shot.pans[0](at) + shot.shakes[0](at)
            y[now] = shot.place[1] + shot.pans[1](at) + shot.shakes[1](at)
            scale[now] = shot.scale * np.exp(shot.zoom(at))
            angle[now] = shot.roll(at)
        if self.jolts is not None:
            since_s, _, _ = self.jolts.around(times_s)
            fade = self.jolt * np.exp(-since_s / 0.12)
            x += fade * np.sin(2 * np.pi * 7 * since_s)
            y += fade * np.sin(2 * np.pi * 9 * since_s)
        return View(x, y, scale, angle, number)


def sample_camera(
    rng: np.random.Generator, seconds: float, cut_share: float, jolts: Schedule | None
) -> Camera:
    """Sample a camera; ``cut_share`` of the clips have cuts, at most three."""
    num = int(rng.integers(1, 4)) if rng.random() < cut_share else 0
    cuts_s = np.sort(rng.uniform(0, seconds, num))
    if num and np.diff(cuts_s, prepend=-9.0).min() < SHORTEST_SHOT_S:
        cuts_s = rng.choice(cuts_s, 1)
    shake = rng.choice([0.0, 0.01, 0.03, 0.08], p=[0.35, 0.25, 0.25, 0.15])
    pan = rng.choice([0.0, 0.1, 0.4], p=[0.6, 0.25, 0.15])
    zoom = rng.choice([0.0, 0.05, 0.2], p=[0.6, 0.25, 0.15])
    moves = float(shake), float(pan), float(zoom)
    shots = tuple(_sample_shot(rng, *moves) for _ in range(len(cuts_s) + 1))
    return Camera(cuts_s, shots, jolts, float(rng.uniform(0.01, 0.12)))


def _sample_shot(rng: np.random.Generator, shake: float, pan: float, zoom: float) -> Shot:
    place = (float(rng.normal(0, 0.12)), float(rng.normal(0, 0.12)))
    return Shot(
        place,
        scale=float(np.exp(rng.uniform(np.log(0.65), np.log(1.25)))),
        pans=(Wander(rng, pan, 0.03, 0.25), Wander(rng, pan / 2, 0.03, 0.25)),
        shakes=(Wander(rng, shake, 0.4, 3.5, terms=4), Wander(rng, shake, 0.4, 3.5, terms=4)),
        zoom=Wander(rng, zoom, 0.03, 0.2),
        roll=Wander(rng, shake / 2, 0.2, 2.0),
    )
