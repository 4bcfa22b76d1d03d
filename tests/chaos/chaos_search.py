"""``make chaos``: a search that loses a process ends as if it had not."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from machinery import NAMES, SIGNALS, Struck, finish, search_words, weights_of

SEED = int(os.environ.get("ZOO_CHAOS_SEED", "0"))
pytestmark = pytest.mark.timeout(3600)
CASES = [
    (phase, who, how)
    for phase in ("stage I", "stage II")
    for who, how in (("worker", "kill"), ("driver", "kill"), ("raylet", "kill"))
]
LOGS = {"stage I": "encoders/*/*/metrics.jsonl", "stage II": "trials/*/*/run/metrics.jsonl"}


@pytest.fixture(scope="module")
def whole(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted search."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(search_words(manifest, folder / "search"), folder / "log") == 0
    return folder / "search"


def scores_of(search: Path) -> list[dict[str, str]]:
    """Return the table without what it cost."""
    with (search / "table.csv").open() as table:
        rows = list(csv.DictReader(table))
    return [{k: v for k, v in row.items() if not k.endswith(("_wall_s", "_cpu_s"))} for row in rows]


@pytest.mark.parametrize(("phase", "who", "how"), CASES, ids=map("-".join, CASES))
def test_a_search_loses_nothing(
    phase: str, who: str, how: str, manifest: Path, whole: Path, tmp_path: Path, row: list[str]
) -> None:
    out = tmp_path / "search"
    struck = Struck(search_words(manifest, out), out, tmp_path / "log")
    seed = SEED + CASES.index((phase, who, how))
    code = struck.strike(lambda: any(out.glob(LOGS[phase])), NAMES[who], SIGNALS[how], seed)
    row += [f"search, {phase}", f"{how} {who}", f"exit code {code}"]
    if who == "raylet":
        assert code == 2, struck.log.read_text()
        assert "Ray's process 'raylet' on this machine ended" in struck.log.read_text()
    for _ in range(3):
        if code == 0:
            break
        code = struck.resume()
    assert code == 0, struck.log.read_text()
    assert scores_of(out) == scores_of(whole)
    assert weights_of(out / "best") == weights_of(whole / "best")
    assert struck.leftovers() == []
    row += ["same scores and best model, nothing left"]
