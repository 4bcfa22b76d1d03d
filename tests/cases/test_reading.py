"""A few of the hard files in the default suite; ``make cases`` has all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.events import find_events
from tests.cases.expected import RULES, rule_for
from tests.cases.generated import GENERATOR
from tests.cases.reading import answers, make_both, table

FEW = "a1,b7"


def test_a_few_hard_files_are_read_and_measured_right(tmp_path: Path) -> None:
    if not GENERATOR.exists():
        pytest.skip("needs the generator of hard files beside the checkout")
    flashes, base = make_both(tmp_path, only=FEW)
    found = list(answers(flashes, base, tmp_path / "scratch"))
    assert {answer.name: answer.faults for answer in found if answer.faults} == {}
    assert {answer.name for answer in found} >= {"a1_wrap.ts", "b7_freeze.mkv"}
    assert any("`b7_freeze.mp4`, `b7_freeze.mkv`" in row for row in table(found))
    wrong = flashes.truth["twin.mp4"] | {"clicks": [0.5], "offset_s": 1.0}
    flashes.truth["twin.mp4"] = base.truth["twin.mp4"] = wrong
    faults = next(answers(flashes, base, tmp_path / "scratch")).faults
    assert "clicks: 0.50 lost" in faults[0]
    assert "+1.00 s is right" in faults[-1]
    assert find_events(flashes.folder / "a1_wrap.ts").is_upright


def test_every_rule_can_be_reached() -> None:
    for rule in RULES:
        name = rule.files.replace("[st]", "s").replace("?", "0").replace("*", "x")
        assert rule_for(name) == rule
