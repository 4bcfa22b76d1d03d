"""Every defect of a task is one sentence that names it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from defects import WORDS, Register, TimeHead, sentence_of, spec_of
from torch import Tensor

import zoo
from zoo import testing


class Number(zoo.TaskConfig):
    """Nothing to set."""


class Regression(zoo.Task):
    """The number that is the label of a clip; ``defect`` breaks it."""

    num_sums = 3
    loss_name = "squared_error"

    def __init__(self, defect: str = "") -> None:
        self.defect = defect

    @property
    def num_outputs(self) -> int:
        return 1

    def need(self, layout: zoo.SegmentLayout, hop_s: float) -> zoo.Need:
        return zoo.Need(1.0 if self.defect == "short" else layout.covered_s, "nothing else")

    def accepts(self, clip: Any) -> bool:
        return self.defect == "any" or clip.label is not None

    def sample(
        self, rng: np.random.Generator, index: int, clip: Any, duration_s: float, place: Any
    ) -> zoo.Sample:
        if self.defect == "rng":
            rng = np.random.default_rng()
        if self.defect == "long":
            return zoo.Sample(index, 0.0, 0.0, -20.0)
        if self.defect == "beyond":
            return zoo.Sample(index, 0.0, duration_s, -20.0)
        target = float(clip.labels[0] if self.defect == "column" else clip.label)
        return zoo.place_crops(rng, index, duration_s, place, 0.0, target + rng.normal())

    def loss(self, outputs: Tensor, targets: Tensor, sigma: float) -> Tensor:
        loss = (outputs[:, 0] - targets).square()
        return loss.mean() if self.defect != "loss" else loss.detach().mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> list[float]:
        error = outputs[:, 0] - targets
        parts = [float(error.abs().sum()), float(error.square().sum())]
        if self.defect == "mean":
            parts[0] /= len(targets)
        return [*parts, 1.0 if self.defect == "num" else float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        num = max(1.0, sums[2])
        scores = {"error": sums[0] / num, "squared_error": sums[1] / num, "num": int(sums[2])}
        if self.defect == "scores":
            del scores["error"]
        return scores

    @property
    def chance(self) -> dict[str, float]:
        chance = {"error": 1.0, "squared_error": 1.0}
        return {"error": 1.0} if self.defect == "chance" else chance

    def values(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        error = (outputs[:, 0] - targets).abs().numpy()
        return {"error": error**2 if self.defect == "values" else error}


TASKS = {
    "short": "needs clips of 1 s, shorter than a crop (1.6 s)",
    "any": "accepts, for a clip without label: says yes",
    "rng": "differs from run to run with the same rng",
    "long": "which is shorter than a crop: gives a sample; raise a ConfigError",
    "beyond": "the audio crop ends at 3.2 s, after the clip (1.6 s)",
    "column": "sample from a clip of 1.6 s, which is as long as it needs fails: TypeError",
    "loss": "loss with sigma 0: does not depend on the outputs",
    "mean": "sums of two parts of a batch do not add up to those of the whole",
    "num": "the last sum of 12 samples is 1, their number",
    "scores": "scores lacks 'error'; it gives ['num', 'squared_error']",
    "chance": "chance: lacks 'squared_error'",
    "values": "the mean of 'error' is",
}


def task_spec(defect: str = "", **changes: Any) -> zoo.TaskSpec:
    words = WORDS | {"presets": {"paper": Number(), "tiny": Number()}, "config_class": Number}
    error = zoo.Score(name="error", title="error", unit="number", is_higher_better=False)
    given = {"scores": (error,), "rank": ("error",), "columns": ("label",), **changes}
    return zoo.TaskSpec(build=lambda config: Regression(defect), **words, **given)


def register_task(register: Register, spec: zoo.TaskSpec) -> None:
    register("tasks", spec)
    register("heads", spec_of("heads", lambda config, given: TimeHead(given), tasks=("defect",)))


def test_a_regression_passes(register: Register) -> None:
    register_task(register, task_spec())
    testing.check_task("defect")


@pytest.mark.parametrize("defect", TASKS)
def test_a_broken_task_is_one_sentence(register: Register, defect: str) -> None:
    register_task(register, task_spec(defect))
    sentence = sentence_of(testing.check_task)
    assert sentence.startswith("task 'defect': ")
    assert TASKS[defect] in sentence, sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": ("accuracy",)}, "ranks by 'accuracy', which is none of its scores: ['error']"),
        ({"class_field": "names"}, "wants classes in 'names', which its config lacks"),
        ({"columns": ("loudness",)}, "asks for the column 'loudness'; a manifest has channels, d"),
        ({"scores": ()}, "has no scores; say in its spec what a validation gives"),
    ],
)
def test_a_spec_of_a_task_that_says_something_wrong_is_one_sentence(
    register: Register, changes: dict[str, Any], words: str
) -> None:
    register_task(register, task_spec(**changes))
    assert words in sentence_of(testing.check_task)


def test_a_task_without_a_head_says_what_is_missing(register: Register) -> None:
    register("tasks", task_spec())
    words = "no head gives its outputs; register one with tasks=('defect',)"
    assert words in sentence_of(testing.check_task)
