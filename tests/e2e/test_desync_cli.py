"""``zoo desync`` as its users meet it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from zoo.cli.app import run
from zoo.data.manifest import Manifest

MODEL = "tiny-synthetic"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rendered clips, one of them damaged."""
    out = tmp_path_factory.mktemp("desync") / "set"
    words = ["--clips", "4", "--seconds", "8", "--seed", "3", "--workers", "1", "--split", "test"]
    assert run(["data", "synth", str(out), *words]) == 0
    first, *others = [clip.path for clip in Manifest.read(out / "manifest.parquet").clips]
    first.write_bytes(first.read_bytes()[:5000])
    return others[0].parent


def desync(*words: object) -> int:
    return run(["desync", *(str(word) for word in words)])


@pytest.mark.parametrize(
    ("mode", "score", "chance"),
    [
        ("published", "mean |offset|", "1.048 s"),
        ("corrected", "mean |offset|", "1.048 s"),
        ("avgen-bench", "mean |mean of the distribution|", "0.000 s"),
    ],
)
def test_the_table_names_mode_and_numbers(
    videos: Path, mode: str, score: str, chance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desync(MODEL, "--videos", videos, "--mode", mode) == 0
    shown = capsys.readouterr().out
    assert f"DeSync ({mode}) of 3 of 4 clips" in shown
    assert f"DeSync, {score}" in shown
    assert chance in shown
    assert "2.000 s" in shown
    assert "AV-Align" in shown
    assert "1 of 4 clips have no score" in shown
    assert "000000.mp4 is cut short" in shown


def test_a_folder_of_results_has_all_there_is(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desync(MODEL, "--videos", videos, "-o", tmp_path / "out", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["scored"], summary["clips"]) == (3, 4)
    assert summary["mode"] == "corrected"
    assert summary["sha256"]
    assert summary["desync_s"] < 0.1
    with (tmp_path / "out" / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["skipped"]) for row in rows] == [True, False, False, False]
    aligned = [float(row["av_align"]) for row in rows[1:]]
    assert rows[0]["av_align"] == ""
    assert summary["av_align"] == pytest.approx(sum(aligned) / 3)
    assert all(0 < value <= 1 for value in aligned)
    assert len(rows[1]["offsets_s"].split()) == 11
    assert (tmp_path / "out" / "offsets.png").exists()


def test_audios_are_paired_and_what_is_left_is_listed(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(path.name for path in videos.iterdir())
    shutil.copy(videos / names[1], tmp_path / names[1])
    shutil.copy(videos / names[2], tmp_path / "other.mp4")
    assert desync(MODEL, "--videos", videos, "--audios", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "of 1 of 5 clips" in shown
    assert "other: no video of this name" in shown
    assert "000003: no audio of this name" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing", "--videos", "."], "no model 'nothing'"),
        ([MODEL, "--videos", "missing"], "missing does not exist"),
        ([MODEL, "--videos", "{empty}"], "holds no video"),
        ([MODEL, "--videos", "{bad}"], "not one of the 1 clips could be scored"),
        ([MODEL, "--videos", "{bad}", "--duration", "3"], "a duration of 3 s is too short"),
        ([MODEL, "--videos", "{bad}", "--device", "tpu9"], "--device tpu9 cannot be used"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "bad"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "x.mp4").write_text("hello")
    assert (
        desync(*(word.format(empty=tmp_path / "empty", bad=tmp_path / "bad") for word in words))
        == 2
    )
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert sentence in " ".join(error.split())


def test_other_settings_in_the_same_folder_are_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desync(MODEL, "--videos", videos, "-o", tmp_path) == 0
    assert desync(MODEL, "--videos", videos, "-o", tmp_path, "--mode", "published") == 2
    assert "other settings" in capsys.readouterr().err
    assert desync(MODEL, "--videos", videos, "-o", tmp_path) == 0


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert desync("--help") == 0
    assert "Example:" in capsys.readouterr().out
