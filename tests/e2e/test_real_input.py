"""Real clips and real sizes: what only film and only the published model can show."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestration.cluster import connected
from zoo.catalog.model_folder import load_model
from zoo.cli.app import run
from zoo.models.model import count_parameters
from zoo.training.resources import Resources
from zoo.training.runlog import read_metrics

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
needs_clips = pytest.mark.skipif(not CLIPS.exists(), reason="../shared/clips is not here")


@pytest.fixture
def real_manifest(tmp_path: Path) -> Path:
    out = tmp_path / "real.parquet"
    assert run(["data", "prepare", "folder", "--videos", str(CLIPS), "-o", str(out)]) == 0
    return out


@needs_clips
def test_shipped_model_predicts_real_clips_sanely(capsys: pytest.CaptureFixture[str]) -> None:
    clips = sorted(str(path) for path in CLIPS.rglob("*.mp4"))
    assert run(["predict", "tiny-synthetic", *clips, "--json"]) == 0
    predictions = json.loads(capsys.readouterr().out)
    assert [Path(p["path"]).name for p in predictions] == [Path(c).name for c in clips]
    for prediction in predictions:
        total = sum(entry["probability"] for entry in prediction["distribution"])
        assert total == pytest.approx(1, abs=1e-3)
        assert abs(prediction["offset_s"]) <= 2
        assert 0 < prediction["probability"] <= 1
        assert prediction["windows"]


@needs_clips
def test_real_clips_go_through_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped models know no real film, so that this is about files, not about offsets."""
    clips = sorted(str(path) for path in CLIPS.rglob("*.mp4"))
    before = [Path(clip).read_bytes() for clip in clips]

    def answer_of(*words: str) -> Any:
        assert run([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert answer_of("predict", "tiny-synthetic", *clips, "--csv", str(tmp_path / "t.csv")) == {
        "csv": str(tmp_path / "t.csv"),
        "clips": 3,
        "predicted": 3,
        "failed": 0,
        "there": 0,
    }
    extracted = answer_of("features", "tiny-synthetic", *clips, "-o", str(tmp_path / "features"))
    assert extracted["clips"] == 3
    scored = answer_of("desync", "tiny-synthetic", "--videos", str(CLIPS))
    assert scored["clips"] == 3
    for i, clip in enumerate(clips):
        shifted, fixed, picture = (tmp_path / f"{i}{end}" for end in ("s.mp4", "f.mp4", ".png"))
        assert answer_of("data", "shift", clip, "--delay", "0.3", "-o", str(shifted))
        repaired = answer_of("fix", "tiny-synthetic", str(shifted), "-o", str(fixed), "--force")
        assert repaired["delay_s"] == repaired["offset_s"]
        found = answer_of("attribute", "tiny-synthetic", clip, "--masks", "50", "-o", str(picture))
        assert len(found["vision"]["recorded"]) == 48
        assert picture.stat().st_size > 10_000
    assert [Path(clip).read_bytes() for clip in clips] == before


@needs_clips
def test_real_clips_are_usable_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(CLIPS), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["num_usable"] == answer["num_clips"] == 3


@needs_clips
@pytest.mark.usefixtures("in_process")
def test_overfitting_three_real_clips_drives_the_loss_far_below_chance(
    real_manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = ["stage1.steps=10", "stage2.steps=200", "stage2.valid_every=100"]
    chosen = [part for setting in settings for part in ("--set", setting)]
    command = ["train", "--extractor", "ast_motionformer", "--data", str(real_manifest)]
    assert run([*command, "--out", str(out), "--overfit", "3", *chosen]) == 0
    losses = [r["loss"] for r in read_metrics(out) if (r["stage"], r["kind"]) == (2, "train")]
    assert losses[-1] < 0.3 * math.log(21)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_paper_preset_takes_a_step_of_both_stages_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    clips, out = tmp_path / "clips", tmp_path / "run"
    made = ["--clips", "1", "--size", "256", "--split", "train", "--workers", "1"]
    assert run(["data", "synth", str(clips), *made]) == 0
    command = ["train", "--extractor", "ast_motionformer", "--preset", "paper", "--head", "sync"]
    settings = [
        "data.loader_workers=0",
        "stage1.steps=1",
        "stage1.clips=1",
        "stage1.num_segments=2",
        "stage2.steps=1",
        "stage2.batch=1",
        "stage2.valid_rounds=1",
    ]
    chosen = [part for setting in settings for part in ("--set", setting)]
    paths = ["--data", str(clips / "manifest.parquet"), "--out", str(out)]
    with connected(Resources(cpus_per_worker=2)):
        assert run([*command, *paths, "--overfit", "1", *chosen]) == 0
    model = load_model(out)
    assert count_parameters(model.audio) == 92_400_384
    assert count_parameters(model.vision) == 122_440_704
    assert count_parameters(model) == 237_460_245
    assert all(math.isfinite(r["loss"]) for r in read_metrics(out) if r["kind"] == "train")
