"""What moves in a film clip: parts with a picture and a pose at any time.

Places are in units of half the frame: -1 is left or top, 1 right or bottom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from plugins.synthetic import scene
from plugins.synthetic.film.schedule import Schedule, Times
from plugins.synthetic.film.textures import Array, flat, sprite
from plugins.synthetic.scene import Wander

SPRITE_SIDE = 48


@dataclass(frozen=True)
class Pose(scene.Pose):
    """Where a part is at some times, and how much of it shows; all arrays are ``(T,)``."""

    opacity: Times


@dataclass(frozen=True)
class Part:
    """A sprite ``(4, side, side)`` and where it is."""

    picture: Array
    pose: Callable[[Times], Pose]


Cast = Callable[[np.random.Generator, Schedule], list[Part]]


def envelope(schedule: Schedule, times_s: Times, attack_s: float, release: float) -> Times:
    """Return how strong lasting events are, 0 to 1: a rise, and a fall over a share of each."""
    since_s, _, following = schedule.around(times_s)
    length_s = schedule.lengths_s[np.maximum(following - 1, 0)]
    part = since_s / length_s
    rise = np.sin(np.pi / 2 * np.clip(since_s / np.minimum(attack_s, length_s / 2), 0, 1)) ** 2
    fall = np.cos(np.pi / 2 * np.clip((part - 1 + release) / release, 0, 1)) ** 2
    return np.asarray(schedule.strength_before(times_s) * rise * fall)


@dataclass(frozen=True)
class Body:
    """Something that stands or drifts."""

    place: tuple[float, float]
    size: tuple[float, float]
    angle: float
    drift: tuple[Wander, Wander, Wander]

    def pose(self, times_s: Times) -> Pose:
        """Return where it is."""
        x, y, turn = (wander(times_s) for wander in self.drift)
        one = np.ones_like(times_s)
        return Pose(
            self.place[0] + x, self.place[1] + y, self.size[0] * one, self.size[1] * one,
            self.angle + turn, one,
        )  # fmt: skip


def sample_body(rng: np.random.Generator, *, smallest: float = 0.1, largest: float = 0.6) -> Body:
    """Sample a body of any size, more or less in the frame."""
    size = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    stretch = float(np.exp(rng.normal(0, 0.3)))
    reach = max(0.15, 0.9 - size)
    far = rng.choice([0.0, 0.02, 0.15], p=[0.35, 0.4, 0.25])
    return Body(
        place=(float(rng.uniform(-reach, reach)), float(rng.uniform(-reach, reach))),
        size=(size * stretch, size / stretch),
        angle=float(rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.normal(0, 0.2)),
        drift=(
            Wander(rng, far, 0.05, 0.6),
            Wander(rng, far, 0.05, 0.6),
            Wander(rng, far, 0.05, 0.5),
        ),
    )


def lift(schedule: Schedule, times_s: Times, rise_s: float, fall_s: float, power: float) -> Times:
    """Return how far apart two things are that meet at every event: 0 then, at most 1 between.

    With a power below 1 they are fastest when they meet.
    """
    since_s, until_s, following = schedule.around(times_s)
    ahead = schedule.strengths[np.minimum(following, len(schedule.strengths) - 1)]
    away = np.minimum(np.clip(since_s / rise_s, 0, 1), np.clip(until_s / fall_s, 0, 1) ** power)
    return np.asarray(away * ahead)


def hitter(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return a thing that dashes from place to place and stops dead at every event, squashed."""
    body = sample_body(rng, largest=0.35)
    count = len(schedule.times_s)
    reach = max(0.2, 0.85 - max(body.size))
    places = rng.uniform(-reach, reach, (count + 1, 2))
    if rng.random() < 0.4:  # back and forth between two places
        places = places[np.arange(count + 1) % 2]
    dashes_s = rng.uniform(0.06, 0.35) * rng.uniform(0.7, 1.3, count)
    dashes_s = np.minimum(dashes_s, 0.9 * np.diff(schedule.times_s, prepend=-np.inf))
    squash = rng.uniform(0.0, 0.45)
    power = rng.uniform(1.0, 2.2)

    def pose(times_s: Times) -> Pose:
        at = body.pose(times_s)
        x, y, flatness = (np.zeros_like(times_s) for _ in range(3))
        x, y = x + places[0, 0], y + places[0, 1]
        for i in range(count):
            since_s = times_s - schedule.times_s[i]
            way = np.clip(1 + since_s / dashes_s[i], 0, 1) ** power
            x += way * (places[i + 1, 0] - places[i, 0])
            y += way * (places[i + 1, 1] - places[i, 1])
            fade = np.exp(-np.maximum(since_s, 0) / 0.1)
            flatness = np.maximum(flatness, np.where(since_s >= 0, fade * schedule.strengths[i], 0))
        flat_by = 1 - squash * flatness
        return replace(
            at, x=x, y=y, half_width=at.half_width / flat_by, half_height=at.half_height * flat_by
        )

    return [Part(sprite(rng, SPRITE_SIDE), pose)]


def bouncer(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return a ball that falls, hits the floor at every event and jumps off."""
    body = sample_body(rng, largest=0.3)
    floor, gravity, most_s = rng.uniform(0.2, 0.9), rng.uniform(3.0, 14.0), rng.uniform(0.4, 1.0)
    aslant = rng.uniform(-0.6, 0.6)

    def pose(times_s: Times) -> Pose:
        at = body.pose(times_s)
        since_s, until_s, _ = schedule.around(times_s)
        flight_s = np.minimum(since_s + until_s, most_s)
        left_s = np.minimum(until_s, flight_s)  # it rests before it jumps
        height = np.minimum(gravity / 2, 1.5 / (most_s / 2) ** 2) * left_s * (flight_s - left_s)
        squash = 1 - 0.25 * np.exp(-np.minimum(since_s, until_s) / 0.03)
        return replace(
            at,
            x=at.x + aslant * height,
            y=floor - height,
            half_width=at.half_width / squash,
            half_height=at.half_height * squash,
        )

    return [Part(sprite(rng, SPRITE_SIDE), pose)]


def striker(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return a stick that turns about its end and strikes something at every event."""
    body = sample_body(rng, largest=0.5)
    half_length, thick = rng.uniform(0.15, 0.6), rng.uniform(0.03, 0.12)
    rest, swing = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]) * rng.uniform(0.3, 1.4)
    rise_s, fall_s, power = rng.uniform(0.08, 0.4), rng.uniform(0.06, 0.3), rng.uniform(0.6, 1)
    give = rng.uniform(0.0, 0.08)
    stick = sprite(rng, SPRITE_SIDE)

    def pose(times_s: Times) -> Pose:
        at = body.pose(times_s)
        angle = rest + swing * lift(schedule, times_s, rise_s, fall_s, power)
        one = np.ones_like(times_s)
        reach = 2 * half_length + 0.9 * min(body.size)
        # The far end meets the body at the event; the pivot stays where it is.
        x = at.x - reach * np.cos(rest) + half_length * np.cos(angle)
        y = at.y - reach * np.sin(rest) + half_length * np.sin(angle)
        return Pose(x, y, half_length * one, thick * one, angle, one)

    def struck(times_s: Times) -> Pose:
        at = body.pose(times_s)
        since_s, _, _ = schedule.around(times_s)
        moved = give * np.exp(-since_s / 0.08) * np.cos(2 * np.pi * 6 * since_s)
        return replace(at, x=at.x + moved * np.cos(rest), y=at.y + moved * np.sin(rest))

    return [Part(sprite(rng, SPRITE_SIDE), struck), Part(stick, pose)]


def clapper(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return two things that meet at every event."""
    body = sample_body(rng, largest=0.4)
    direction, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.6)
    rise_s, fall_s, power = rng.uniform(0.08, 0.4), rng.uniform(0.06, 0.25), rng.uniform(0.6, 1)
    shares = (1.0, rng.choice([0.0, 1.0]))
    width = body.size[0]

    def side(sign: float, share: float) -> Callable[[Times], Pose]:
        def pose(times_s: Times) -> Pose:
            at = body.pose(times_s)
            apart = 0.9 * width + share * far * lift(schedule, times_s, rise_s, fall_s, power)
            return replace(
                at,
                x=at.x + sign * apart * np.cos(direction),
                y=at.y + sign * apart * np.sin(direction),
                angle=at.angle - body.angle + direction,
            )

        return pose

    return [
        Part(sprite(rng, SPRITE_SIDE), side(sign, share))
        for sign, share in zip((1.0, -1.0), shares, strict=True)
    ]


def jerker(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return a body that twitches at every event: a recoil, a bark, a kick."""
    body = sample_body(rng)
    direction, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.25)
    settle_s, hz, turn = rng.uniform(0.05, 0.25), rng.uniform(0.8, 5.0), rng.uniform(-0.4, 0.4)
    swell = rng.uniform(-0.15, 0.3)

    def pose(times_s: Times) -> Pose:
        at = body.pose(times_s)
        since_s, _, _ = schedule.around(times_s)
        swing = np.sin(2 * np.pi * np.minimum(hz * since_s, 1))
        by = schedule.strength_before(times_s) * np.exp(-since_s / settle_s) * swing
        size = 1 + swell * by
        return replace(
            at,
            x=at.x + far * by * np.cos(direction),
            y=at.y + far * by * np.sin(direction),
            angle=at.angle + turn * by,
            half_width=at.half_width * size,
            half_height=at.half_height * size,
        )

    return [Part(sprite(rng, SPRITE_SIDE), pose)]


def flasher(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return a body that recoils, and a flash, a splash or a cloud beside it at every event."""
    body_parts = jerker(rng, schedule)
    place, size = rng.uniform(-0.6, 0.6, 2), float(np.exp(rng.uniform(np.log(0.1), np.log(0.7))))
    fade_s, growth = np.exp(rng.uniform(np.log(0.04), np.log(0.5))), rng.uniform(0.0, 1.0)
    bright = np.clip(rng.uniform(0.75, 1) + rng.normal(0, 0.12, 3), 0, 1)
    picture = (
        flat(bright, SPRITE_SIDE, rng.uniform(0.1, 1))
        if rng.random() < 0.7
        else sprite(rng, SPRITE_SIDE)
    )

    def pose(times_s: Times) -> Pose:
        since_s, _, _ = schedule.around(times_s)
        fade = schedule.strength_before(times_s) * np.exp(-since_s / fade_s)
        extent = size * (0.4 + 0.6 * (growth * (1 - np.exp(-since_s / fade_s)) + 1 - growth))
        one = np.ones_like(times_s)
        return Pose(
            place[0] * one, place[1] * one, extent, extent, 0 * one, np.clip(fade * 1.4, 0, 1)
        )

    return [*body_parts, Part(picture, pose)]


def mouth(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return a head whose mouth is open as long as every event lasts; it nods along."""
    body = sample_body(rng, smallest=0.25, largest=0.8)
    attack_s, release = rng.uniform(0.03, 0.12), rng.uniform(0.3, 0.9)
    wide, gape = rng.uniform(0.15, 0.45), rng.uniform(0.08, 0.4)
    x, y = rng.uniform(-0.35, 0.35), rng.uniform(-0.1, 0.5)
    nod, early_s = rng.normal(0, 0.08), rng.uniform(0.0, 0.06)
    shade = rng.uniform(0, 0.35, 3)

    def opening(times_s: Times) -> Times:
        return envelope(schedule, times_s + early_s, attack_s, release)

    def head(times_s: Times) -> Pose:
        at = body.pose(times_s)
        return replace(at, y=at.y + nod * opening(times_s))

    def lips(times_s: Times) -> Pose:
        at, open_by = head(times_s), opening(times_s)
        cos, sin = np.cos(at.angle), np.sin(at.angle)
        u, v = x * at.half_width, y * at.half_height
        return replace(
            at,
            x=at.x + u * cos - v * sin,
            y=at.y + u * sin + v * cos,
            half_width=at.half_width * wide * (1 - 0.25 * open_by),
            half_height=at.half_height * (0.03 + gape * open_by),
        )

    return [Part(sprite(rng, SPRITE_SIDE), head), Part(flat(shade, SPRITE_SIDE, 0.15), lips)]


def mover(rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return a thing that is in motion as long as every event lasts: saws, wheels, wings."""
    body = sample_body(rng)
    attack_s, release = rng.uniform(0.05, 0.25), rng.uniform(0.3, 0.9)
    hz, far, turn = rng.uniform(2, 9), rng.uniform(0.03, 0.3), rng.uniform(-0.8, 0.8)
    direction, phase = rng.uniform(0, 2 * np.pi, 2)

    def pose(times_s: Times) -> Pose:
        at = body.pose(times_s)
        strong = envelope(schedule, times_s, attack_s, release)
        by = strong * np.sin(2 * np.pi * hz * times_s + phase)
        return replace(
            at,
            x=at.x + far * by * np.cos(direction),
            y=at.y + far * by * np.sin(direction),
            angle=at.angle + turn * by,
        )

    return [Part(sprite(rng, SPRITE_SIDE), pose)]


STRIKES: dict[str, tuple[Cast, float]] = {
    "hit": (hitter, 0.2),
    "bounce": (bouncer, 0.12),
    "strike": (striker, 0.2),
    "clap": (clapper, 0.12),
    "jerk": (jerker, 0.2),
    "flash": (flasher, 0.16),
}
LASTING: dict[str, tuple[Cast, float]] = {"mouth": (mouth, 0.7), "move": (mover, 0.3)}


def choose(rng: np.random.Generator, lasting_share: float) -> str:
    """Choose a kind: one that lasts, or one that happens at once."""
    among = LASTING if rng.random() < lasting_share else STRIKES
    return str(rng.choice(list(among), p=[share for _, share in among.values()]))


def play(kind: str, rng: np.random.Generator, schedule: Schedule) -> list[Part]:
    """Return the parts of a kind."""
    cast, _ = (STRIKES | LASTING)[kind]
    return cast(rng, schedule)


def bystander(rng: np.random.Generator) -> list[Part]:
    """Return something that wanders through the scene without a sound."""
    far = rng.uniform(0.1, 0.5)
    drift = (Wander(rng, far, 0.05, 0.5), Wander(rng, far, 0.05, 0.5), Wander(rng, 0.4, 0.05, 0.4))
    return [Part(sprite(rng, SPRITE_SIDE), replace(sample_body(rng), drift=drift).pose)]


def standing(rng: np.random.Generator) -> list[Part]:
    """Return something that stands in front of all others."""
    return [Part(sprite(rng, SPRITE_SIDE), sample_body(rng, largest=0.4).pose)]
