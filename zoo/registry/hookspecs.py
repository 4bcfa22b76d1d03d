"""Everything a plugin can register, one hook per kind (see `zoo.registry.kinds`)."""

from __future__ import annotations

import pluggy

from zoo.contracts import (
    AggregatorSpec,
    CommandSpec,
    DatasetSpec,
    EncoderSpec,
    ExtractorSpec,
    FormatSpec,
    HeadSpec,
    ObjectiveSpec,
    PairSpec,
    TaskSpec,
)

GROUP = "zoo"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class Hooks:
    """Everything a plugin can register."""

    @hookspec
    def register_extractors(self) -> list[ExtractorSpec]:
        """Return extractors of one modality each."""

    @hookspec
    def register_encoders(self) -> list[EncoderSpec | PairSpec]:
        """Return encoders of both modalities: pairs of extractors, or encoders of their own."""

    @hookspec
    def register_aggregators(self) -> list[AggregatorSpec]:
        """Return what turns the positions of a time step into fewer tokens."""

    @hookspec
    def register_heads(self) -> list[HeadSpec]:
        """Return what turns tokens into the outputs of a task."""

    @hookspec
    def register_objectives(self) -> list[ObjectiveSpec]:
        """Return what encoders are pre-trained with (stage I)."""

    @hookspec
    def register_tasks(self) -> list[TaskSpec]:
        """Return what heads are trained for (stage II)."""

    @hookspec
    def register_datasets(self) -> list[DatasetSpec]:
        """Return what knows how a data set names, splits and labels its clips."""

    @hookspec
    def register_formats(self) -> list[FormatSpec]:
        """Return layouts in which others publish whole models."""

    @hookspec
    def register_commands(self) -> list[CommandSpec]:
        """Return verbs of the command line."""
