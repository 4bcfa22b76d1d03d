"""The kinds of things a plugin registers: the one table that everything else goes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Kind:
    """What is known about a kind of component without loading one.

    Attributes:
        name: plural: what `Registry` keeps it under and what ``zoo list`` calls it.
        noun: singular, for sentences.
        specs: classes of which its hook returns a list.
        given: what ``build`` takes; empty where the spec has no ``build``.
    """

    name: str
    noun: str
    specs: tuple[type, ...]
    given: tuple[str, ...] = ()

    @property
    def hook(self) -> str:
        """The function with which a plugin registers it."""
        return f"register_{self.name}"

    @property
    def check(self) -> str:
        """The function of `zoo.testing` that checks one of them."""
        return f"check_{self.noun}"

    @property
    def wanted(self) -> str:
        """What its hook must do."""
        return f"return a list of {' or '.join(f'zoo.{spec.__name__}' for spec in self.specs)}"

    @staticmethod
    def key(spec: Any) -> str:
        """Return the name under which a spec is found; a command's has its group in front."""
        return f"{spec.group} {spec.name}".strip() if isinstance(spec, CommandSpec) else spec.name


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("extractors", "extractor", (ExtractorSpec,), ("config",)),
        Kind("encoders", "encoder", (EncoderSpec, PairSpec), ("config",)),
        Kind("aggregators", "aggregator", (AggregatorSpec,), ("config", "feature_map")),
        Kind("heads", "head", (HeadSpec,), ("config", "head_input")),
        Kind("objectives", "objective", (ObjectiveSpec,), ("config", "encoder")),
        Kind("tasks", "task", (TaskSpec,), ("config",)),
        Kind("datasets", "dataset", (DatasetSpec,), ("config",)),
        Kind("formats", "format", (FormatSpec,)),
        Kind("commands", "command", (CommandSpec,)),
    )
}
