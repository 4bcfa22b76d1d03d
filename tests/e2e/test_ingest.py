"""Ray Data decodes on one machine while a worker trains on another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from machines import two_machines

from zoo.cli.app import run
from zoo.training.runlog import read_metrics, read_quarantine

# fmt: off
SETTINGS = {
    "stage1.steps": 4, "stage1.clips": 2, "stage1.log_every": 1, "stage1.valid_every": 4,
    "stage1.num_segments": 9, "stage2.steps": 6, "stage2.batch": 4, "stage2.valid_every": 6,
}
# fmt: on


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("features", ["store", "online"])
def test_clips_are_decoded_beside_the_machine_that_trains(tmp_path: Path, features: str) -> None:
    clips, out = tmp_path / "clips", tmp_path / "run"
    made = ["--clips", "8", "--seconds", "7.4", "--size", "48", "--seed", "5", "--workers", "1"]
    assert run(["data", "synth", str(clips), *made, "--split", "train=0.5,valid=0.5"]) == 0
    (clips / "clips" / "000001.mp4").write_text("not a clip")
    chosen = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    words = ["--extractor", "ast_motionformer", "--data", str(clips / "manifest.parquet")]
    words += ["--features", features, "--ingest", "ray", "--out", str(out)]
    with two_machines() as (address, _):
        words += ["--address", address, "--wait", "120"]
        done = subprocess.run(
            [sys.executable, "-m", "zoo.cli", "train", *words, *chosen],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: 1 clip" in " ".join(done.stdout.split())
    assert len(read_quarantine(out)) == 1
    assert [r["kind"] for r in read_metrics(out)][-1] == "done"
