"""``zoo tune`` for real: killed and resumed; ASHA and Optuna; a cluster that loses a machine."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from machines import kill_machine, two_machines

from zoo.cli.app import run

# fmt: off
SETTINGS = {
    "stage1.steps": 4, "stage1.clips": 2, "stage1.log_every": 1, "stage1.valid_every": 4,
    "stage1.checkpoint_every": 2, "stage1.num_segments": 9, "stage2.steps": 6, "stage2.batch": 8,
    "stage2.log_every": 1, "stage2.valid_every": 2, "stage2.checkpoint_every": 2,
}
# fmt: on
GENEROUS_S = 400
PLUGIN = Path(__file__).with_name("interruptible.py")
EVENT_RATE = Path(__file__).parents[1] / "event_rate.py"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "clips"
    made = ["--clips", "10", "--seconds", "7.4", "--size", "48", "--seed", "5", "--workers", "1"]
    assert run(["data", "synth", str(out), *made, "--split", "train=0.6,valid=0.4"]) == 0
    return out / "manifest.parquet"


def settings(**changes: object) -> list[str]:
    return [p for k, v in {**SETTINGS, **changes}.items() for p in ("--set", f"{k}={v}")]


def lengths(manifest: Path, out: Path, *more: str) -> list[str]:
    chosen = ["segment-length", "--extractor", "ast_motionformer", "--data", str(manifest)]
    layout = ["--lengths", "0.64", "--overlaps", "0,0.5", "--input-seconds", "4.8"]
    return [*chosen, *layout, *settings(), "--out", str(out), *more]


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, one thread for its arithmetic."""
    return subprocess.Popen(
        [sys.executable, "-m", "zoo.cli", "tune", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + GENEROUS_S
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "table.csv").read_text().splitlines()))


def at_work(out: Path) -> list[str]:
    """Return the trainings that still work in a folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if f"--out {out}/" in line]


@pytest.mark.slow
def test_a_killed_search_goes_on_and_repeats_nothing(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(*lengths(manifest, out, "--max-concurrent", "1"))
    wait_for(lambda: (out / "table.csv").exists() and len(rows_of(out)) == 1, first)
    before = rows_of(out)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=GENEROUS_S)
    encoder = next((out / "encoders").glob("*/*/model.safetensors"))
    trained = encoder.stat().st_mtime_ns
    until = time.monotonic() + GENEROUS_S
    while at_work(out) and time.monotonic() < until:  # they end by themselves
        time.sleep(0.2)
    assert not at_work(out)

    second = start("--out", str(out), "--resume")
    told = " ".join(second.communicate(timeout=GENEROUS_S)[0].split())
    assert second.returncode == 0, told
    assert "1 of them done already" in told
    assert "[2/2] length 0.64 s, overlap 0.5: accuracy" in told
    assert rows_of(out)[:1] == before
    assert len(rows_of(out)) == 2
    assert encoder.stat().st_mtime_ns == trained
    assert len(list((out / "encoders").glob("*/*/features"))) == 1
    assert not list((out / "trials").glob("*/*/run/features"))  # those of stage I were read
    for name in ("table.md", "table.json", "table.png", "study.db", "best/model.json"):
        assert (out / name).exists(), name
    assert not (out / "ray").exists()


@pytest.mark.slow
def test_the_command_of_the_best_trains_the_same_model(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    own = ["--plugin", str(PLUGIN)]  # reaches the trials, and belongs to the command
    more = ["--max-concurrent", "1", "--head", "interruptible"]
    assert run([*own, "tune", *lengths(manifest, out, *more)]) == 0
    words = shlex.split((out / "best" / "command.txt").read_text())
    assert words[1:3] == own
    alone = tmp_path / "alone"
    assert run([*words[1:-1], str(alone)]) == 0
    found, again = (
        json.loads((folder / "model.json").read_text())["scores"]
        for folder in (out / "best", alone)
    )
    assert again == found
    assert run(["evaluate", str(out / "best"), "--data", str(manifest), "--split", "valid"]) == 0
    capsys.readouterr()


@pytest.mark.slow
def test_interrupting_a_search_leaves_nothing_at_work(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    many = settings(**{"stage1.steps": 4000, "stage1.valid_every": 4000})
    process = start(*lengths(manifest, out, *many))
    wait_for(lambda: any((out / "encoders").glob("*/*/metrics.jsonl")), process)
    process.send_signal(signal.SIGINT)
    told = " ".join(process.communicate(timeout=GENEROUS_S)[0].split())
    assert process.returncode == 130, told
    assert f"go on with: zoo tune --out {out} --resume" in told
    assert not at_work(out)


@pytest.mark.slow
def test_optuna_proposes_asha_stops_and_failures_are_kept(manifest: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "base: {extractor: ast_motionformer, head: correlation}\n"
        "space:\n"
        "  stage2.lr: {low: 1e-5, high: 1e-2, log: true}\n"
        "  layout.step_s: [0.32, 0.16, 0.3]\n"  # 0.3 s is no whole number of frames
    )
    out, chosen = tmp_path / "out", settings(**{"stage2.steps": 20})
    given = ["--search", "optuna", "--trials", "6", "--scheduler", "asha", *chosen]
    process = start(str(space), "--data", str(manifest), "--out", str(out), *given)
    told = " ".join(process.communicate(timeout=2 * GENEROUS_S)[0].split())
    assert process.returncode == 2, told  # the corners of the space are tried on paper first
    assert "layout.step_s 0.3: " in told
    space.write_text(space.read_text().replace(", 0.3]", "]"))
    process = start(str(space), "--data", str(manifest), "--out", str(out), *given)
    told = " ".join(process.communicate(timeout=2 * GENEROUS_S)[0].split())
    assert process.returncode == 0, told
    states = [row["status"] for row in rows_of(out)]
    assert set(states) == {"done", "stopped"}  # the better half of those that came so far goes on
    study = optuna.load_study(study_name="zoo-tune", storage=f"sqlite:///{out / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
    assert len(states) == len({str(trial.params) for trial in study.trials})
    assert len(list((out / "encoders").glob("*/*/model.json"))) == 1  # all share one stage I
    assert json.loads((out / "table.json").read_text())["best"] is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_point_that_diverges_is_marked_as_failed(manifest: Path, tmp_path: Path) -> None:
    space, out = tmp_path / "space.yaml", tmp_path / "out"
    space.write_text(
        "base: {extractor: ast_motionformer, head: correlation}\n"
        "space: {stage2.lr: [1.0e-3, 1.0e+30]}\n"
    )
    given = ["--data", str(manifest), "--out", str(out), "--max-concurrent", "1"]
    process = start(str(space), *given, *settings())
    told = " ".join(process.communicate(timeout=2 * GENEROUS_S)[0].split())
    assert process.returncode == 1, told
    assert [row["status"] for row in rows_of(out)] == ["done", "failed"]
    assert "stage 2: training diverged at step " in told
    assert (out / "best" / "model.json").exists()


@pytest.fixture
def cluster() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Ray cluster of two machines on this one; its address, and the second machine."""
    with two_machines() as machines:
        yield machines


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_ends_the_search(
    manifest: Path, tmp_path: Path, cluster: tuple[str, subprocess.Popen[bytes]]
) -> None:
    address, other = cluster
    out = tmp_path / "out"
    words = lengths(manifest, out, "--address", address)
    words[words.index("0.64")] = "0.32,0.64"
    process = start(*words)
    wait_for(lambda: len(list((out / "encoders").glob("*/*/metrics.jsonl"))) == 2, process)
    kill_machine(other)
    told = " ".join(process.communicate(timeout=3 * GENEROUS_S)[0].split())
    assert process.returncode == 0, told
    assert len(rows_of(out)) == 4
    assert {row["status"] for row in rows_of(out)} == {"done"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("base", ["synchronizability", "event_rate"])
def test_any_task_can_be_searched(
    base: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space, out = tmp_path / "space.yaml", tmp_path / "out"
    space.write_text("space: {stage2.lr: [1.0e-4, 1.0e-3]}\n")
    chosen = {
        "synchronizability": ["--extractor", "ast_motionformer", "--head", "correlation_trust"],
        "event_rate": ["--extractor", "joint"],
    }[base]
    given = [*chosen, "--task", base, *settings(**{"layout.num_segments": 4})]
    words = ["tune", str(space), "--data", str(manifest), "--out", str(out), "--json", *given]
    assert run(["--plugin", str(EVENT_RATE), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    score = {"synchronizability": "accuracy", "event_rate": "squared_error"}[base]
    assert found["search"]["metric"] == score
    means = [row["mean"][score] for row in found["rows"]]
    assert None not in means
    best = max(means) if score == "accuracy" else min(means)
    chosen_row = next(row for row in found["rows"] if row["params"] == found["best"])
    assert chosen_row["mean"][score] == best
    assert (out / "best" / "model.json").exists()
