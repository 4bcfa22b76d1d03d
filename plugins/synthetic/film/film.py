"""One film clip: what happens, how it is filmed and how it is heard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic.config import FILM, FilmNuisance, SyntheticConfig
from plugins.synthetic.film import sound
from plugins.synthetic.film.camera import sample_camera
from plugins.synthetic.film.cast import LASTING, STRIKES, Part, bystander, choose, standing
from plugins.synthetic.film.drawing import BACKGROUND_REACH, FilmScene, sample_look
from plugins.synthetic.film.schedule import Schedule, sample_schedule
from plugins.synthetic.film.textures import leaves
from plugins.synthetic.synthesis import Array, coloured_noise

LASTING_SHARE = 0.35
RATES = (25.0, 25.0, 25.0, 24.0, 30.0, 15.0)


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
        """Onsets inside the clip of all that is both heard and seen, seconds."""
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
            _, cast = choose(rng, LASTING if rng.random() < LASTING_SHARE else STRIKES)
            parts += cast(rng, sample_schedule(rng, self.config.seconds))
        for kind, schedule in zip(self.kinds, self.schedules, strict=True):
            cast, _ = (STRIKES | LASTING)[kind]
            parts += cast(rng, schedule)
        if rng.random() < nuisance.occluder:
            parts += standing(rng)
        return parts

    def _frames(self, rng: np.random.Generator, nuisance: FilmNuisance) -> NDArray[np.uint8]:
        jolts = self.schedules[0] if rng.random() < nuisance.jolts else None
        camera = sample_camera(rng, self.config.seconds, nuisance.cuts, jolts)
        parts, look, size = self._cast(rng, nuisance), sample_look(rng), self.config.size
        backgrounds = [leaves(rng, round(BACKGROUND_REACH * size)) for _ in camera.shots]
        scene = FilmScene(camera, parts, backgrounds, look, size)
        return scene.render(rng, round(self.config.duration_s * self.fps), self.fps)

    def _audio(self, rng: np.random.Generator, nuisance: FilmNuisance) -> Array:
        num, seconds = self.config.num_samples, self.config.seconds
        track = np.zeros(num, np.float32)
        for kind, schedule in zip(self.kinds, self.schedules, strict=True):
            heard = sound.sound_of(rng, kind in LASTING)(rng, schedule, num)
            level = np.sqrt(max(sound.loud_power(heard), 1e-8))
            track += heard * np.float32(rng.uniform(0.5, 1) / level)
        for _ in range(int(rng.choice(3, p=nuisance.silent))):
            track += np.float32(rng.uniform(0.05, 0.6)) * sound.offscreen(rng, seconds, num)
        if rng.random() < nuisance.music:
            track += np.float32(rng.uniform(0.03, 0.35)) * sound.music(rng, seconds, num)
        noise = coloured_noise(rng, num, rng.uniform(0, 1.0))
        track += np.float32(10 ** (-rng.uniform(*nuisance.snr_db) / 20)) * noise
        return sound.room(rng, track)


def plan(rng: np.random.Generator, config: SyntheticConfig) -> Film:
    """Sample what happens in a clip."""
    num = 2 if rng.random() < 0.2 else 1
    among = [LASTING if rng.random() < LASTING_SHARE else STRIKES for _ in range(num)]
    kinds = tuple(choose(rng, kinds)[0] for kinds in among)
    schedules = tuple(sample_schedule(rng, config.seconds) for _ in kinds)
    return Film(kinds, schedules, float(rng.choice(RATES)), config)
