"""One film clip: what happens, how it is filmed and how it is heard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from plugins.synthetic.config import FILM, FilmNuisance, SyntheticConfig
from plugins.synthetic.film import sound
from plugins.synthetic.film.camera import Camera, View, sample_camera
from plugins.synthetic.film.cast import LASTING, STRIKES, Part, Pose, bystander, choose, standing
from plugins.synthetic.film.schedule import Schedule, Times, sample_schedule
from plugins.synthetic.film.textures import leaves
from plugins.synthetic.scene import Wander
from plugins.synthetic.synthesis import Array, coloured_noise

LASTING_SHARE = 0.35
RATES = (25.0, 25.0, 25.0, 24.0, 30.0, 15.0)
BACKGROUND_REACH = 1.7  # half the side of the background, in halves of the frame
FRAMES_AT_ONCE = 24  # which stay in the processor's cache


@dataclass(frozen=True)
class Look:
    """What the pictures of a clip have in common."""

    gamma: float
    cast: NDArray[np.float64]
    saturation: float
    vignette: float
    grain: float
    light: Wander
    shutter: float
    bars: float


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
        parts, look, size = self._cast(rng, nuisance), _sample_look(rng), self.config.size
        side = round(BACKGROUND_REACH * size)
        shots = [torch.from_numpy(leaves(rng, side)) for _ in camera.shots]
        scene = _Scene(camera, parts, shots, look, size)
        num = round(self.config.duration_s * self.fps)
        frames = np.empty((num, size, size, 3), np.uint8)
        for start in range(0, num, FRAMES_AT_ONCE):
            at = np.arange(start, min(start + FRAMES_AT_ONCE, num)) / self.fps
            frames[start : start + len(at)] = scene.frames(at, self.fps, rng)
        return frames

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


class _Scene:
    """Draws frames of everything, as the camera sees it."""

    def __init__(self, camera: Camera, parts: list[Part], shots: list[Tensor], look: Look, size: int) -> None:  # fmt: skip
        self.camera, self.parts, self.shots, self.look, self.size = camera, parts, shots, look, size
        centres = (torch.arange(size) + 0.5) / size * 2 - 1
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        self.places = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)  # (H*W, 3)
        self.vignette = 1 - look.vignette * (x**2 + y**2)
        self.pictures = [torch.from_numpy(part.picture) for part in parts]

    def frames(self, times_s: Times, fps: float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draw frames ``(T, H, W, 3)``, blurred by the shutter."""
        blurred = self.look.shutter > 0
        x = self._draw(times_s)  # (T, 3, H, W)
        if blurred:
            x = (x + self._draw(times_s + self.look.shutter / fps)) / 2
        look = self.look
        light = torch.from_numpy(1 + look.light(times_s)).float()[:, None, None, None]
        x = x.clamp(0, 1) ** look.gamma * light * self.vignette
        grey = x.mean(dim=1, keepdim=True)
        cast = torch.from_numpy(look.cast).float()[:, None, None]
        x = grey + look.saturation * (x - grey) + cast
        if look.grain:
            drawn = rng.standard_normal((len(times_s), 1, self.size, self.size), np.float32)
            x = x + look.grain * torch.from_numpy(drawn)
        bars = round(look.bars * self.size)
        if bars:
            x[:, :, :bars] = x[:, :, -bars:] = 0
        return (255 * x.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def _draw(self, times_s: Times) -> Float[Tensor, "T 3 H W"]:
        view = self.camera.view(times_s)
        world = _to_world(view)  # (T, 3, 3)
        canvas = torch.empty(len(times_s), 3, self.size, self.size)
        behind = torch.diag(torch.tensor([1 / BACKGROUND_REACH, 1 / BACKGROUND_REACH, 1.0]))
        for number in np.unique(view.shot):
            now = torch.from_numpy(view.shot == number)
            picture = self.shots[int(number)][None].expand(int(now.sum()), -1, -1, -1)
            grid = self._grid(behind @ world[now])
            canvas[now] = grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
        for part, picture in zip(self.parts, self.pictures, strict=True):
            self._put(canvas, picture, part.pose(times_s), world)
        return canvas

    def _put(self, canvas: Tensor, picture: Tensor, pose: Pose, world: Tensor) -> None:
        seen = torch.from_numpy((pose.opacity > 0.01) & (pose.half_height > 1e-3))
        if not seen.any():
            return
        grid = self._grid(_to_part(pose)[seen] @ world[seen])
        layer = grid_sample(picture[None].expand(len(grid), -1, -1, -1), grid, align_corners=False)
        opacity = torch.from_numpy(pose.opacity).float()[seen][:, None, None, None]
        layer = layer * opacity
        canvas[seen] = canvas[seen] * (1 - layer[:, 3:]) + layer[:, :3]

    def _grid(self, matrices: Float[Tensor, "T 3 3"]) -> Float[Tensor, "T H W 2"]:
        grid = self.places @ matrices[:, :2].transpose(1, 2)  # (T, H*W, 2)
        return grid.unflatten(1, (self.size, self.size))


def _to_world(view: View) -> Float[Tensor, "T 3 3"]:
    """Return matrices from places in the frame to places in the scene."""
    return _matrices(
        view.scale * np.cos(view.angle), -view.scale * np.sin(view.angle), view.x,
        view.scale * np.sin(view.angle), view.scale * np.cos(view.angle), view.y,
    )  # fmt: skip


def _to_part(pose: Pose) -> Float[Tensor, "T 3 3"]:
    """Return matrices from places in the scene to places in a part's picture."""
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    wide, high = 1 / pose.half_width, 1 / np.maximum(pose.half_height, 1e-4)
    return _matrices(
        cos * wide, sin * wide, -(pose.x * cos + pose.y * sin) * wide,
        -sin * high, cos * high, (pose.x * sin - pose.y * cos) * high,
    )  # fmt: skip


def _matrices(*rows: Times) -> Float[Tensor, "T 3 3"]:
    zero, one = np.zeros_like(rows[0]), np.ones_like(rows[0])
    flat = np.stack([*rows, zero, zero, one], axis=1).astype(np.float32)
    return torch.from_numpy(flat).unflatten(1, (3, 3))


def _sample_look(rng: np.random.Generator) -> Look:
    return Look(
        gamma=float(np.exp(rng.normal(0, 0.3))),
        cast=rng.normal(0, 0.03, 3) + rng.normal(0, 0.05),
        saturation=float(rng.choice([0.0, rng.uniform(0.3, 1.5)], p=[0.1, 0.9])),
        vignette=float(rng.choice([0.0, rng.uniform(0, 0.35)])),
        grain=float(rng.choice([0.0, rng.uniform(0, 0.04)])),
        light=Wander(rng, 0.08, 0.03, 0.3),
        shutter=float(rng.choice([0.0, rng.uniform(0.3, 0.6)])),
        bars=float(rng.choice([0.0, rng.uniform(0.04, 0.14)], p=[0.9, 0.1])),
    )


def plan(rng: np.random.Generator, config: SyntheticConfig) -> Film:
    """Sample what happens in a clip."""
    num = 2 if rng.random() < 0.2 else 1
    among = [LASTING if rng.random() < LASTING_SHARE else STRIKES for _ in range(num)]
    kinds = tuple(choose(rng, kinds)[0] for kinds in among)
    schedules = tuple(sample_schedule(rng, config.seconds) for _ in kinds)
    return Film(kinds, schedules, float(rng.choice(RATES)), config)
