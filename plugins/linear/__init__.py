"""Linear heads: the mean of all tokens, or of those of each slot of time, and one layer."""

from typing import Literal

from pydantic import Field, model_validator

import zoo


class LinearConfig(zoo.ComponentConfig):
    """What the layer sees."""

    streams: Literal["both", "audio", "vision"] = Field(
        "both", description="modalities that are looked at: one alone is a control"
    )
    pool: Literal["modalities", "tokens"] = Field(
        "modalities",
        description="a mean for each modality, side by side, or one mean of all tokens",
    )
    norm: Literal["first_batch", "layer"] = Field(
        "first_batch",
        description="centre and scale as the first batch of training tells, or a trained LayerNorm",
    )


def _build(config: LinearConfig, head_input: zoo.HeadInput) -> "zoo.Head":
    from plugins.linear.model import LinearHead

    return LinearHead(config, head_input)


class LinearEachConfig(zoo.ComponentConfig):
    """Which of three layers answers, and how often each of them learns."""

    streams: Literal["both", "audio", "vision"] = Field(
        "both", description="which layer answers when the training is over"
    )
    audio_share: float = Field(0.25, ge=0, le=1, description="of the steps, for audio alone")
    vision_share: float = Field(0.25, ge=0, le=1, description="of the steps, for video alone")

    @model_validator(mode="after")
    def _shares(self) -> "LinearEachConfig":
        if self.audio_share + self.vision_share > 1:
            raise ValueError("audio_share and vision_share are more than 1 together")
        return self


def _build_each(config: LinearEachConfig, head_input: zoo.HeadInput) -> "zoo.Head":
    from plugins.linear.model import LinearEachHead

    return LinearEachHead(config, head_input)


class LinearSlotsConfig(zoo.ComponentConfig):
    """What the layer sees of a slot."""

    streams: Literal["both", "audio", "vision"] = Field(
        "both", description="modalities that are looked at: one alone is a control"
    )
    norm: Literal["first_batch", "layer"] = Field(
        "first_batch",
        description="centre and scale as the first batch of training tells, or a trained LayerNorm",
    )
    context: int = Field(
        0, ge=0, description="slots before and after each that a convolution over time looks at"
    )


def _build_slots(config: LinearSlotsConfig, head_input: zoo.HeadInput) -> "zoo.Head":
    from plugins.linear.slots import LinearSlotsHead

    return LinearSlotsHead(config, head_input)


@zoo.hookimpl
def register_heads() -> list[zoo.HeadSpec]:
    """Register ``linear``, ``linear_each`` and ``linear_slots``."""
    return [
        zoo.HeadSpec(
            name="linear",
            summary="one linear layer on the mean of all tokens",
            config_class=LinearConfig,
            build=_build,
            presets={"paper": LinearConfig(), "tiny": LinearConfig()},
            search={"streams": zoo.Choice(values=("both", "audio", "vision"))},
            tasks=("classification",),
            stage2={"tiny": {"steps": 1200, "lr": 1e-2, "weight_decay": 0.0}},
            is_default=True,
            source="arXiv:2210.07839 section 3.4",
            license="MIT",
        ),
        zoo.HeadSpec(
            name="linear_each",
            summary="layers for audio, for video and for both, of which one learns at a time",
            config_class=LinearEachConfig,
            build=_build_each,
            presets={"paper": LinearEachConfig(), "tiny": LinearEachConfig()},
            search={"streams": zoo.Choice(values=("both", "audio", "vision"))},
            tasks=("classification",),
            passes=2,
            source="arXiv:2403.19638 section 3",
            license="MIT",
        ),
        zoo.HeadSpec(
            name="linear_slots",
            summary="one linear layer on the mean of the tokens of each slot of time",
            config_class=LinearSlotsConfig,
            build=_build_slots,
            presets={"paper": LinearSlotsConfig(), "tiny": LinearSlotsConfig()},
            search={
                "streams": zoo.Choice(values=("both", "audio", "vision")),
                "context": zoo.Choice(values=(0, 1, 2)),
            },
            tasks=("localization",),
            stage2={"tiny": {"lr": 3e-3, "weight_decay": 0.0}},
            is_default=True,
            source="arXiv:2212.05922 supplement, table A1",
            license="MIT",
        ),
    ]
