"""The task synchronizability: whether audio and video of a clip belong together at all."""

from pydantic import Field

import zoo


class SynchronizabilityConfig(zoo.TaskConfig):
    """The offsets at which a clip counts as one that can be synchronized."""

    grid: zoo.OffsetGrid = Field(zoo.OffsetGrid(), description="offsets of such clips")


def _build(config: SynchronizabilityConfig) -> "zoo.Task":
    from plugins.synchronizability.task import Synchronizability

    return Synchronizability(config)


@zoo.hookimpl
def register_tasks() -> list[zoo.TaskSpec]:
    """Register ``synchronizability``."""
    return [
        zoo.TaskSpec(
            name="synchronizability",
            summary="whether there is an offset to find: (no, yes)",
            config_class=SynchronizabilityConfig,
            build=_build,
            presets={"paper": SynchronizabilityConfig(), "tiny": SynchronizabilityConfig()},
            scores=(
                zoo.Score(name="accuracy", title="accuracy"),
                zoo.Score(
                    name="cross_entropy",
                    title="cross-entropy",
                    unit="number",
                    is_higher_better=False,
                ),
            ),
            rank=("accuracy", "cross_entropy"),
            fine_tunes=True,
            source="arXiv:2401.16423 section 4.2",
            license="MIT",
        )
    ]
