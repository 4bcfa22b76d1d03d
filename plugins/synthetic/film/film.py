"""One film clip: what happens, how it is filmed and how it is heard."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic.config import FILM, SAMPLE_RATE_HZ, FilmNuisance, SyntheticConfig
from plugins.synthetic.film import sound
from plugins.synthetic.film.camera import sample_camera
from plugins.synthetic.film.cast import LASTING, Part, bystander, choose, play, standing
from plugins.synthetic.film.drawing import BACKGROUND_REACH, FilmScene, sample_look
from plugins.synthetic.film.schedule import Schedule, sample_schedule
from plugins.synthetic.film.textures import leaves
from plugins.synthetic.synthesis import Array, coloured_noise

LASTING_SHARE = 0.35
LEAD_S = 0.8  # sounds begin so long before the clip
FRAME_RATES = (25.0, 25.0, 25.0, 24.0, 30.0, 15.0)


@dataclass(frozen=True)
class Film:
    """Everything that happens in one film clip, before it is rendered."""

    kinds: tuple[str, ...]
    schedules: tuple[Schedule, ...]
    fps: float
    config: SyntheticConfig

    @property
    def label(self) -> str:
        """What the first source of sound does."""
        return self.kinds[0]

    @property
    def events_s(self) -> list[float]:
        """Onsets inside the clip of all that sounds and moves, seconds."""
        times_s = np.concatenate([schedule.times_s for schedule in self.schedules])
        return sorted(float(t) for t in times_s if 0 <= t < self.config.duration_s)

    def render(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Array]:
        """Render the frames and the audio."""
        nuisance = FILM[self.config.difficulty]
        vision_rng, audio_rng = rng.spawn(2)
        return self._frames(vision_rng, nuisance), self._audio(audio_rng, nuisance)

    def _cast(self, rng: np.random.Generator, nuisance: FilmNuisance) -> list[Part]:
        parts: list[Part] = []
        for _ in range(int(rng.integers(*nuisance.bystanders, endpoint=True))):
            parts += bystander(rng)
        for _ in range(int(rng.choice(3, p=nuisance.silent))):
            parts += play(
                choose(rng, LASTING_SHARE), rng, sample_schedule(rng, self.config.seconds)
            )
        for kind, schedule in zip(self.kinds, self.schedules, strict=True):
            parts += play(kind, rng, schedule)
        if rng.random() < nuisance.occluder:
            parts += standing(rng)
        return parts

    def _frames(self, rng: np.random.Generator, nuisance: FilmNuisance) -> NDArray[np.uint8]:
        jolts = self.schedules[0] if rng.random() < nuisance.jolts else None
        camera = sample_camera(rng, self.config.seconds, nuisance.cuts, jolts)
        parts, look, size = self._cast(rng, nuisance), sample_look(rng), self.config.size
        backgrounds = [leaves(rng, round(BACKGROUND_REACH * size)) for _ in camera.shots]
        scene = FilmScene(camera, parts, backgrounds, look, size)
        return scene.render(rng, math.ceil(self.config.duration_s * self.fps - 1e-6), self.fps)

    def _audio(self, rng: np.random.Generator, nuisance: FilmNuisance) -> Array:
        seconds = self.config.seconds + LEAD_S
        num = self.config.num_samples + round(LEAD_S * SAMPLE_RATE_HZ)
        track, loudest = np.zeros(num, np.float32), 0.0
        for kind, schedule in zip(self.kinds, self.schedules, strict=True):
            heard = sound.sound_of(rng, kind in LASTING)(rng, schedule.later(LEAD_S), num)
            level = rng.uniform(0.5, 1)
            track += np.float32(level) * sound.at_loudness(heard)
            loudest = max(loudest, level)
        for _ in range(int(rng.choice(3, p=nuisance.silent))):
            track += np.float32(rng.uniform(0.05, 0.6)) * sound.offscreen(rng, seconds, num)
        if rng.random() < nuisance.music:
            track += np.float32(rng.uniform(0.03, 0.35)) * sound.music(rng, seconds, num)
        noise = coloured_noise(rng, num, rng.uniform(0, 1.0))
        track += np.float32(loudest * 10 ** (-rng.uniform(*nuisance.snr_db) / 20)) * noise
        return sound.room(rng, track, LEAD_S)


def plan(rng: np.random.Generator, config: SyntheticConfig) -> Film:
    """Sample what happens in a clip."""
    num = 2 if rng.random() < 0.2 else 1
    kinds = tuple(choose(rng, LASTING_SHARE) for _ in range(num))
    schedules = tuple(sample_schedule(rng, config.seconds) for _ in kinds)
    return Film(kinds, schedules, float(rng.choice(FRAME_RATES)), config)
