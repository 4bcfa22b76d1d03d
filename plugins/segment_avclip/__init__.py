"""Segment AVCLIP, the contrastive objective of stage I."""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

import zoo

SHIFT_WINDOW = 8  # segments per window of the zero-shot validation (Source: Synchformer)


def window_of(num_segments: int) -> int:
    """Return how many segments a window has: 8, or half of them where 8 would leave one window."""
    return SHIFT_WINDOW if num_segments > SHIFT_WINDOW else (num_segments + 1) // 2


class SegmentAvclipConfig(zoo.ComponentConfig):
    """How segments are compared, and the temperature; the defaults are the published ones."""

    compare: Literal["mean", "aligned"] = Field(
        "mean",
        description="tokens averaged over time as in the paper, or step by step at the same times",
    )
    temperature: float = Field(0.07, gt=0, description="initial temperature, trained")
    min_temperature: float = Field(0.001, gt=0, description="lower clamp")
    max_temperature: float = Field(0.5, gt=0, description="upper clamp")
    gather: bool = Field(True, description="take negatives from all workers, not only from its own")


def _build(config: SegmentAvclipConfig, encoder: "zoo.Encoder") -> "zoo.Objective":
    from plugins.segment_avclip.model import SegmentAvclip

    return SegmentAvclip(config, encoder)


def _chance(_config: SegmentAvclipConfig, clips: int, num_segments: int) -> zoo.Chance:
    rows, windows = clips * num_segments, num_segments - window_of(num_segments) + 1
    return zoo.Chance(
        loss=math.log(rows),
        words=f"ln {rows} = {math.log(rows):.2f}",
        scores={"segment_accuracy": 1 / rows, "precision": 1 / windows},
    )


def _describe(scores: Mapping[str, float]) -> str:
    precision, chance = scores["precision"], scores["chance"]
    return f"finds the shifted window in {precision:.1%} of cases (chance {chance:.1%})"


@zoo.hookimpl
def register_objectives() -> list[zoo.ObjectiveSpec]:
    """Register ``segment_avclip``."""
    return [
        zoo.ObjectiveSpec(
            name="segment_avclip",
            summary="InfoNCE over all segments of the batch, both directions",
            config_class=SegmentAvclipConfig,
            build=_build,
            presets={
                "paper": SegmentAvclipConfig(),
                "tiny": SegmentAvclipConfig(compare="aligned", max_temperature=0.07),
            },
            stage1={
                "tiny": {
                    "steps": 1100,
                    "lr": 7e-4,
                    "warmup_steps": 30,
                    "betas": (0.9, 0.98),
                    "weight_decay": 0.05,
                    "clips": 4,
                    "num_segments": 12,
                    "jitter_s": 0.0,
                    "gain_db": 6.0,
                    "valid_every": 300,
                    "checkpoint_every": 200,
                },
                "paper": {"steps": 500_000, "lr": 1e-4, "warmup_steps": 1000, "valid_every": 5000},
            },
            chance=_chance,
            describe=_describe,
            curves=(
                zoo.Score(name="segment_accuracy", title="right segment of the batch"),
                zoo.Score(name="precision", title="right shifted window"),
            ),
            search={"temperature": zoo.Range(low=0.02, high=0.07, log=True)},
            is_default=True,
            source="arXiv:2401.16423 section 3.2, equation 4",
            license="MIT",
        )
    ]
