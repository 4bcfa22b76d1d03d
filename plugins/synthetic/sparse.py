"""Sparse clips: one object rests, dashes to a new place and hits it audibly, a few times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic import synthesis
from plugins.synthetic.config import FPS, NUISANCE, SAMPLE_RATE_HZ, Nuisance, SyntheticConfig
from plugins.synthetic.scene import Layer, Pose, Scene, Times, sample_distractor

MIN_GAP_S = 0.45
MARGIN_S = 1.2  # events this far outside the clip happen too: a clip is cut out of a longer scene
MIDDLE_S = 1.2  # at least one event lies this close to the middle
EVENTS_PER_9_S = (3, 7)
DASH_S = (0.18, 0.32)
SQUASH = (0.18, 0.42)
SQUASH_DECAY_S = 0.1
OCTAVES = 1.4  # pitch between an impact at the bottom of the frame and one at the top


@dataclass(frozen=True)
class Species:
    """A class: how it looks and how it sounds."""

    name: str
    colour: tuple[float, float, float]
    sides: int
    ring: float
    timbre: synthesis.Timbre


SPECIES = (
    Species(
        "bell", (1.0, 0.85, 0.2), 0, 0.0, synthesis.Timbre(620, (1, 0.6, 0.5, 0.3), 0, 0.22, 0)
    ),
    Species("drum", (0.95, 0.35, 0.25), 0, 0.55, synthesis.Timbre(150, (1, 0.4), 0.25, 0.10, 0.9)),
    Species("wood", (0.95, 0.6, 0.3), 4, 0.0, synthesis.Timbre(420, (1, 0, 0.5), 0.1, 0.05, 0)),
    Species(
        "glass", (0.5, 0.95, 1.0), 4, 0.55, synthesis.Timbre(1100, (1, 0.2, 0.6), 0.02, 0.16, 0)
    ),
    Species("pluck", (0.45, 0.95, 0.4), 3, 0.0, synthesis.Timbre(260, (1,) * 8, 0.02, 0.18, 0)),
    Species("snare", (0.95, 0.95, 0.95), 3, 0.5, synthesis.Timbre(230, (1, 0.5), 1.2, 0.09, 0)),
    Species("drop", (0.45, 0.6, 1.0), 6, 0.0, synthesis.Timbre(480, (1, 0.2), 0, 0.12, -0.6)),
    Species("laser", (1.0, 0.5, 0.95), 6, 0.55, synthesis.Timbre(340, (1, 0.7, 0.4), 0, 0.14, 2.0)),
)


@dataclass(frozen=True)
class Impact:
    """A dash from one place to another that ends in a hit."""

    time_s: float
    dash_s: float
    start: tuple[float, float]
    stop: tuple[float, float]
    squash: float
    turn: float

    @property
    def octaves(self) -> float:
        """Pitch: the higher the place, the higher the sound."""
        return OCTAVES * (0.5 - self.stop[1])

    @property
    def loudness(self) -> float:
        """Amplitude: the stronger the squash, the louder the sound."""
        return self.squash / SQUASH[1]


@dataclass(frozen=True)
class Actor:
    """The object that sounds, or a silent one that moves in the same way."""

    colour: tuple[float, float, float]
    sides: int
    ring: float
    radius: float
    angle: float
    impacts: tuple[Impact, ...]

    def pose(self, times_s: Times) -> Pose:
        """Return where the object is and how it is squashed."""
        x = np.full_like(times_s, self.impacts[0].start[0])
        y = np.full_like(times_s, self.impacts[0].start[1])
        angle = np.full_like(times_s, self.angle)
        squash = np.zeros_like(times_s)
        for impact in self.impacts:
            since_s = times_s - impact.time_s
            # It accelerates into the hit: the speed is highest when it stops dead.
            way = np.clip(1 + since_s / impact.dash_s, 0, 1) ** 1.6
            x += way * (impact.stop[0] - impact.start[0])
            y += way * (impact.stop[1] - impact.start[1])
            angle += way * impact.turn
            after = since_s >= 0
            squash[after] = impact.squash * np.exp(-since_s[after] / SQUASH_DECAY_S)
        # The area stays the same: an impact must not show in the mean brightness of the frame.
        return Pose(x, y, self.radius * (1 - squash), self.radius / (1 - squash), angle)


@dataclass(frozen=True)
class Sparse:
    """Everything that happens in one sparse clip, before it is rendered."""

    species: Species
    impacts: tuple[Impact, ...]
    radius: float
    angle: float
    config: SyntheticConfig
    fps: ClassVar[float] = FPS

    @property
    def label(self) -> str:
        """Class of the clip."""
        return self.species.name

    @property
    def events_s(self) -> list[float]:
        """Impacts inside the clip, seconds."""
        times_s = (impact.time_s for impact in self.impacts)
        return [t for t in times_s if 0 <= t < self.config.duration_s]

    def render(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], synthesis.Array]:
        """Render the frames and the audio."""
        nuisance = NUISANCE[self.config.difficulty]
        vision_rng, audio_rng = rng.spawn(2)
        layers = [*self._silent_layers(vision_rng, nuisance), self._actor()]
        scene = Scene(vision_rng, nuisance, self.config.size, layers)
        return scene.render(self.config.num_frames), self._audio(audio_rng, nuisance)

    def _actor(self) -> Actor:
        species = self.species
        return Actor(
            species.colour, species.sides, species.ring, self.radius, self.angle, self.impacts
        )

    def _silent_layers(self, rng: np.random.Generator, nuisance: Nuisance) -> list[Layer]:
        count = int(rng.integers(*nuisance.distractors, endpoint=True))
        layers: list[Layer] = [sample_distractor(rng) for _ in range(count)]
        moves = synthesis.sample_count(rng, nuisance.silent_moves, self.config.seconds)
        if moves:
            times_s = np.sort(rng.uniform(0, self.config.seconds, moves))
            grey = float(rng.uniform(0.5, 0.8))
            radius = rng.uniform(0.07, 0.1)
            impacts = _sample_impacts(rng, times_s, radius)
            angle = rng.uniform(0, np.pi)
            layers.append(Actor((grey, grey, grey), 4, 0.0, radius, angle, impacts))
        return layers

    def _audio(self, rng: np.random.Generator, nuisance: Nuisance) -> synthesis.Array:
        track = np.zeros(self.config.num_samples, np.float32)
        powers = []
        for impact in self.impacts:
            hit = synthesis.strike(rng, self.species.timbre, impact.octaves)
            hit *= np.float32(impact.loudness)
            synthesis.add(track, hit, impact.time_s)
            loud = hit[: round(synthesis.LOUD_S * SAMPLE_RATE_HZ)]
            powers.append(float(np.sum(loud**2)) / (synthesis.LOUD_S * SAMPLE_RATE_HZ))
        stray = synthesis.sample_stray(rng, self.config, nuisance)
        return synthesis.mix(rng, track, float(np.mean(powers)), stray, nuisance)


def plan(rng: np.random.Generator, config: SyntheticConfig) -> Sparse:
    """Sample what happens in a clip."""
    return plan_species(rng, config, SPECIES[int(rng.integers(len(SPECIES)))])


def plan_species(rng: np.random.Generator, config: SyntheticConfig, species: Species) -> Sparse:
    """Sample what an object of this class does in a clip."""
    radius = rng.uniform(0.085, 0.12)
    impacts = _sample_impacts(rng, sample_times(rng, config.duration_s), radius)
    return Sparse(species, impacts, radius, rng.uniform(0, np.pi), config)


def sample_times(rng: np.random.Generator, seconds: float) -> NDArray[np.float64]:
    """Sample the event times of a clip and of the stretch around it.

    Three to seven per 9 s, one of them close to the middle.  That one would make the middle
    special, so the others avoid the middle just enough for the histogram over the clip to be flat:
    where a crop was cut out of the clip must not show in what it holds.
    """
    low, high = (max(1, round(n * seconds / 9)) for n in EVENTS_PER_9_S)
    middle_s = min(MIDDLE_S, seconds / 2)
    share = 2 * middle_s / seconds
    mean = (low + high) / 2
    share_of_others = float(np.clip((share * mean - 1) / max(mean - 1, 1e-9), 0, 1))
    # Sampled once: if crowded clips could be sampled again with fewer events, few would be left.
    count = int(rng.integers(low, high, endpoint=True))
    while True:
        is_middle = rng.random(count) < share_of_others
        is_middle[0] = True
        near = rng.uniform(-middle_s, middle_s, count) + seconds / 2
        far = rng.uniform(0, seconds - 2 * middle_s, count)
        far += np.where(far > seconds / 2 - middle_s, 2 * middle_s, 0)
        inside = np.where(is_middle, near, far)
        num_around = rng.poisson(mean / seconds * 2 * MARGIN_S)
        around = rng.uniform(-MARGIN_S, MARGIN_S, num_around)
        around += np.where(around > 0, seconds, 0)
        times_s = np.sort(np.concatenate([inside, around]))
        if times_s.size < 2 or np.diff(times_s).min() >= MIN_GAP_S:
            return np.asarray(times_s)


def _sample_impacts(
    rng: np.random.Generator, times_s: NDArray[np.float64], radius: float
) -> tuple[Impact, ...]:
    impacts = []
    place = _sample_place(rng, radius)
    for time_s in times_s:
        start = place
        while np.hypot(place[0] - start[0], place[1] - start[1]) < 0.2:
            place = _sample_place(rng, radius)
        impacts.append(
            Impact(
                time_s=float(time_s),
                dash_s=rng.uniform(*DASH_S),
                start=start,
                stop=place,
                squash=rng.uniform(*SQUASH),
                turn=rng.uniform(-1.2, 1.2),
            )
        )
    return tuple(impacts)


def _sample_place(rng: np.random.Generator, radius: float) -> tuple[float, float]:
    """Sample a centre for which the object stays in the middle 80 % of the frame."""
    reach = 0.4 - 1.35 * radius
    x, y = rng.uniform(0.5 - reach, 0.5 + reach, 2)
    return float(x), float(y)
