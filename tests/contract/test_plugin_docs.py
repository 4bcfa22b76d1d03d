"""The examples of docs/plugins.md keep the promises that the page makes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

import zoo
from zoo import testing

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
Register = Callable[[str, object], None]


def block(beginning: str) -> str:
    """Return the one example of the page that begins so."""
    (found,) = [text for text in BLOCKS if text.startswith(beginning)]
    return found


def test_the_joint_encoder_of_the_page(register: Register) -> None:
    names: dict[str, Any] = {"zoo": zoo, "Field": Field, "nn": nn, "torch": torch}
    exec(block("class JointConfig"), names)
    config = names["JointConfig"]()
    spec = zoo.EncoderSpec(
        name="defect",
        summary="s",
        config_class=names["JointConfig"],
        build=names["Joint"],
        presets={"paper": config, "tiny": config},
        end_to_end=True,
        head="avst",
        source="s",
        license="MIT",
    )
    register("encoders", spec)
    testing.check_encoder("defect")


class TempoConfig(zoo.TaskConfig):
    """What the page leaves to the reader."""

    variance: float = Field(1.0, description="of the training clips")


class MeanHead(zoo.Head):
    """A head for the task of the page."""

    def __init__(self, config: zoo.ComponentConfig, given: zoo.HeadInput) -> None:
        super().__init__()
        self.linear = nn.Linear(given.audio.dim, given.num_outputs)

    def forward(self, audio: zoo.Tokens, vision: zoo.Tokens) -> Tensor:
        """Return (B, 1)."""
        return self.linear(audio.flat.mean(1))


def test_the_task_of_the_page(register: Register) -> None:
    names: dict[str, Any] = {"zoo": zoo, "TempoConfig": TempoConfig}
    exec(block("class Tempo"), names)
    names["build"], names["fit"] = names["Tempo"], lambda config, clips: config
    spec = eval(block("zoo.TaskSpec("), names)
    head = zoo.HeadSpec(
        name="defect",
        summary="s",
        config_class=zoo.ComponentConfig,
        build=MeanHead,
        tasks=("tempo",),
        presets={"paper": zoo.ComponentConfig(), "tiny": zoo.ComponentConfig()},
        source="s",
        license="MIT",
    )
    register("tasks", spec)
    register("heads", head)
    testing.check_task("tempo")
