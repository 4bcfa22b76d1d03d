"""The clips that are trained on, and the rows of the table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.cli.app import run as zoo


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "clips"
    made = ["--clips", "40", "--seconds", "7.4", "--size", "48", "--seed", "5", "--workers", "1"]
    assert zoo(["data", "synth", str(out), *made, "--split", "train=0.7,valid=0.3"]) == 0
    return out / "manifest.parquet"


@pytest.fixture
def row(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """Cells of the table, printed at the end."""
    cells: list[str] = []
    started = time.monotonic()
    yield cells
    with capsys.disabled():
        sys.stderr.write(f"\n| {' | '.join(cells)} | {time.monotonic() - started:.0f} s |\n")
