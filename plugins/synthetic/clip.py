"""One clip: planned, rendered and written as mp4; it depends on (seed, index) only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic import dense, labelled, lasting, sparse
from plugins.synthetic.config import FILM, FPS, SAMPLE_RATE_HZ, SyntheticConfig
from zoo.data.manifest import Event
from zoo.media import encode

if TYPE_CHECKING:
    from plugins.synthetic.film.film import Film

CRF = 20
Planned: TypeAlias = "sparse.Sparse | dense.Dense | Film | labelled.Labelled | lasting.Lasting"
GOP = (18, 32)  # frames between key frames: a window is decoded from about a second before it


@dataclass(frozen=True)
class Truth:
    """What is known about a clip without rendering it."""

    index: int
    label: str | None
    events_s: list[float]
    labels: tuple[str, ...] | None = None
    events: tuple[Event, ...] | None = None
    decoys: dict[str, tuple[Event, ...]] | None = None
    """What is only ``heard`` or only ``seen``."""
    fps: float = FPS


def round_size(config: SyntheticConfig) -> int:
    """Return how many consecutive clips hold every class once, and share a split; else 1."""
    return labelled.ROUND if config.is_labelled else 1


def _plan(config: SyntheticConfig, index: int) -> tuple[Planned, list[int]]:
    seeds = np.random.SeedSequence([config.seed, index]).spawn(2)
    rng = np.random.default_rng(seeds[0])
    entropy = [int(word) for word in seeds[1].generate_state(4)]
    if config.is_labelled:
        return labelled.plan(rng, config, index), entropy
    if config.kind == "events":
        return lasting.plan(rng, config), entropy
    if config.kind == "film":
        from plugins.synthetic.film import film  # which draws with torch, the others need none

        return film.plan(rng, config), entropy
    planned = sparse.plan(rng, config) if config.kind == "sparse" else dense.plan(rng, config)
    return planned, entropy


def _truth(index: int, planned: Planned) -> Truth:
    if isinstance(planned, labelled.Labelled):
        return Truth(index, planned.label, planned.events_s, planned.labels, planned.events)
    if isinstance(planned, lasting.Lasting):
        known = planned.events
        onsets_s = [event.start_s for event in known]
        return Truth(index, None, onsets_s, planned.labels, known, planned.decoys)
    return Truth(index, planned.label, planned.events_s, fps=planned.fps)


def describe(config: SyntheticConfig, index: int) -> Truth:
    """Return class and events of a clip."""
    planned, _ = _plan(config, index)
    return _truth(index, planned)


def render(
    config: SyntheticConfig, index: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], Truth]:
    """Render a clip to frames ``(Tv, H, W, 3)`` and samples ``(N,)``."""
    planned, entropy = _plan(config, index)
    frames, samples = planned.render(np.random.default_rng(entropy))
    return frames, samples, _truth(index, planned)


def write(config: SyntheticConfig, index: int, path: Path) -> None:
    """Render a clip and write it; the file appears only when it is complete."""
    frames, samples, truth = render(config, index)
    # Key frames at the same times in every clip would stamp the time into the compression noise.
    rng = np.random.default_rng([config.seed, index, 1])
    gop = int(rng.integers(*GOP, endpoint=True))
    crf, bit_rate = CRF, "64k"
    if config.kind == "film":
        nuisance = FILM[config.difficulty]
        crf = int(rng.integers(*nuisance.crf, endpoint=True))
        bit_rate = str(rng.choice(nuisance.bit_rates))
    encode(
        path,
        frames,
        samples,
        fps=truth.fps,
        sample_rate_hz=SAMPLE_RATE_HZ,
        crf=crf,
        gop=gop,
        video_options={"preset": "ultrafast"},
        # The fast coder halves the cost of a clip; at this bit rate nobody hears the difference.
        audio_options={"aac_coder": "fast", "b": bit_rate},
    )
