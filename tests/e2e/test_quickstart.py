"""The first command of the README, in small."""

import json
from pathlib import Path

import pytest

from zoo.cli.app import run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quickstart_goes_all_the_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = ("stage1.steps=20", "stage2.steps=20")
    settings = [part for setting in few for part in ("--set", setting)]
    command = ["quickstart", "--out", str(tmp_path), "--clips", "40", "--rounds", "2"]
    assert run([*command, *settings]) == 0
    for head in ("correlation", "sync"):
        report = json.loads((tmp_path / head / "report.json").read_text())
        assert len(report["controls"]) == 3, head
    printed = capfd.readouterr().out
    assert "Held-out clips:" in printed
    assert "sliding check (no head)" in printed
    assert "rule without learning" in printed
    assert printed.count("offset ") >= 2  # both heads are asked about the broken clip
