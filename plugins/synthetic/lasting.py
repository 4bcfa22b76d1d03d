"""Clips of lasting events: things that are heard and seen for whole seconds, or only one of both.

Six things each have a look and a sound.  A clip is a row of runs of 1 to 3 s, with pauses between
them; in a run one thing is heard and seen (an event), only heard, or only seen (decoys, which are
background, as AVE defines it: arXiv 1803.08842).  What a run is does not depend on its thing, its
length or its neighbours, and both decoys are equally frequent.  So whoever only hears knows of
every sound that it is an event with probability ``EVENT / (EVENT + DECOY)``, and nothing around it
tells more; the same holds for whoever only sees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic import synthesis
from plugins.synthetic.config import NUISANCE, SAMPLE_RATE_HZ, SyntheticConfig
from plugins.synthetic.labelled import ceiling
from plugins.synthetic.scene import Layer, Pose, Scene, Times, Wander, sample_distractor
from zoo.data.manifest import Event

Kind = Literal["event", "heard", "seen"]
EVENT, DECOY = 0.5, 0.25  # share of the runs, of either kind of decoy
RUN_S, PAUSE_SHARE = (1, 3), 0.2  # seconds of a run; a pause of 1 s follows some
FADE_S = 0.03  # a sound grows and fades within its own seconds
AWAY = -9.0  # where a thing is while it is not seen: far outside the frame
BACKGROUND = "background"


@dataclass(frozen=True)
class Thing:
    """A class of events: how it looks, and how it sounds."""

    name: str
    colour: tuple[float, float, float]
    sides: int
    ring: float
    base_hz: float
    harmonics: tuple[float, ...]
    noise: float
    pulse_hz: float
    sweep: float = 0.0
    """By how many octaves the pitch swings with every pulse."""


# Steady tones are missing: small encoders subtract the mean spectrum of what they read at a time.
THINGS = (
    Thing("siren", (1.0, 0.3, 0.25), 0, 0.0, 700, (1, 0.3), 0.0, 1.5, sweep=0.5),
    Thing("engine", (0.45, 0.6, 1.0), 4, 0.0, 90, (1, 0.9, 0.8, 0.6, 0.5), 0.3, 12.0),
    Thing("kettle", (0.95, 0.95, 0.95), 3, 0.0, 2200, (1, 0.1), 0.15, 5.0),
    Thing("cricket", (0.45, 0.95, 0.4), 3, 0.55, 4200, (1,), 0.05, 7.0),
    Thing("bell", (1.0, 0.85, 0.2), 0, 0.55, 520, (1, 0.6, 0.5, 0.4), 0.0, 3.0),
    Thing("rain", (0.4, 0.95, 1.0), 4, 0.5, 300, (), 1.0, 0.0),
)


CLASSES = tuple(thing.name for thing in THINGS)


@dataclass(frozen=True)
class Run:
    """One thing for some whole seconds."""

    thing: Thing
    kind: Kind
    start_s: int
    end_s: int

    @property
    def event(self) -> Event:
        """When it is what."""
        return Event(float(self.start_s), float(self.end_s), self.thing.name)


@dataclass(frozen=True)
class Appearance:
    """A thing on its way through the frame during a run."""

    run: Run
    radius: float
    centre: tuple[float, float]
    x: Wander
    y: Wander
    stretch: Wander
    turn: Wander

    @property
    def colour(self) -> tuple[float, float, float]:
        """Of the thing."""
        return self.run.thing.colour

    @property
    def sides(self) -> int:
        """Of the thing."""
        return self.run.thing.sides

    @property
    def ring(self) -> float:
        """Of the thing."""
        return self.run.thing.ring

    def pose(self, times_s: Times) -> Pose:
        """Return where it is; it is away before and after its run."""
        is_there = (times_s >= self.run.start_s - 1e-6) & (times_s < self.run.end_s - 1e-6)
        stretch = np.exp(self.stretch(times_s))
        low, high = 0.1 + self.radius, 0.9 - self.radius
        return Pose(
            np.where(is_there, np.clip(self.centre[0] + self.x(times_s), low, high), AWAY),
            np.where(is_there, np.clip(self.centre[1] + self.y(times_s), low, high), AWAY),
            self.radius * stretch,
            self.radius / stretch,
            self.turn(times_s),
        )


@dataclass(frozen=True)
class Lasting:
    """All runs of a clip, before it is rendered."""

    runs: tuple[Run, ...]
    config: SyntheticConfig

    def of_kind(self, *kinds: Kind) -> tuple[Run, ...]:
        """Return the runs of some kinds."""
        return tuple(run for run in self.runs if run.kind in kinds)

    @property
    def events(self) -> tuple[Event, ...]:
        """What is heard and seen."""
        return tuple(run.event for run in self.of_kind("event"))

    @property
    def decoys(self) -> dict[str, tuple[Event, ...]]:
        """What is only heard, and what is only seen."""
        kinds: tuple[Kind, ...] = ("heard", "seen")
        return {kind: tuple(run.event for run in self.of_kind(kind)) for kind in kinds}

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The events that happen at all."""
        return tuple(sorted({event.label for event in self.events})) or None

    def per_second(self, *kinds: Kind) -> list[str]:
        """Return which thing fills every whole second in one of these ways, or the background."""
        seconds = [BACKGROUND] * int(self.config.seconds)
        for run in self.of_kind(*kinds):
            seconds[run.start_s : run.end_s] = [run.thing.name] * (run.end_s - run.start_s)
        return seconds

    def render(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], synthesis.Array]:
        """Render the frames and the audio."""
        nuisance = NUISANCE[self.config.difficulty]
        vision_rng, audio_rng = rng.spawn(2)
        count = int(vision_rng.integers(*nuisance.distractors, endpoint=True))
        layers: list[Layer] = [sample_distractor(vision_rng) for _ in range(count)]
        layers += [_appear(vision_rng, run) for run in self.of_kind("event", "seen")]
        scene = Scene(vision_rng, nuisance, self.config.size, layers)
        frames = scene.render(self.config.num_frames)
        track = np.zeros(self.config.num_samples, np.float32)
        for run in self.of_kind("event", "heard"):
            synthesis.add(track, _sound(audio_rng, run), run.start_s)
        stray = synthesis.sample_stray(audio_rng, self.config, nuisance)
        return frames, synthesis.mix(audio_rng, track, LOUD_POWER, stray, nuisance)


LOUD_POWER = 0.04  # mean power of a sound, to which the noise is set


def _appear(rng: np.random.Generator, run: Run) -> Appearance:
    return Appearance(
        run,
        radius=rng.uniform(0.11, 0.16),
        centre=(rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)),
        x=Wander(rng, 0.15, 0.2, 0.8),
        y=Wander(rng, 0.15, 0.2, 0.8),
        stretch=Wander(rng, 0.12, 0.5, 2.0),
        turn=Wander(rng, 0.5, 0.1, 0.5),
    )


def _sound(rng: np.random.Generator, run: Run) -> synthesis.Array:
    """Return the sound of a run, of about the same power whatever the thing."""
    thing, num = run.thing, (run.end_s - run.start_s) * SAMPLE_RATE_HZ
    times_s = np.arange(num) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * (thing.pulse_hz * times_s + rng.uniform())
    octaves = rng.uniform(-0.15, 0.15) + thing.sweep * np.sin(phase)
    cycles = np.cumsum(thing.base_hz * 2**octaves) / SAMPLE_RATE_HZ
    audio = thing.noise * synthesis.coloured_noise(rng, num, 0.3)
    for number, weight in enumerate(thing.harmonics, start=1):
        audio = audio + weight * np.sin(2 * np.pi * number * cycles)
    if thing.pulse_hz and not thing.sweep:
        audio = audio * (0.15 + 0.85 * (0.5 + 0.5 * np.cos(phase)) ** 2)
    edge_s = np.minimum(times_s, times_s[::-1])
    audio = audio * np.clip(edge_s / FADE_S, 0, 1)
    level = np.sqrt(LOUD_POWER) * 10 ** (rng.uniform(-3, 3) / 20)
    return np.asarray(audio * level / np.sqrt(np.mean(audio**2)), np.float32)


def plan(rng: np.random.Generator, config: SyntheticConfig) -> Lasting:
    """Sample the runs of a clip; one that reaches beyond its last whole second is cut off.

    The first one may have begun before the clip, so that no second is special.
    """
    last_s, runs = int(config.seconds), []
    at_s = -int(rng.integers(0, RUN_S[1] + 1))
    while at_s < last_s:
        end_s = at_s + int(rng.integers(*RUN_S, endpoint=True))
        thing = THINGS[int(rng.integers(len(THINGS)))]
        kinds: tuple[Kind, ...] = ("event", "heard", "seen")
        kind = kinds[int(rng.choice(3, p=(EVENT, DECOY, DECOY)))]
        if end_s > 0:
            runs.append(Run(thing, kind, max(0, at_s), min(end_s, last_s)))
        at_s = end_s + int(rng.random() < PAUSE_SHARE)
    return Lasting(tuple(runs), config)


@dataclass(frozen=True)
class Ceilings:
    """Shares of the seconds of some clips that can be told, 0 to 1."""

    audio: float
    vision: float
    both: float
    chance: float
    """For who always says the most frequent label."""


def ceilings(clips: Iterable[Lasting]) -> Ceilings:
    """Return the accuracy per second that some clips allow from each stream and from both."""
    heard: list[str] = []
    seen: list[str] = []
    labels: list[str] = []
    for clip in clips:
        heard += clip.per_second("event", "heard")
        seen += clip.per_second("event", "seen")
        labels += clip.per_second("event")
    pairs = [f"{sound} {look}" for sound, look in zip(heard, seen, strict=True)]
    most = Counter(labels).most_common(1)[0][1]
    return Ceilings(
        audio=ceiling(heard, labels),
        vision=ceiling(seen, labels),
        both=ceiling(pairs, labels),
        chance=most / len(labels),
    )


def describe_ceilings(config: SyntheticConfig, indices: Sequence[int]) -> str:
    """Say what can be told of the seconds of some clips, by their numbers."""
    found = ceilings(plan_of(config, index) for index in indices)
    return (
        f"seconds of {len(THINGS)} events and background told from audio alone at most "
        f"{100 * found.audio:.1f} %, from video alone {100 * found.vision:.1f} %, from both "
        f"{100 * found.both:.0f} %, by chance {100 * found.chance:.1f} %"
    )


def plan_of(config: SyntheticConfig, index: int) -> Lasting:
    """Return the runs of a clip by its number."""
    seed = np.random.SeedSequence([config.seed, index]).spawn(2)[0]
    return plan(np.random.default_rng(seed), config)
