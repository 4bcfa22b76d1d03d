"""One clip: planned, rendered and written as mp4; it depends on (seed, index) only."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from plugins.synthetic import dense, sparse
from plugins.synthetic.config import FPS, SAMPLE_RATE_HZ, SyntheticConfig

CRF = 20
KEY_FRAME_EVERY = 25  # frames: a window is decoded from at most one second before its start


@dataclass(frozen=True)
class Truth:
    """What is known about a clip without rendering it."""

    index: int
    label: str
    events_s: list[float]


def _plan(config: SyntheticConfig, index: int) -> tuple[sparse.Sparse | dense.Dense, list[int]]:
    seeds = np.random.SeedSequence([config.seed, index]).spawn(2)
    kinds = {"sparse": sparse.plan, "dense": dense.plan}
    entropy = [int(word) for word in seeds[1].generate_state(4)]
    return kinds[config.kind](np.random.default_rng(seeds[0]), config), entropy


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
    # A fixed distance between key frames would stamp the time into the compression noise.
    phase = int(np.random.default_rng([config.seed, index, 1]).integers(KEY_FRAME_EVERY))
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        _write_streams(container, frames, samples, phase)
    part.replace(path)


def _write_streams(
    container: av.container.OutputContainer,
    frames: NDArray[np.uint8],
    samples: NDArray[np.float32],
    phase: int,
) -> None:
    options = {"preset": "ultrafast", "crf": str(CRF), "forced-idr": "1"}
    video = container.add_stream("libx264", rate=FPS, options=options)
    video.height, video.width = frames.shape[1:3]
    video.pix_fmt = "yuv420p"
    video.codec_context.thread_count = 1
    video.codec_context.gop_size = 10 * KEY_FRAME_EVERY
    # The fast coder halves the cost of a clip; at this rate nobody hears the difference.
    audio = container.add_stream(
        "aac", rate=SAMPLE_RATE_HZ, layout="mono", options={"aac_coder": "fast"}
    )
    audio.bit_rate = 64_000
    for index, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, FPS)
        if index % KEY_FRAME_EVERY == phase:
            frame.pict_type = av.video.frame.PictureType.I
        container.mux(video.encode(frame))
    container.mux(video.encode())
    block = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    block.sample_rate, block.pts, block.time_base = SAMPLE_RATE_HZ, 0, Fraction(1, SAMPLE_RATE_HZ)
    container.mux(audio.encode(block))
    container.mux(audio.encode())
