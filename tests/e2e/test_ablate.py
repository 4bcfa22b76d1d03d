"""``zoo ablate`` for real: interrupted, killed, resumed; and the tables that come with the code."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from zoo.cli.app import run

EVENT_RATE = Path(__file__).parents[1] / "event_rate.py"
TABLES = sorted((Path(__file__).parents[2] / "ablations").glob("*.yaml"))
# fmt: off
SETTINGS = {
    "stage1.steps": 4, "stage1.clips": 2, "stage1.num_segments": 9, "stage1.log_every": 1,
    "stage1.valid_every": 4, "stage1.checkpoint_every": 2, "stage2.steps": 4, "stage2.batch": 8,
    "stage2.log_every": 1, "stage2.valid_every": 4, "stage2.checkpoint_every": 2,
}
# fmt: on
TABLE = {
    "title": "Two heads",
    "seeds": [1, 2],
    "data": {
        "few": {
            "manifest": "clips/manifest.parquet",
            "make": "data synth clips --clips 10 --seconds 7.4 --size 48 --seed 5 --workers 1 "
            "--split train=0.6,valid=0.2,test=0.2",
        }
    },
    "base": {"extractor": "ast_motionformer", "set": SETTINGS},
    "evaluate": {"rounds": 2},
    "variants": {
        "correlation": {"head": "correlation"},
        "sync": {"head": "sync", "encoder": "correlation"},
    },
}
GENEROUS_S = 300


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_table_that_comes_with_the_code_can_be_trained(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ablate", str(table), "--out", str(tmp_path / "out"), "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len({row["folder"] for row in rows}) == len(rows) > 1


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, one thread for its arithmetic."""
    return subprocess.Popen(
        [sys.executable, "-m", "zoo.cli", "ablate", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def break_off(process: subprocess.Popen[str], run_folder: Path, number: int) -> str:
    """Send a signal as soon as a run has logged its first step; return what was printed."""
    until = time.monotonic() + GENEROUS_S
    while not (run_folder / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(number)
    return " ".join(process.communicate(timeout=GENEROUS_S)[0].split())


def children(out: Path) -> list[str]:
    """Return the processes that still work on runs of a folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if f"--out {out}/runs" in line]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_interrupted_table_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Ctrl-C in the first job, then the driver is killed in the second."""
    path, out = tmp_path / "table.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(TABLE))
    first = out / "runs/few/correlation/seed-1"
    process = start(str(path), "--out", str(out))
    text = break_off(process, first / "run", signal.SIGINT)
    assert process.returncode == 130, text
    assert f"go on with: zoo ablate --out {out} --resume" in text
    assert not children(out)
    assert "| correlation | .. | .. | 4 + 4 |" in (out / "table.md").read_text()

    process = start("--out", str(out), "--resume")
    break_off(process, out / "runs/few/sync/seed-1/run", signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    finished = (first / "result.json").read_bytes()

    process = start("--out", str(out), "--resume")
    text = " ".join(process.communicate(timeout=3 * GENEROUS_S)[0].split())
    assert process.returncode == 0, text
    assert "4 jobs, 1 of them done already" in text
    assert (first / "result.json").read_bytes() == finished
    assert not children(out)
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert [row["status"] for row in rows] == ["done"] * 4
    assert {row["stage1_steps"] for row in rows} == {"0", "4"}
    shared = [row for row in rows if row["variant"] == "sync"]
    assert all(float(row["encoder_wall_s"]) > 0 for row in shared)
    assert (out / "table.png").stat().st_size > 10_000
    assert not list(out.glob("runs/few/*/*/run/features"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_variant_that_diverges_is_marked_as_failed(tmp_path: Path) -> None:
    path, out = tmp_path / "table.yaml", tmp_path / "out"
    wild = {"head": "correlation", "encoder": "correlation", "set": {"stage2.lr": 1e30}}
    variants = {**TABLE["variants"], "wild": wild}
    path.write_text(yaml.safe_dump({**TABLE, "seeds": [1], "variants": variants}))
    process = start(str(path), "--out", str(out))
    told = " ".join(process.communicate(timeout=3 * GENEROUS_S)[0].split())
    assert process.returncode == 1, told
    rows = {row["variant"]: row for row in csv.DictReader((out / "table.csv").open())}
    states = {name: row["status"] for name, row in rows.items()}
    assert states == {"correlation": "done", "sync": "done", "wild": "failed"}
    assert "stage 2: training diverged at step " in told
    assert "lower lr (now 1e+30)" in told


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_table_answers_different_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Offsets, synchronizability from that model, and a regression that a plugin brings."""
    rate = {"extractor": "joint", "task": "event_rate", "set": {"stage2.valid_every": 2}}
    variants = {
        "offset": {"head": "correlation"},
        "whether": {"encoder": "offset", "task": "synchronizability"},
        "how often": rate,
    }
    settings = {**SETTINGS, "layout.num_segments": 4}
    data = {"few": {**TABLE["data"]["few"]}}  # type: ignore[index]
    base = {**TABLE["base"], "set": settings}  # type: ignore[dict-item]
    table = {**TABLE, "seeds": [1], "data": data, "base": base, "variants": variants}
    path, out = tmp_path / "table.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(table))
    assert run(["--plugin", str(EVENT_RATE), "ablate", str(path), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["variants"]
    means = {name: row["data"]["few"]["mean"] for name, row in found.items()}
    assert set(means["offset"]) == {"accuracy", "within_one", "mean_abs_error_s"}
    assert 0 <= means["whether"]["accuracy"] <= 1
    assert means["how often"]["squared_error"] > 0
    assert "few: squared error" in (out / "table.md").read_text()
    assert (out / "table.png").exists()
