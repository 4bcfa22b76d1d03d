"""What the tests of broken components share."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

import zoo
from zoo.registry.kinds import KINDS

Register = Callable[[str, object], None]


class Nothing(zoo.ComponentConfig):
    """Nothing to set."""


WORDS: dict[str, Any] = {
    "name": "defect",
    "summary": "s",
    "source": "s",
    "license": "MIT",
    "config_class": Nothing,
    "presets": {"paper": Nothing(), "tiny": Nothing()},
}
MORE: dict[str, dict[str, Any]] = {"heads": {"tasks": ("offset",)}}


def spec_of(kind: str, build: Callable[..., object], **changes: Any) -> Any:
    """Return a spec of a kind with nothing to set."""
    return KINDS[kind].specs[0](build=build, **WORDS, **(MORE.get(kind, {}) | changes))


class TimeHead(zoo.Head):
    """Forgets that there may be several tokens per time step."""

    def __init__(self, given: zoo.HeadInput) -> None:
        super().__init__()
        length = given.layout.num_segments * given.audio.steps
        self.linear = nn.Linear(length, given.num_outputs)

    def forward(self, audio: zoo.Tokens, vision: zoo.Tokens) -> Tensor:
        return self.linear(audio.flat.mean(2))


def sentence_of(check: Callable[[str], None]) -> str:
    """Return the one sentence with which the check of the component ``defect`` fails."""
    with pytest.raises(AssertionError) as caught:
        check("defect")
    (sentence,) = str(caught.value).splitlines()
    return sentence
