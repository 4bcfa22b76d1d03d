"""One clip: planned, rendered and written as mp4; it depends on (seed, index) only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plugins.synthetic import dense, sparse
from plugins.synthetic.config import FPS, SAMPLE_RATE_HZ, SyntheticConfig
from zoo.media import encode

CRF = 20
GOP = (18, 32)  # frames between key frames: a window is decoded from about a second before it


@dataclass(frozen=True)
class Truth:
    """What is known about a clip without rendering it."""

    index: int
    label: str
    events_s: list[float]


def _plan(config: SyntheticConfig, index: int) -> tuple[sparse.Sparse | dense.Dense, list[int]]:
    seeds = np.random.SeedSequence([config.seed, index]).spawn(2)
    rng = np.random.default_rng(seeds[0])
    entropy = [int(word) for word in seeds[1].generate_state(4)]
    planned = sparse.plan(rng, config) if config.kind == "sparse" else dense.plan(rng, config)
    return planned, entropy


def describe(config: SyntheticConfig, index: int) -> Truth:
    """Return class and events of a clip."""
    planned, _ = _plan(config, index)
    return Truth(index, planned.label, planned.events_s)


def render(
    config: SyntheticConfig, index: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], Truth]:
    """Render a clip to frames ``(Tv, H, W, 3)`` and samples ``(N,)``."""
    planned, entropy = _plan(config, index)
    frames, samples = planned.render(np.random.default_rng(entropy))
    return frames, samples, Truth(index, planned.label, planned.events_s)


def write(config: SyntheticConfig, index: int, path: Path) -> None:
    """Render a clip and write it; the file appears only when it is complete."""
    frames, samples, _ = render(config, index)
    # Key frames at the same times in every clip would stamp the time into the compression noise.
    gop = int(np.random.default_rng([config.seed, index, 1]).integers(*GOP, endpoint=True))
    encode(
        path,
        frames,
        samples,
        fps=FPS,
        sample_rate_hz=SAMPLE_RATE_HZ,
        crf=CRF,
        gop=gop,
        video_options={"preset": "ultrafast"},
        # The fast coder halves the cost of a clip; at this bit rate nobody hears the difference.
        audio_options={"aac_coder": "fast", "b": "64k"},
    )
