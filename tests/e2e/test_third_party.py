"""A stranger's package: a task, its head, a joint encoder and a data set, used as they are.

It was written from docs/plugins.md alone (tests/third_party/zoo_loudness), and nothing in the
library knows of it.
"""

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestration.cluster import connected
from zoo.cli.app import run
from zoo.media import encode
from zoo.registry.manager import registry
from zoo.training.resources import Resources

PACKAGE = Path(__file__).parents[1] / "third_party" / "zoo_loudness"
PLUGIN = ["--plugin", str(PACKAGE)]
TRAINING = {"stage2.steps": 60, "stage2.batch": 8, "stage2.valid_every": 30}
SEARCH = """
title: Learning rate of the loudness head
base:
  extractor: joint
  task: loudness
  set: {stage2.steps: 4, stage2.batch: 4, stage2.valid_every: 4}
space:
  stage2.lr: [1e-3, 1e-2]
"""


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """One thread per worker, and the plugins of this process as they were."""
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)
    registry.cache_clear()


@pytest.fixture(scope="module")
def cluster(environment: None) -> Iterator[None]:
    """One Ray for the training and the search."""
    with connected(Resources()):
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen clips of 3 s whose noise is between -40 and -10 dB, and whose frames say nothing."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for number in range(16):
        level_db = -40 + 2 * ((number * 7) % 16)
        samples = 10 ** (level_db / 20) * rng.standard_normal(3 * 16_000).astype(np.float32)
        frames = rng.integers(0, 256, (75, 36, 48, 3), np.uint8)
        encode(folder / f"{number:02}.mp4", frames, samples)
    return folder


@pytest.fixture(scope="module")
def trained(
    cluster: None, videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Return a run and its manifest."""
    home = tmp_path_factory.mktemp("loudness")
    manifest, out = home / "clips.parquet", home / "run"
    prepare = ["data", "prepare", "measured", "--videos", str(videos), "-o", str(manifest)]
    assert run([*prepare, *PLUGIN]) == 0
    chosen = [part for key, value in TRAINING.items() for part in ("--set", f"{key}={value}")]
    train = ["train", "--extractor", "joint", "--task", "loudness", "--data", str(manifest)]
    assert run([*train, "--out", str(out), *chosen, *PLUGIN]) == 0
    return out, manifest


def test_it_keeps_all_promises(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugin", "check", "zoo_loudness", "--videos", str(videos), *PLUGIN]) == 0
    passed = {"encoder 'joint'", "task 'loudness'", "head 'loudness'", "dataset 'measured'"}
    said = capsys.readouterr().out
    assert passed == set(re.findall(r"passed: (.*)", said))


def test_it_trains_and_says_what_chance_is(
    trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = trained
    description = json.loads((out / "model.json").read_text())
    assert description["config"]["task"]["name"] == "loudness"
    assert description["config"]["encoder"]["name"] == "joint"
    scores, settings = description["scores"]["valid"], description["config"]["task"]["config"]
    assert settings["spread_db"] > 5  # fitted to the training clips
    assert scores["error_db"] < 0.6 * settings["spread_db"]  # chance: 0.8
    assert run(["info", str(out), *PLUGIN]) == 0
    assert "loudness" in capsys.readouterr().out


def test_it_evaluates_with_intervals_and_controls(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    out, manifest = trained
    evaluate = ["evaluate", str(out), "--data", str(manifest), "--rounds", "3"]
    assert run([*evaluate, "-o", str(tmp_path / "report"), *PLUGIN]) == 0
    report = json.loads(next(tmp_path.rglob("*.json")).read_text())
    assert report["task"] == "loudness"
    text = json.dumps(report)
    assert "error_db" in text
    assert "audio blanked" in text


def test_it_predicts_how_loud_a_clip_is(
    trained: tuple[Path, Path], videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = trained
    levels = []
    for name in ("00.mp4", "02.mp4"):  # of -40 and -12 dB
        assert run(["predict", str(out), str(videos / name), *PLUGIN]) == 0
        (level,) = re.findall(r"level (-?[\d.]+) dB", capsys.readouterr().out)
        levels.append(float(level))
    assert levels[0] < levels[1] - 10


def test_it_is_tuned(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, manifest = trained
    file, out = tmp_path / "search.yaml", tmp_path / "search"
    file.write_text(SEARCH)
    assert run(["tune", str(file), "--data", str(manifest), "--out", str(out), *PLUGIN]) == 0
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert all(float(row["error_db"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fix", "MODEL", "CLIP", "-o", "out.mp4"], "says how loud a clip is, not by how much"),
        (["attribute", "MODEL", "CLIP", "-o", "out.png"], "says how loud a clip is, not by how"),
    ],
)
def test_commands_for_offsets_say_that_it_answers_another_question(
    trained: tuple[Path, Path],
    videos: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"MODEL": str(trained[0]), "CLIP": str(videos / "00.mp4")}
    assert run([*(places.get(word, word) for word in words), *PLUGIN]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.count("error:") == 1
    assert said in error
