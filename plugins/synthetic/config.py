"""What a set of synthetic clips is made of; equal recipes give equal clips."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import zoo

Kind = Literal["sparse", "dense", "film", "labelled", "multilabel", "events"]
Difficulty = Literal["easy", "normal", "hard"]

RENDERER_VERSION = 3  # raised whenever the same recipe would give other clips
FPS = 25
SAMPLE_RATE_HZ = 16_000
SECONDS: dict[Kind, float] = {
    "sparse": 9.0,
    "dense": 9.0,
    "film": 9.0,
    "labelled": 5.0,
    "multilabel": 5.0,
    "events": 10.0,
}


class SyntheticConfig(zoo.ComponentConfig):
    """The recipe of every clip in a folder; the number of clips is not part of it."""

    kind: Kind = Field(
        default="sparse",
        description="a few audible events, continuous motion and sound, scenes made for transfer "
        "to film, classes (one per clip, or two) that need both streams, or lasting events that "
        "are heard and seen, or only one",
    )
    seed: int = Field(default=0, ge=0, description="clip i depends on (seed, i) only")
    size: int = Field(
        default=64, ge=32, le=512, multiple_of=2, description="width = height, pixels"
    )
    seconds: float = Field(
        default=9.0, ge=2.0, le=60.0, description="length of every clip, seconds"
    )
    difficulty: Difficulty = Field(default="normal", description="how much nuisance")
    version: int = Field(default=RENDERER_VERSION, description="version of the renderer")

    @property
    def is_labelled(self) -> bool:
        """Whether the class of a clip is a pair of a look and a timbre."""
        return self.kind in ("labelled", "multilabel")

    @property
    def num_frames(self) -> int:
        """Video frames per clip."""
        return round(self.seconds * FPS)

    @property
    def duration_s(self) -> float:
        """Length of both streams, a whole number of frames, seconds."""
        return self.num_frames / FPS

    @property
    def num_samples(self) -> int:
        """Audio samples per clip."""
        return self.num_frames * SAMPLE_RATE_HZ // FPS


class Nuisance(zoo.ComponentConfig):
    """What stands between a model and the events; pairs are the ends of a range."""

    snr_db: tuple[float, float] = Field(description="sound over noise, dB")
    hum_share: float = Field(description="share of clips with a steady hum")
    offscreen: tuple[int, int] = Field(description="sounds without a visible cause per 9 s")
    distractors: tuple[int, int] = Field(description="silent moving objects")
    silent_moves: tuple[int, int] = Field(
        description="dashes of a distractor that make no sound, per 9 s (sparse clips)"
    )
    shake: float = Field(description="camera shake, share of the frame")
    texture: float = Field(description="contrast of the background")


NUISANCE: dict[Difficulty, Nuisance] = {
    "easy": Nuisance(
        snr_db=(15, 24),
        hum_share=0.0,
        offscreen=(0, 0),
        distractors=(0, 1),
        silent_moves=(0, 0),
        shake=0.004,
        texture=0.05,
    ),
    "normal": Nuisance(
        snr_db=(6, 18),
        hum_share=0.35,
        offscreen=(0, 2),
        distractors=(1, 2),
        silent_moves=(0, 0),
        shake=0.008,
        texture=0.08,
    ),
    "hard": Nuisance(
        snr_db=(0, 12),
        hum_share=0.6,
        offscreen=(2, 5),
        distractors=(2, 3),
        silent_moves=(1, 3),
        shake=0.016,
        texture=0.11,
    ),
}


class FilmNuisance(zoo.ComponentConfig):
    """What stands between a model and the events of film clips; pairs are the ends of a range."""

    snr_db: tuple[float, float] = Field(description="sound over noise, dB")
    music: float = Field(description="share of clips with music")
    silent: tuple[float, float, float] = Field(
        description="shares of clips with 0, 1 and 2 things that move as if they sounded, and with "
        "as many that are heard and not seen"
    )
    bystanders: tuple[int, int] = Field(description="things that wander through the scene")
    cuts: float = Field(description="share of clips with cuts")
    jolts: float = Field(description="share of clips whose events shake the camera")
    occluder: float = Field(description="share of clips with something in front")
    crf: tuple[int, int] = Field(description="compression of the pictures")
    bit_rates: tuple[str, ...] = Field(description="of the sound, one of them, bits per second")


FILM: dict[Difficulty, FilmNuisance] = {
    "easy": FilmNuisance(
        snr_db=(20, 40),
        music=0.0,
        silent=(1.0, 0.0, 0.0),
        bystanders=(0, 0),
        cuts=0.0,
        jolts=0.1,
        occluder=0.0,
        crf=(18, 24),
        bit_rates=("64k",),
    ),
    "normal": FilmNuisance(
        snr_db=(6, 40),
        music=0.2,
        silent=(0.5, 0.35, 0.15),
        bystanders=(0, 2),
        cuts=0.25,
        jolts=0.25,
        occluder=0.25,
        crf=(18, 36),
        bit_rates=("24k", "48k", "96k"),
    ),
    "hard": FilmNuisance(
        snr_db=(0, 20),
        music=0.4,
        silent=(0.2, 0.4, 0.4),
        bystanders=(1, 3),
        cuts=0.5,
        jolts=0.25,
        occluder=0.4,
        crf=(26, 40),
        bit_rates=("16k", "32k", "64k"),
    ),
}
