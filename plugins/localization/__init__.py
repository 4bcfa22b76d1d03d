"""The task localization: which event happens in which second of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

import zoo
from zoo.errors import TrainingError
from zoo.timeline import SlotGrid

if TYPE_CHECKING:
    from zoo.data.manifest import Clip

BACKGROUND = "background"


class LocalizationConfig(zoo.TaskConfig):
    """The classes of events and the slots; what is left out follows from the clips and layout."""

    classes: tuple[str, ...] = Field(
        (), description="names of the events in the order of the outputs; background comes last"
    )
    shares: tuple[float, ...] = Field(
        (), description="share of the slots of the training clips with each label: what chance is"
    )
    slot_s: float = Field(1.0, gt=0, description="length of a slot, seconds")
    num_slots: int = Field(
        0, ge=0, description="slots of a crop; 0 takes those of which half or more lies in a crop"
    )

    @model_validator(mode="after")
    def _one_share_per_label(self) -> LocalizationConfig:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"classes holds a name twice, or '{BACKGROUND}', which is added")
        if self.shares and len(self.shares) != len(self.labels):
            raise ValueError(f"{len(self.shares)} shares for {len(self.labels)} labels")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """K names: the events, and the background."""
        return (*self.classes, BACKGROUND)


def _build(config: LocalizationConfig) -> zoo.Task:
    from plugins.localization.task import Localization

    return Localization(config)


def _fit_layout(config: LocalizationConfig, layout: zoo.SegmentLayout) -> LocalizationConfig:
    """Count the slots of a crop."""
    if config.num_slots:
        return config
    slots = SlotGrid.within(layout.covered_s, config.slot_s)
    return config.model_copy(update={"num_slots": slots.num_slots})


def _fit(config: LocalizationConfig, clips: Sequence[Clip]) -> LocalizationConfig:
    """Find the classes, and the share of each label."""
    from plugins.localization.slots import label_shares

    known = [clip for clip in clips if clip.events is not None]
    found = {event.label for clip in known for event in clip.events or ()} - {BACKGROUND}
    classes = config.classes or tuple(sorted(found))
    if not classes:
        raise TrainingError(
            "the task 'localization' needs events, and not one training clip of the manifest has "
            "any"
        )
    told = config.model_copy(update={"classes": classes})
    shares = label_shares(known, told.labels, config.slot_s)
    return told.model_copy(update={"shares": shares})


@zoo.hookimpl
def register_tasks() -> list[zoo.TaskSpec]:
    """Register ``localization``."""
    return [
        zoo.TaskSpec(
            name="localization",
            summary="which event happens in which second of a clip",
            config_class=LocalizationConfig,
            build=_build,
            fit=_fit,
            fit_layout=_fit_layout,
            columns=("events",),
            class_field="classes",
            presets={"paper": LocalizationConfig(), "tiny": LocalizationConfig()},
            scores=(
                zoo.Score(name="accuracy", title="accuracy"),
                zoo.Score(name="event_accuracy", title="of event slots"),
                zoo.Score(name="mean_f1", title="mean F1"),
                zoo.Score(
                    name="cross_entropy",
                    title="cross-entropy",
                    unit="number",
                    is_higher_better=False,
                ),
            ),
            rank=("accuracy", "mean_f1"),
            source="arXiv:1803.08842; arXiv:2212.05922 supplement, table A1",
            license="MIT",
        )
    ]
