"""The task classification: which classes a clip shows, one or several."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

import zoo
from zoo.errors import TrainingError, option

if TYPE_CHECKING:
    from zoo.data.manifest import Clip


class ClassificationConfig(zoo.TaskConfig):
    """The classes, found in the labels of the training clips unless they are given."""

    classes: tuple[str, ...] = Field((), description="K names, in the order of the outputs")
    shares: tuple[float, ...] = Field(
        (), description="share of the training clips that has each class: what chance is"
    )
    multi_label: bool | None = Field(
        None, description="whether a clip may have several classes; None lets the clips decide"
    )

    loss: Literal["bce", "ce"] | None = Field(
        None,
        description="binary cross-entropy of every class by itself, or cross-entropy of all; None "
        "takes the former where a clip may have several classes",
    )
    over_classes: Literal["mean", "sum"] = Field(
        "mean",
        description="whether the binary cross-entropy of a clip is the mean over its classes or, "
        "as MBT has it, their sum",
    )
    averaged: Literal["probability", "sigmoid"] = Field(
        "probability",
        description="what is averaged over several frames of a clip: probabilities as the loss "
        "defines them, or sigmoids with either loss, as AVSiam does",
    )

    @model_validator(mode="after")
    def _one_share_per_class(self) -> "ClassificationConfig":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes holds a name twice")
        if self.shares and len(self.shares) != len(self.classes):
            raise ValueError(f"{len(self.shares)} shares for {len(self.classes)} classes")
        is_one = self.loss == "ce" or (self.loss is None and self.multi_label is False)
        if self.over_classes == "sum" and is_one:
            raise ValueError("over_classes=sum is for loss=bce, which asks each class by itself")
        return self


def _build(config: ClassificationConfig) -> "zoo.Task":
    from plugins.classification.task import Classification

    return Classification(config)


def _fit(config: ClassificationConfig, clips: "Sequence[Clip]") -> ClassificationConfig:
    """Find the classes, their shares, and whether clips have several."""
    labelled = [clip.all_labels for clip in clips if clip.all_labels]
    if not labelled:
        raise TrainingError(
            "the task 'classification' needs labels, and not one training clip of the manifest "
            "has any"
        )
    counts = Counter(name for names in labelled for name in set(names))
    classes = config.classes or tuple(sorted(counts))
    if len(classes) < 2:
        raise TrainingError(
            f"all training clips are of one class, '{classes[0]}': there is nothing to tell apart"
        )
    several = any(len(set(names)) > 1 for names in labelled)
    if several and config.multi_label is False:
        raise TrainingError(
            "task.multi_label=false, but some training clips have several labels; leave it out"
        )
    multi_label = several if config.multi_label is None else config.multi_label
    shares = tuple(round(counts[name] / len(labelled), 6) for name in classes)
    if config.over_classes == "sum" and config.loss is None and not multi_label:
        raise TrainingError(
            "task.over_classes=sum is for binary cross-entropy, and every training clip has one "
            f"label: add {option('set')} task.loss=bce, or leave it out"
        )
    found = {"classes": classes, "shares": shares, "multi_label": multi_label}
    return config.model_copy(update=found)


@zoo.hookimpl
def register_tasks() -> list[zoo.TaskSpec]:
    """Register ``classification``."""
    return [
        zoo.TaskSpec(
            name="classification",
            summary="which classes a clip shows: one, or several",
            config_class=ClassificationConfig,
            build=_build,
            fit=_fit,
            columns=("labels",),
            class_field="classes",
            presets={"paper": ClassificationConfig(), "tiny": ClassificationConfig()},
            scores=(
                zoo.Score(name="accuracy", title="accuracy"),
                zoo.Score(name="mean_average_precision", title="mAP"),
                zoo.Score(name="mean_auc", title="AUC"),
                zoo.Score(name="d_prime", title="d'", unit="number"),
                zoo.Score(
                    name="cross_entropy",
                    title="cross-entropy",
                    unit="number",
                    is_higher_better=False,
                ),
            ),
            rank=("mean_average_precision", "accuracy"),
            source="arXiv:2210.07839; arXiv:2212.05922",
            license="MIT",
        )
    ]
