"""How loud a clip is: a task, a head, an encoder of both modalities, and a data set for it.

Written from docs/plugins.md alone, as somebody else would; tests/e2e/test_third_party.py uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import zoo
from zoo.errors import TrainingError
from zoo_loudness.config import (
    ClipsConfig,
    JointConfig,
    LoudnessConfig,
    LoudnessHeadConfig,
)

if TYPE_CHECKING:
    from zoo.data.manifest import Clip

WORDS = {"source": "tests of avsync-zoo", "license": "MIT"}


def build_encoder(config: JointConfig) -> zoo.Encoder:
    """Build the encoder; torch loads here, on first use."""
    from zoo_loudness.model import Joint

    return Joint(config)


def build_head(config: LoudnessHeadConfig, head_input: zoo.HeadInput) -> zoo.Head:
    """Build the head."""
    from zoo_loudness.model import LoudnessHead

    return LoudnessHead(config, head_input)


def build_task(config: LoudnessConfig) -> zoo.Task:
    """Build the task."""
    from zoo_loudness.task import Loudness

    return Loudness(config)


def build_clips(config: ClipsConfig) -> zoo.DatasetAdapter:
    """Build the adapter."""
    from zoo_loudness.clips import MeasuredClips

    return MeasuredClips(config)


def fit(config: LoudnessConfig, clips: Sequence[Clip]) -> LoudnessConfig:
    """Take the mean and the spread of the training clips."""
    levels_db = [float(clip.label) for clip in clips if clip.label]
    if not levels_db:
        raise TrainingError("not one training clip has a level in its label")
    mean_db = sum(levels_db) / len(levels_db)
    variance = sum((level_db - mean_db) ** 2 for level_db in levels_db) / len(levels_db)
    return LoudnessConfig(mean_db=round(mean_db, 3), spread_db=round(max(1.0, variance**0.5), 3))


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec]:
    """Register an encoder that sees both modalities."""
    return [
        zoo.EncoderSpec(
            name="joint",
            summary="a small transformer over the mel frames and the frames of a segment",
            config_class=JointConfig,
            build=build_encoder,
            presets={"paper": JointConfig(dim=512, depth=6, heads=8), "tiny": JointConfig()},
            end_to_end=True,
            layout=zoo.SegmentLayout(num_segments=3, segment_s=0.64, step_s=0.64),
            stage2={"tiny": {"steps": 300, "lr": 2e-3, "batch": 16, "warmup_steps": 10}},
            **WORDS,
        )
    ]


@zoo.hookimpl
def register_tasks() -> list[zoo.TaskSpec]:
    """Register the task."""
    return [
        zoo.TaskSpec(
            name="loudness",
            summary="how loud a clip is, in dB",
            config_class=LoudnessConfig,
            build=build_task,
            fit=fit,
            columns=("label",),
            presets={"paper": LoudnessConfig(), "tiny": LoudnessConfig()},
            scores=(
                zoo.Score(
                    name="error_db", title="error, dB", unit="number", is_higher_better=False
                ),
                zoo.Score(
                    name="squared_error",
                    title="squared error",
                    unit="number",
                    is_higher_better=False,
                ),
            ),
            rank=("error_db",),
            **WORDS,
        )
    ]


@zoo.hookimpl
def register_heads() -> list[zoo.HeadSpec]:
    """Register a head for the task."""
    return [
        zoo.HeadSpec(
            name="loudness",
            summary="one linear layer on the mean of all tokens",
            config_class=LoudnessHeadConfig,
            build=build_head,
            tasks=("loudness",),
            presets={"paper": LoudnessHeadConfig(), "tiny": LoudnessHeadConfig()},
            search={"dropout": zoo.Choice(values=(0.0, 0.1))},
            is_default=True,
            **WORDS,
        )
    ]


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register a data set that measures its clips."""
    return [
        zoo.DatasetSpec(
            name="measured",
            summary="any folder of clips; the label is the level of the audio in dB",
            config_class=ClipsConfig,
            build=build_clips,
            presets={"paper": ClipsConfig(), "tiny": ClipsConfig()},
            **WORDS,
        )
    ]
