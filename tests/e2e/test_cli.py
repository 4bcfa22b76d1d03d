"""The command line: what it answers, and one clear sentence for everything that can be wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.catalog.entries import resolve
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.media import encode

Fails = Callable[..., None]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a command line that must end with code 2 and one sentence holding some words."""

    def check(arguments: list[object], *words: str) -> None:
        capsys.readouterr()
        assert run([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        sentence = " ".join(error.split("error:")[-1].split())
        assert error.count("error:") == 1, error
        for word in words:
            assert word in sentence, sentence

    return check


@pytest.fixture(scope="module")
def bad_clips(tmp_path_factory: pytest.TempPathFactory, clips: Manifest) -> Path:
    """One clip of every kind that cannot be used."""
    folder = tmp_path_factory.mktemp("bad")
    frames = np.random.default_rng(0).integers(0, 255, (200, 64, 64, 3), np.uint8)
    samples = np.random.default_rng(0).normal(0, 0.1, 128_000).astype(np.float32)
    (folder / "text.mp4").write_text("hello")
    whole = clips.clips[0].path.read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    encode(folder / "mute.mp4", frames, None)
    encode(folder / "blind.mp4", None, samples)
    encode(folder / "short.mp4", frames[:50], samples[:32_000])
    return folder


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"avsync-zoo {zoo.__version__}\n"
    words = [sys.executable, "-m", "zoo", "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said == f"avsync-zoo {zoo.__version__}\n"


def test_a_file_like_an_option_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-dash.mp4").touch()
    fails(["predict", "tiny-synthetic", "-dash.mp4"], "write ./-dash.mp4")
    fails(["predict", "tiny-synthetic", "./-dash.mp4"], "-dash.mp4 is empty")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.mp4", "missing.mp4"),
        ("text.mp4", "text.mp4"),
        ("truncated.mp4", "truncated.mp4"),
        ("mute.mp4", "no audio stream"),
        ("blind.mp4", "no video stream"),
        ("short.mp4", "is too short"),
    ],
)
def test_a_clip_that_cannot_be_used_is_one_sentence(
    fails: Fails, model_folder: Path, bad_clips: Path, name: str, words: str
) -> None:
    fails(["predict", model_folder, bad_clips / name], words)


def test_good_clips_are_predicted_beside_bad_ones(
    model_folder: Path, bad_clips: Path, clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    good = clips.clips[0].path
    arguments = ["predict", str(model_folder), str(bad_clips / "text.mp4"), str(good), "--json"]
    assert run(arguments) == 2
    first, second = json.loads(capsys.readouterr().out)
    assert first["path"] == str(good)
    assert set(second) == {"path", "error"}


def test_predict_answers_as_json(
    model_folder: Path, clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(model_folder), str(clips.clips[0].path), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert set(answer) >= {
        "path",
        "model",
        "offset_s",
        "meaning",
        "probability",
        "distribution",
        "windows",
        "low_confidence",
    }
    assert len(answer["distribution"]) == 21
    assert set(answer["distribution"][0]) == {"offset_s", "probability"}
    assert set(answer["windows"][0]) == {"start_s", "offset_s", "probability"}


def test_predict_says_the_offset_in_words(
    model_folder: Path, clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(model_folder), str(clips.clips[0].path)]) == 0
    shown = capsys.readouterr().out
    assert "offset" in shown
    assert "in sync" in shown or "to repair" in shown


def test_models_that_cannot_be_loaded_are_one_sentence(
    fails: Fails, model_folder: Path, clips: Manifest, tmp_path: Path
) -> None:
    clip = clips.clips[0].path
    fails(["predict", "tiny-sinthetic", clip], "no model 'tiny-sinthetic'")
    fails(["predict", tmp_path, clip], "not a model folder")
    damaged = tmp_path / "damaged"
    shutil.copytree(model_folder, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] + bytes(100))
    for command in (
        ["predict", damaged, clip],
        ["evaluate", damaged, "--data", "m.parquet"],
        ["catalog", "add", damaged, "--name", "x"],
    ):
        fails(command, "is damaged", "hash")


def test_evaluate_reports_scores_chance_and_controls(
    model_folder: Path, clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips.clips[0].path.parents[1] / "manifest.parquet"
    words = ["evaluate", str(model_folder), "--data", str(manifest), "--split", "train"]
    out = tmp_path / "report.json"
    assert run([*words, "--rounds", "2", "--json", "--out", str(out)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(out.read_text())
    assert report["rounds"] == len(report["per_round"]) == 2
    assert report["pooled"]["num"] == 2 * report["num_clips"]
    assert report["chance"]["accuracy"] == pytest.approx(1 / 21)
    assert set(report["controls"]) == {"audio of another clip", "audio blanked", "video blanked"}
    assert np.sum(report["confusion"]) == report["rule"]["num"] == report["pooled"]["num"]
    assert report["left_out"] == {}
    assert run([*words, "--rounds", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "chance" in shown
    assert "rule without" in shown


def test_both_ways_of_evaluating_see_the_same_draws(
    model_folder: Path, clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips.clips[0].path.parents[1] / "manifest.parquet"
    words = ["evaluate", str(model_folder), "--data", str(manifest), "--rounds", "1", "--json"]
    reports = []
    for features in ("store", "online"):
        assert run([*words, "--split", "train", "--features", features]) == 0
        reports.append(json.loads(capsys.readouterr().out)["pooled"])
    assert reports[0] == pytest.approx(reports[1], abs=0.02)


def test_evaluate_says_what_is_wrong(
    fails: Fails, model_folder: Path, clips: Manifest, tmp_path: Path
) -> None:
    manifest = clips.clips[0].path.parents[1] / "manifest.parquet"
    fails(["evaluate", model_folder, "--data", tmp_path / "no.parquet"], "no.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    fails(["evaluate", model_folder, "--data", tmp_path / "text.parquet"], "text.parquet")
    words = ["evaluate", model_folder, "--data", manifest, "--rounds", "1", "--out"]
    (tmp_path / "file").touch()
    fails([*words, tmp_path / "file" / "r.json", "--split", "train"], "cannot write")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--extractor", "ast_motionforme"], "did you mean 'ast_motionformer'"),
        (["--extractor", "ast+motionforme"], "did you mean 'motionformer'"),
        (["--extractor", "ast_motionformer", "--head", "snyc"], "did you mean 'sync'"),
        (["--extractor", "ast_motionformer", "--set", "stage2.lrr=1"], "did you mean 'lr'"),
        (["--extractor", "ast_motionformer", "--set", "stage2.batch=many"], "stage2.batch"),
        ([], "--extractor"),
    ],
)
def test_a_run_that_cannot_start_is_one_sentence(
    fails: Fails, clips: Manifest, tmp_path: Path, options: list[str], words: str
) -> None:
    manifest = clips.clips[0].path.parents[1] / "manifest.parquet"
    fails(["train", "--data", manifest, "--out", tmp_path / "run", *options], words)


def test_an_unwritable_run_is_one_sentence(fails: Fails, clips: Manifest, tmp_path: Path) -> None:
    manifest = clips.clips[0].path.parents[1] / "manifest.parquet"
    (tmp_path / "file").touch()
    words = ["train", "--extractor", "ast_motionformer", "--data", manifest]
    fails([*words, "--out", tmp_path / "file" / "run"], str(tmp_path / "file"))
    fails([*words[:-1], tmp_path / "no.parquet", "--out", tmp_path / "run"], "no.parquet")


def test_an_empty_folder_is_one_sentence(fails: Fails, tmp_path: Path) -> None:
    fails(["data", "check", tmp_path], "holds no video")
    out = tmp_path / "m.parquet"
    fails(["data", "prepare", "folder", "--videos", tmp_path, "-o", out], "holds no video")


def test_list_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    shown = capsys.readouterr().out
    for word in ("ast_motionformer", "transformer", "correlation", "segment_avclip", "folder"):
        assert word in shown


def test_list_knows_the_kinds_and_their_older_names(
    capsys: pytest.CaptureFixture[str], fails: Fails
) -> None:
    for kind, name in (("encoders", "ast_motionformer"), ("pairs", "sparsesync")):
        assert run(["list", kind]) == 0
        assert name in capsys.readouterr().out
    assert run(["list", "tasks", "--json"]) == 0
    tasks = {row["name"] for row in json.loads(capsys.readouterr().out)["tasks"]}
    assert {"offset", "synchronizability"} <= tasks
    fails(["list", "encodres"], "did you mean 'encoders'")


def test_list_answers_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "heads", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in answer["heads"]} >= {"sync", "correlation"}
    assert all(row["summary"] and row["plugin"] for row in answer["heads"])
    assert answer["failed_plugins"] == []


def test_a_plugin_that_fails_is_reported_and_the_rest_works(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_the_kind")
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", "--plugin", str(broken), "list", "heads", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert answer["failed_plugins"][0]["plugin"] == "broken"
    assert "nothing_of_the_kind" in answer["failed_plugins"][0]["reason"]
    assert answer["heads"]


def test_a_missing_plugin_file_is_one_sentence(fails: Fails, tmp_path: Path) -> None:
    fails(["--plugin", tmp_path / "none.py", "list"], "no plugin file", "none.py")


def test_info_and_catalog_know_an_added_model(
    model_folder: Path,
    clips: Manifest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fails: Fails,
) -> None:
    assert run(["catalog", "add", str(model_folder), "--name", "mine", "--summary", "a test"]) == 0
    monkeypatch.setenv("COLUMNS", "40")
    assert run(["info", "mine"]) == 0
    card = capsys.readouterr().out
    assert "correlation" in card
    assert str(resolve("mine")) in card  # in one piece, whatever the width
    assert run(["info", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"] == "a test"
    assert run(["list", "models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert "mine" in {row["name"] for row in models}
    assert run(["predict", "mine", str(clips.clips[0].path), "--json"]) == 0
    fails(["catalog", "add", model_folder, "--name", "mine"], "already has a model 'mine'")
    fails(["info", "mien"], "did you mean 'mine'")


@pytest.mark.parametrize("words", ["predict", "list nothing", "nothing", "evaluate x"])
def test_a_wrong_command_line_ends_with_code_two(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_every_command_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ["list", "info", "predict", "evaluate", "train", "catalog add"]
    for command in [*commands, "data check", "data prepare", "data shift", "data synth"]:
        assert run([*command.split(), "--help"]) == 0
        assert "Example:" in capsys.readouterr().out, command
