import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from zoo.models.config import Component
from zoo.models.model import Model, build_objective
from zoo.models.modules import Objective
from zoo.registry.manager import registry

Build = Callable[..., Objective]


@pytest.fixture(scope="module")
def build(model: Model) -> Build:
    def build(**config: float) -> Objective:
        return build_objective(Component(name="segment_avclip", config=config), model.encoder)

    return build


def alone(tensor: Tensor) -> Tensor:
    return tensor


def units(num: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(num, 64, generator=generator), dim=1)


@pytest.mark.parametrize(("segments", "chance"), [(4, 1 / 3), (8, 1 / 5), (14, 1 / 7)])
def test_few_segments_leave_windows_to_confuse(segments: int, chance: float) -> None:
    spec = registry().objective("segment_avclip")
    assert spec.chance(spec.presets["tiny"], 2, segments).scores["precision"] == chance


def test_a_perfect_match_has_a_low_loss_and_full_accuracy(build: Build) -> None:
    scalars = build().contrast(units(28), units(28), alone)
    assert scalars["loss"].item() < 0.05
    assert float(scalars["segment_accuracy"]) == 1.0


def test_strangers_are_near_chance(build: Build) -> None:
    scalars = build(temperature=0.5).contrast(units(28), units(28, seed=1), alone)
    assert scalars["loss"].item() == pytest.approx(math.log(28), abs=0.3)
    assert float(scalars["segment_accuracy"]) < 0.3


def test_both_directions_count_alike(build: Build) -> None:
    audio, vision = units(12), units(12, seed=1)
    forth, back = (
        build().contrast(*pair, alone)["loss"] for pair in ((audio, vision), (vision, audio))
    )
    assert forth.item() == pytest.approx(back.item(), rel=1e-6)


def test_the_temperature_is_trained_and_clamped(build: Build) -> None:
    objective = build()
    assert objective.temperature.item() == pytest.approx(0.07)
    for value, clamped in ((2.0, 0.5), (-1.0, 0.001)):
        with torch.no_grad():
            objective.temperature.fill_(value)
        loss = objective.contrast(units(4), units(4, seed=1), alone)["loss"]
        assert objective.temperature.item() == pytest.approx(clamped)
    loss.backward()
    assert objective.temperature.grad is not None
