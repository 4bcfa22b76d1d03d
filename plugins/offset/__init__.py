"""The task offset: by how much the audio of a clip is early or late."""

from pydantic import Field

import zoo


class OffsetConfig(zoo.TaskConfig):
    """The classes that the offset is chosen from."""

    grid: zoo.OffsetGrid = Field(zoo.OffsetGrid(), description="offset classes")


def _build(config: OffsetConfig) -> "zoo.Task":
    from plugins.offset.task import Offset

    return Offset(config)


@zoo.hookimpl
def register_tasks() -> list[zoo.TaskSpec]:
    """Register ``offset``."""
    return [
        zoo.TaskSpec(
            name="offset",
            summary="by how many seconds the audio is early: one of K offset classes",
            config_class=OffsetConfig,
            build=_build,
            presets={"paper": OffsetConfig(), "tiny": OffsetConfig()},
            scores=(
                zoo.Score(name="accuracy", title="accuracy"),
                zoo.Score(name="within_one", title="within 1 class"),
                zoo.Score(
                    name="mean_abs_error_s",
                    title="mean error",
                    unit="seconds",
                    is_higher_better=False,
                ),
            ),
            rank=("within_one", "accuracy"),
            is_default=True,
            source="arXiv:2401.16423 section 3.3",
            license="MIT",
        )
    ]
