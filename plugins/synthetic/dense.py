"""Dense clips: a face babbles; its mouth follows the loudness and a ball beside it the pitch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic import synthesis
from plugins.synthetic.config import FPS, NUISANCE, SAMPLE_RATE_HZ, SyntheticConfig
from plugins.synthetic.scene import Layer, Pose, Scene, Times, Wander, sample_distractor

MARGIN_S = 1.5  # the babble begins before the clip and goes on after it
SYLLABLE_S = (0.16, 0.5)
PAUSE_SHARE = 0.15
PAUSE_S = (0.25, 0.8)
ATTACK = 0.25  # share of a syllable in which it grows
CONTROL_HZ = 500  # loudness, pitch and width are computed on this lattice and interpolated
PITCH_SMOOTHING_S = 0.03
INSIDE = 0.55  # share of the open mouth that is bright; the rest is dark
OCTAVES = 0.8  # pitch reaches this far above and below the voice's base


@dataclass(frozen=True)
class Voice:
    """A class: how it sounds and which colours it has."""

    name: str
    base_hz: float
    rolloff: float
    breath: float
    face: tuple[float, float, float]
    ball: tuple[float, float, float]


VOICES = (
    Voice("alto", 230, 0.8, 0.05, (0.58, 0.47, 0.38), (1.0, 0.9, 0.3)),
    Voice("bass", 105, 0.6, 0.05, (0.42, 0.48, 0.58), (1.0, 0.45, 0.35)),
    Voice("flute", 420, 1.8, 0.12, (0.42, 0.57, 0.42), (0.5, 0.7, 1.0)),
    Voice("rasp", 150, 0.4, 0.35, (0.58, 0.4, 0.53), (0.5, 1.0, 0.5)),
)


@dataclass(frozen=True)
class Babble:
    """Syllables as curves over time: all of them 0..1 but pitch, which is -1..1."""

    onsets_s: NDArray[np.float64]
    opening: NDArray[np.float64]
    width: NDArray[np.float64]
    pitch: NDArray[np.float64]
    strength: NDArray[np.float64]

    def at(self, curve: NDArray[np.float64], times_s: Times) -> Times:
        """Evaluate a curve at any times."""
        at = (times_s + MARGIN_S) * CONTROL_HZ
        return np.asarray(np.interp(at, np.arange(curve.size), curve))


@dataclass(frozen=True)
class Part:
    """One shape of the face; it moves with the head."""

    colour: tuple[float, float, float]
    place: tuple[float, float]
    half_size: tuple[float, float]
    sway: tuple[Wander, Wander]
    babble: Babble
    role: Literal["face", "mouth", "ball"] = "face"
    scale: float = 1.0
    sides: int = 0
    ring: float = 0.0

    def pose(self, times_s: Times) -> Pose:
        """Return where the part is."""
        x = self.place[0] + self.sway[0](times_s)
        y = self.place[1] + self.sway[1](times_s)
        wide = np.full_like(times_s, self.half_size[0])
        high = np.full_like(times_s, self.half_size[1])
        if self.role == "mouth":
            babble = self.babble
            high = 0.012 + high * babble.at(babble.opening, times_s)
            wide = wide * (0.6 + 0.4 * babble.at(babble.width, times_s))
        elif self.role == "ball":
            y = y - 0.24 * self.babble.at(self.babble.pitch, times_s)
        return Pose(x, y, self.scale * wide, self.scale * high, np.zeros_like(times_s))


@dataclass(frozen=True)
class Dense:
    """Everything that happens in one dense clip, before it is rendered."""

    voice: Voice
    babble: Babble
    config: SyntheticConfig
    fps: ClassVar[float] = FPS

    @property
    def label(self) -> str:
        """Class of the clip."""
        return self.voice.name

    @property
    def events_s(self) -> list[float]:
        """Syllable onsets inside the clip, seconds."""
        return [float(t) for t in self.babble.onsets_s if 0 <= t < self.config.duration_s]

    @cached_property
    def _sample_times_s(self) -> NDArray[np.float64]:
        return np.arange(self.config.num_samples) / SAMPLE_RATE_HZ

    def render(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], synthesis.Array]:
        """Render the frames and the audio."""
        nuisance = NUISANCE[self.config.difficulty]
        vision_rng, audio_rng = rng.spawn(2)
        count = int(vision_rng.integers(*nuisance.distractors, endpoint=True))
        layers: list[Layer] = [sample_distractor(vision_rng) for _ in range(count)]
        layers += self._face(vision_rng)
        scene = Scene(vision_rng, nuisance, self.config.size, layers)
        frames = scene.render(self.config.num_frames)
        voice = self._speak(audio_rng)
        loud = self.babble.at(self.babble.opening, self._sample_times_s) > 0.2
        loud_power = float(np.mean(voice[loud] ** 2)) if loud.any() else 1.0
        stray = synthesis.sample_stray(audio_rng, self.config, nuisance)
        return frames, synthesis.mix(audio_rng, voice, loud_power, stray, nuisance)

    def _face(self, rng: np.random.Generator) -> list[Layer]:
        sway = (Wander(rng, 0.03, 0.1, 0.8), Wander(rng, 0.025, 0.1, 0.8))
        side = rng.choice([-1, 1])
        x, y = 0.5 - side * rng.uniform(0.08, 0.12), rng.uniform(0.44, 0.56)
        size = rng.uniform(0.22, 0.26)
        mouth = (rng.uniform(0.12, 0.16), rng.uniform(0.11, 0.15))
        ball = rng.uniform(0.05, 0.065)
        dark = rng.uniform(0.02, 0.15, 3)
        # Dark lips and a bright inside, in balance: an open mouth must not show in the mean
        # brightness of the frame.
        bright = np.array(self.voice.face) / INSIDE - dark * (1 - INSIDE) / INSIDE
        lips, inside = (_colour(values) for values in (dark, bright))
        voice, babble, low = self.voice, self.babble, (x, y + 0.06)
        return [
            Part(voice.face, (x, y), (size, size * 1.2), sway, babble),
            Part(lips, low, mouth, sway, babble, "mouth"),
            Part(inside, low, mouth, sway, babble, "mouth", scale=float(np.sqrt(INSIDE))),
            Part(voice.ball, (x + side * 0.33, 0.5), (ball, ball), sway, babble, "ball"),
        ]

    def _speak(self, rng: np.random.Generator) -> synthesis.Array:
        times_s, babble = self._sample_times_s, self.babble
        opening = babble.at(babble.opening, times_s).astype(np.float32)
        bright = babble.at(babble.width, times_s).astype(np.float32)
        pitch_hz = self.voice.base_hz * 2 ** (OCTAVES * babble.at(babble.pitch, times_s))
        cycles = np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
        angle = (2 * np.pi * (cycles % 1)).astype(np.float32)
        dull, sharp = np.zeros_like(opening), np.zeros_like(opening)
        for number in range(1, 9):
            wave = np.sin(number * angle) / np.float32(number**self.voice.rolloff)
            if number <= 2:
                dull += wave
            else:
                sharp += wave
        voice = dull + bright * sharp
        voice += np.float32(self.voice.breath) * rng.standard_normal(opening.size, np.float32)
        voice *= opening**1.3
        for onset_s, strength in zip(babble.onsets_s, babble.strength, strict=True):
            if rng.random() < 0.4:  # a consonant
                length = round(rng.uniform(0.01, 0.04) * SAMPLE_RATE_HZ)
                burst = rng.standard_normal(length, np.float32) * np.float32(0.5 * strength)
                synthesis.add(voice, burst, onset_s)
        return np.asarray(voice, np.float32)


def _colour(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in np.clip(values, 0, 1))
    return red, green, blue


def plan(rng: np.random.Generator, config: SyntheticConfig) -> Dense:
    """Sample what happens in a clip."""
    voice = VOICES[int(rng.integers(len(VOICES)))]
    return Dense(voice, _sample_babble(rng, config.duration_s), config)


def _sample_babble(rng: np.random.Generator, seconds: float) -> Babble:
    size = round((seconds + 2 * MARGIN_S) * CONTROL_HZ)
    opening, width, pitch = np.zeros(size), np.zeros(size), np.zeros(size)
    onsets_s, strengths = [], []
    at_s = rng.uniform(0, SYLLABLE_S[1])
    while at_s < seconds + 2 * MARGIN_S:
        length_s, strength = rng.uniform(*SYLLABLE_S), rng.uniform(0.3, 1.0)
        first, last = round(at_s * CONTROL_HZ), round((at_s + length_s) * CONTROL_HZ)
        part = np.linspace(0, 1, last - first, endpoint=False)
        grow = np.sin(np.pi / 2 * np.minimum(1, part / ATTACK)) ** 2
        fall = np.cos(np.pi / 2 * np.clip((part - ATTACK) / (1 - ATTACK), 0, 1)) ** 2
        room = opening[first:last].size
        opening[first:last] = (strength * grow * fall)[:room]
        width[first:] = rng.random()
        pitch[first:] = rng.uniform(-1, 1)
        onsets_s.append(first / CONTROL_HZ - MARGIN_S)
        strengths.append(strength)
        at_s += length_s
        if rng.random() < PAUSE_SHARE:
            at_s += rng.uniform(*PAUSE_S)
    smooth = np.hanning(round(4 * PITCH_SMOOTHING_S * CONTROL_HZ))
    smooth /= smooth.sum()
    pitch, width = (np.convolve(curve, smooth, "same") for curve in (pitch, width))
    return Babble(np.array(onsets_s), opening, width, pitch, np.array(strengths))
