"""Trainings on clips drawn for transfer to film."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zoo

CLIPS = 4_000  # film clips of all difficulties, and sparse ones among them
EPOCHS = 6
BATCH = 16
CACHED = 6000  # clips of 72 pixels, decoded: 24 GB


def _film_tiny(clips: int) -> Mapping[str, Any]:
    return {
        "layout.num_segments": 4,
        "layout.segment_s": 1.28,
        "layout.step_s": 1.28,
        "head.context": 5,
        "head.centred": True,
        "stage2.batch": BATCH,
        "stage2.steps": max(300, EPOCHS * clips // BATCH),
        "stage2.lr": 2e-3,
        "stage2.schedule": "cosine",
        "stage2.warmup_steps": 50,
        "stage2.weight_decay": 0.02,
        "stage2.valid_every": 200,
        "stage2.valid_rounds": 2,
        "stage2.gain_db": 6.0,
        "stage2.shift_bins": 4,
        "stage2.scale_jitter": [0.95, 1.3],
        "data.cache": clips <= CACHED,
        "data.vision_hop_s": 0.04,  # a clip is not always cut at the same frames
    }


RECIPES: Mapping[str, zoo.NamedRecipe] = {
    "film_tiny": zoo.NamedRecipe(
        summary="film clips on two cores: frames of 64 pixels, offsets of up to 2 s",
        preset="tiny",
        clips=CLIPS,
        settings=_film_tiny,
        task="offset",
        head="correlation",
    )
}
