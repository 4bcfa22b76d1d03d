"""A plugin as a third party writes one: regression, lower is better, on a joint encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

import zoo
from zoo.data.manifest import Clip
from zoo.models.modules import Encoder, Head
from zoo.models.segments import Segments, Tokens
from zoo.models.task import Need, Task
from zoo.timeline import Placement, Sample, SegmentLayout, place_crops

TOKENS = zoo.FeatureMap(times_s=(0.1, 0.3), positions=1, dim=8)


class JointConfig(zoo.EncoderConfig):
    """Audio of 0.64 s beside a single frame."""

    gain: float = 1.0

    def io(self) -> zoo.EncoderIO:
        """Say what is read."""
        audio = zoo.ModalityIO(frontend=zoo.LogMel(), segment_s=0.64, tokens=TOKENS)
        frames = zoo.Frames(size=32, short_side=32)
        vision = zoo.ModalityIO(frontend=frames, segment_s=0.04, tokens=TOKENS)
        return zoo.EncoderIO(audio=audio, vision=vision)


class Joint(Encoder):
    """Every token sees both modalities."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.audio, self.vision = torch.nn.Linear(128, 16), torch.nn.Linear(3, 16)
        self.gain = config.gain

    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Mix the means of both."""
        assert segments.vision.shape[3] == 1
        mixed = self.audio(segments.audio.mean(-1)) * self.vision(segments.vision.mean((3, 4, 5)))
        values = self.gain * mixed.unflatten(-1, (2, 1, 8))  # (B, S, T, P, D)
        return Tokens(values, TOKENS.times_s), Tokens(values, TOKENS.times_s)


class RateConfig(zoo.TaskConfig):
    """Nothing to set."""


class Rate(Task):
    """How many events a clip has per second."""

    num_sums = 2
    loss_name = "squared_error"

    @property
    def num_outputs(self) -> int:
        """One number."""
        return 1

    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """The crop alone."""
        return Need(layout.covered_s, "nothing else")

    def sample(
        self, rng: np.random.Generator, index: int, clip: Clip, duration_s: float, place: Placement
    ) -> Sample:
        """Cut both at one place."""
        rate = len(clip.events_s or ()) / clip.duration_s
        return place_crops(rng, index, duration_s, place, 0.0, rate)

    def loss(self, outputs: Tensor, targets: Tensor, sigma: float) -> Tensor:
        """Return the squared error."""
        return (outputs[:, 0] - targets).square().mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> list[float]:
        """Add up squared errors."""
        return [float((outputs[:, 0] - targets).square().sum()), float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Divide."""
        return {"squared_error": sums[0] / max(1.0, sums[1]), "num": int(sums[1])}

    @property
    def chance(self) -> dict[str, float]:
        """Say what a constant scores."""
        return {"squared_error": 1.0}


class Mean(Head):
    """The mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 1)

    def forward(self, audio: Tokens, vision: Tokens) -> Tensor:
        """Average."""
        return self.linear((audio.flat + vision.flat).mean(1))


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec]:
    """Register ``joint``, which is trained along with the head."""
    config = JointConfig()
    return [
        zoo.EncoderSpec(
            name="joint",
            summary="both at once",
            config_class=JointConfig,
            build=Joint,
            presets={"tiny": config, "paper": config},
            search={"gain": zoo.Choice(values=(0.5, 1.0))},
            end_to_end=True,
            head="mean_of_all",
            layout=SegmentLayout(num_segments=5, segment_s=0.64, step_s=0.64),
        )
    ]


@zoo.hookimpl
def register_tasks() -> list[zoo.TaskSpec]:
    """Register ``event_rate``."""
    config = RateConfig()
    return [
        zoo.TaskSpec(
            name="event_rate",
            summary="events per second",
            config_class=RateConfig,
            build=lambda _: Rate(),
            presets={"tiny": config, "paper": config},
            scores=(
                zoo.Score(
                    name="squared_error",
                    title="squared error",
                    unit="number",
                    is_higher_better=False,
                ),
            ),
            rank=("squared_error",),
            columns=("events_s",),
        )
    ]


@zoo.hookimpl
def register_heads() -> list[zoo.HeadSpec]:
    """Register ``mean_of_all``."""
    config = zoo.ComponentConfig()
    return [
        zoo.HeadSpec(
            name="mean_of_all",
            summary="a mean",
            config_class=zoo.ComponentConfig,
            build=lambda *_: Mean(),
            presets={"tiny": config, "paper": config},
            tasks=("event_rate",),
            is_default=True,
        )
    ]
