"""Draw synthetic clips and their events: ``contact_sheet.py OUT.jpg KIND...``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from plugins.synthetic import clip
from plugins.synthetic.config import SAMPLE_RATE_HZ, SyntheticConfig

SEED = 77
NUM_ROWS = 6
NUM_FRAMES = 16
SIZE = 64
BEFORE = 6  # frames shown before the event


def strip(frames: np.ndarray, event_s: float, fps: float) -> np.ndarray:
    """Return the frames around an event side by side."""
    first = int(np.clip(int(event_s * fps) - BEFORE, 0, len(frames) - NUM_FRAMES))
    gap = np.full((SIZE, 2, 3), 255, np.uint8)
    parts = [part for frame in frames[first : first + NUM_FRAMES] for part in (frame, gap)]
    return np.concatenate(parts[:-1], axis=1)


def main() -> None:
    """Draw the sheet."""
    mpl.rcParams["font.size"] = 7
    figure = Figure(figsize=(9, 8.2), dpi=110, layout="constrained")
    kinds = sys.argv[2:]
    rows = [(kind, index) for kind in kinds for index in range(NUM_ROWS // len(kinds))]
    axes = figure.subplots(2 * len(rows), 1, height_ratios=[1.3, 0.75] * len(rows))
    for row, (kind, index) in enumerate(rows):
        config = SyntheticConfig(kind=kind, seed=SEED, size=SIZE)  # type: ignore[arg-type]
        frames, samples, truth = clip.render(config, index)
        shown_s = min(truth.events_s, key=lambda t: abs(t - config.duration_s / 2))
        pictures, sound = axes[2 * row], axes[2 * row + 1]
        pictures.imshow(strip(frames, shown_s, truth.fps), interpolation="nearest", aspect="auto")
        pictures.set_title(
            f"{kind}, {truth.label}: {NUM_FRAMES} frames around {shown_s:.2f} s", loc="left", pad=2
        )
        pictures.set_axis_off()
        loudest = np.abs(samples).reshape(-1, 80).max(axis=1) / np.abs(samples).max()
        at_s = np.arange(loudest.size) * 80 / SAMPLE_RATE_HZ
        sound.fill_between(at_s, -loudest, loudest, color="#4c72b0", linewidth=0)
        sound.axvspan(
            shown_s - BEFORE / truth.fps, shown_s + 10 / truth.fps, color="#dd8452", alpha=0.2
        )
        for event_s in truth.events_s:
            sound.axvline(event_s, color="#c44e52", linewidth=0.8)
        sound.set_xlim(0, config.duration_s)
        sound.set_yticks([])
        sound.tick_params(pad=1, length=2)
    axes[-1].set_xlabel("seconds; red: events; shaded: the frames above")
    figure.savefig(Path(sys.argv[1]), pil_kwargs={"quality": 72})


if __name__ == "__main__":
    main()
