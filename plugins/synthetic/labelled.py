"""Labelled clips: sparse clips whose class is a pair of a look and a timbre.

Four looks and four timbres make eight classes in a ring: every look goes with two timbres and every
timbre with two looks.  One stream alone leaves two classes, so that its accuracy is at most 50 %
(chance is 12.5 %); both together give the class.  Eight consecutive clips hold every class once and
share a split, so that the ceiling is exact in every split of whole rounds.

Of a ``multilabel`` clip the look and the timbre are two labels: one stream alone knows four of the
eight labels and halves the others, a mean average precision of at most 75 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic import sparse, synthesis
from plugins.synthetic.config import SyntheticConfig
from zoo.data.manifest import Event

ROUND_STREAM = 2  # tells the random order of a round from other numbers of the same seed
FADE_DECAYS = 2.3  # an event ends when its sound has fallen by 20 dB: ln 10 decay times


@dataclass(frozen=True)
class Look:
    """How a class looks."""

    name: str
    colour: tuple[float, float, float]
    sides: int
    ring: float


LOOKS = (
    Look("disc", (1.0, 0.85, 0.2), 0, 0.0),
    Look("square", (0.95, 0.35, 0.25), 4, 0.0),
    Look("triangle", (0.45, 0.95, 0.4), 3, 0.0),
    Look("ring", (0.45, 0.6, 1.0), 0, 0.55),
)
TIMBRES = {
    species.name: species.timbre
    for species in sparse.SPECIES
    if species.name in ("bell", "drum", "snare", "laser")
}


def _pair(look: Look, timbre: str) -> sparse.Species:
    name = f"{look.name}-{timbre}"
    return sparse.Species(name, look.colour, look.sides, look.ring, TIMBRES[timbre])


CLASSES = tuple(
    _pair(look, list(TIMBRES)[(number + step) % len(TIMBRES)])
    for number, look in enumerate(LOOKS)
    for step in (0, 1)
)
ROUND = len(CLASSES)


def parts(label: str) -> tuple[str, str]:
    """Return the look and the timbre of a class."""
    look, _, timbre = label.partition("-")
    return look, timbre


def single_stream_ceilings(labels: Sequence[str]) -> tuple[float, float]:
    """Return the highest accuracy that some clips allow from audio and from video alone, 0..1."""
    looks, timbres = zip(*map(parts, labels), strict=True)
    return ceiling(timbres, labels), ceiling(looks, labels)


def ceiling(kinds: Iterable[str], labels: Iterable[str]) -> float:
    """Return the accuracy of who knows the kind of every clip and guesses its likeliest label."""
    counts = Counter(zip(kinds, labels, strict=True))
    best: dict[str, int] = {}
    for (kind, _), count in counts.items():
        best[kind] = max(best.get(kind, 0), count)
    return sum(best.values()) / counts.total()


@dataclass(frozen=True)
class Labelled:
    """A sparse scene and what is known about its classes."""

    scene: sparse.Sparse

    @property
    def label(self) -> str:
        """Class of the clip: look and timbre."""
        return self.scene.label

    @property
    def labels(self) -> tuple[str, ...]:
        """The class, or look and timbre as labels of their own."""
        is_multi = self.scene.config.kind == "multilabel"
        return parts(self.label) if is_multi else (self.label,)

    @property
    def events_s(self) -> list[float]:
        """Impacts inside the clip, seconds."""
        return self.scene.events_s

    @property
    def events(self) -> tuple[Event, ...]:
        """Impacts inside the clip, from the hit until its sound has faded or the next one comes."""
        fade_s = FADE_DECAYS * self.scene.species.timbre.decay_s
        ends_s = [*self.events_s[1:], self.scene.config.duration_s]
        return tuple(
            Event(start_s, min(start_s + fade_s, end_s), label)
            for start_s, end_s in zip(self.events_s, ends_s, strict=True)
            for label in self.labels
        )

    def render(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], synthesis.Array]:
        """Render the frames and the audio."""
        return self.scene.render(rng)


def plan(rng: np.random.Generator, config: SyntheticConfig, index: int) -> Labelled:
    """Sample what happens in a clip; its class follows from its place in the round."""
    number, place = divmod(index, ROUND)
    order = np.random.default_rng([config.seed, number, ROUND_STREAM]).permutation(ROUND)
    return Labelled(sparse.plan_species(rng, config, CLASSES[order[place]]))
