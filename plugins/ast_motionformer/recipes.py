"""Trainings on GRID: talking people, offsets in classes of a frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import zoo

CLIPS = 27_000  # by 27 people; 6 others are for validation and testing
CACHED = 3000  # so many clips are 4 GB at 72 pixels, decoded

# Clips of 3 s hold a crop of 1.92 s, offsets of up to 0.6 s to either side, and half a segment to
# choose the start from.
_COMMON: Mapping[str, Any] = {
    "layout.num_segments": 5,
    "grid.min_s": -0.6,
    "grid.max_s": 0.6,
    "grid.num_classes": 31,
    "stage1.num_segments": 4,
    # The usual jitter of 0.05 s is more than a class.
    "stage1.jitter_s": 0.0,
    "stage2.jitter_s": 0.0,
    "stage2.lr": 1e-3,
    "stage2.schedule": "cosine",
    "stage2.warmup_steps": 50,
    "stage2.weight_decay": 0.05,
    "stage2.valid_every": 200,
}

# Other colours, distances, rooms and voices than those of a few speakers.
_OTHER_PEOPLE: Mapping[str, Any] = {
    "colour_jitter": 0.5,
    "grey": 0.2,
    "scale_jitter": [0.9, 1.35],
    "gain_db": 6.0,
    "reverb": 0.3,
    "snr_db": 5.0,
    "shift_bins": 8,
}


def _recipe(
    summary: str,
    preset: Literal["tiny", "paper"],
    *,
    clips: int,
    batch: int,
    epochs: tuple[int, int],
    settings: Mapping[str, Any],
) -> zoo.NamedRecipe:
    """Return a recipe of both stages; small folders get no fewer steps than one speaker needs."""

    def resolve(num: int) -> dict[str, Any]:
        return {
            **_COMMON,
            "stage1.clips": clips,
            "stage1.steps": max(1400, epochs[0] * num // clips),
            "stage2.batch": batch,
            "stage2.steps": max(300, epochs[1] * num // batch),
            "data.cache": preset == "tiny" and num <= CACHED,
            **settings,
        }

    return zoo.NamedRecipe(
        summary=summary, preset=preset, stage="all", task="offset", clips=CLIPS, settings=resolve
    )


RECIPES: Mapping[str, zoo.NamedRecipe] = {
    "grid": _recipe(
        "GRID on GPUs: whole frames, offsets of up to 0.6 s in classes of 0.04 s",
        "paper",
        clips=16,
        batch=64,
        epochs=(40, 10),
        settings={
            "stage1.valid_every": 1000,
            "stage1.checkpoint_every": 1000,
            "data.features": "store",
        },
    ),
    "grid_tiny": _recipe(
        "GRID on two cores: frames of 64 pixels, offsets of up to 0.6 s in classes of 0.04 s",
        "tiny",
        clips=12,
        batch=16,
        epochs=(4, 4),
        settings={
            "vision.frontend.size": 64,
            "vision.frontend.short_side": 72,
            "data.features": "online",
            "stage2.valid_every": 100,
            "stage2.valid_rounds": 2,
            **{f"stage1.{name}": value for name, value in _OTHER_PEOPLE.items()},
            **{f"stage2.{name}": value for name, value in _OTHER_PEOPLE.items()},
        },
    ),
}
