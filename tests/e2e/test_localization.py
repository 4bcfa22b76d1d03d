"""A localization model from clips to a timeline: train, evaluate, predict with a plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.cli.app import run
from zoo.data.manifest import Manifest

# fmt: off
SETTINGS = {
    "layout.num_segments": 4, "layout.segment_s": 1, "layout.step_s": 1, "encoder.audio_s": 1,
    "encoder.vision_s": 1, "encoder.vision_frontend.fps": 5, "encoder.vision_frontend.size": 32,
    "encoder.vision_frontend.short_side": 32, "encoder.depth": 1, "stage2.encoder": "trained",
    "stage2.steps": 12, "stage2.batch": 4, "stage2.lr": 2e-3, "stage2.warmup_steps": 2,
    "stage2.log_every": 4, "stage2.valid_every": 12, "stage2.checkpoint_every": 12,
    "stage2.valid_rounds": 2,
}
# fmt: on


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_from_clips_to_a_timeline(
    in_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    made = ["--kind", "events", "--seconds", "6.5", "--size", "32", "--difficulty", "easy"]
    split = ["--clips", "12", "--split", "train=0.5,valid=0.25,test=0.25", "--workers", "1"]
    assert run(["data", "synth", "clips", *made, *split]) == 0
    capsys.readouterr()
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    asked = ["--extractor", "cavmae", "--task", "localization", "--features", "online"]
    data = ["--data", "clips/manifest.parquet"]
    assert run(["train", *asked, *data, "--out", "run", *settings]) == 0
    text = said(capsys)
    assert "head linear_slots" in text
    assert "of event slots" in text
    # A crop of 4 s has 4 slots of 7 labels, so every report counts seconds.
    assert run(["evaluate", "run", *data, "--rounds", "1", "-o", "report"]) == 0
    assert "precision" in said(capsys)
    report = json.loads(Path("report/report.json").read_text())
    assert sum(map(sum, report["confusion"])) == 4 * report["pooled"]["num"]
    assert {"mean_f1", "event_accuracy"} <= set(report["chance"])
    assert Path("report/confusion.png").exists()

    clip = str(Manifest.read(Path("clips/manifest.parquet")).clips[0].path)
    assert run(["predict", "run", clip, "--json", "--plot", "a.png"]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["task"] == "localization"
    assert [slot["start_s"] for slot in answer["slots"]] == [0, 1, 2, 3, 4, 5]
    assert answer["slots"][-1]["end_s"] == answer["duration_s"]
    assert answer["windows_s"][-1] + 4 >= answer["duration_s"]
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert run(["predict", "run", clip]) == 0
    assert "0:0" in said(capsys)
    assert run(["predict", "run", clip, "--max-offset", "3"]) == 2
    assert "says which event happens when: leave it out" in said(capsys)
    assert run(["predict", "run", clip, "--csv", "a.csv", "--workers", "1"]) == 0
    assert '""slots""' in Path("a.csv").read_text()


def test_a_model_of_another_task_has_no_plot_along_a_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(Path(__file__).parents[2] / "demo" / "examples" / "early.mp4")
    plot = str(tmp_path / "a.png")
    assert run(["predict", "tiny-synthetic-trust", clip, "--plot", plot]) == 2
    assert "whose answers run along a clip; 'tiny-synthetic-trust' says" in said(capsys)
    assert not list(tmp_path.iterdir())
