"""``zoo data prepare`` on published data sets: the account of what is missing, and re-encoding."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import official_lists as lists
import pytest
from clock_clips import HEIGHT, Recipe, measured_clicks_s, measured_flashes_s
from fatal import die_on_one

from zoo.cli.app import run
from zoo.contracts import ClipRecord
from zoo.data import reencode as reencoding
from zoo.data.manifest import Manifest
from zoo.data.reencode import Job, reencode, run_jobs
from zoo.media import decode, encode, probe

Prepare = Callable[..., int]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 9.2 s that costs nothing."""
    return write_clip(tmp_path_factory.mktemp("source") / "long.mp4", 9.2, fps=5)


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 1 s at 30 fps and 44.1 kHz."""
    return write_clip(tmp_path_factory.mktemp("source") / "short.mp4", 1.0, fps=30, rate_hz=44_100)


def write_clip(path: Path, seconds: float, fps: int, rate_hz: int = 16_000) -> Path:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (round(seconds * fps), 36, 64, 3), np.uint8)
    samples = rng.normal(0, 0.1, round(seconds * rate_hz)).astype(np.float32)
    encode(path, frames, samples, fps=fps, sample_rate_hz=rate_hz, crf=45)
    return path


@pytest.fixture
def tree(clip: Path, tmp_path: Path) -> Path:
    """VGGSound's test clips, one of them damaged and one of them cut short, and strangers."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in [*lists.TEST[:3], lists.VALID[0], "zzzzzzzzzzz_0_10000"]:
        os.link(clip, videos / f"{name}.mp4")
    (videos / f"{lists.TRAIN[0]}.mp4").write_bytes(clip.read_bytes()[:2000])
    write_clip(videos / f"{lists.TRAIN[1]}.mp4", 3.0, fps=5)
    lists.write_vggsound(tmp_path / "meta")
    return videos


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    def command(name: str, *options: str, out: str = "m.parquet") -> int:
        words = ["--videos", str(tmp_path / "videos"), "-o", str(tmp_path / out), *options]
        meta = ["--meta", str(tmp_path / "meta")] if (tmp_path / "meta").exists() else []
        return run(["data", "prepare", name, *words, *meta, "--workers", "2"])

    return command


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split("error:")[-1].split())


def test_prepare_accounts_for_every_official_clip(
    tree: Path, prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("vggsound", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["official"] == {"train": 3, "valid": 2, "test": 4}
    assert answer["clips"] == {"train": 0, "valid": 1, "test": 3}
    assert [clip["id"] for clip in answer["missing"]] == [
        lists.TRAIN[2],
        lists.VALID[1],
        lists.TEST[4],
    ]
    rejected = {Path(clip["path"]).stem: clip["reason"] for clip in answer["rejected"]}
    assert rejected[lists.TRAIN[1]].startswith("too short: 3.00 s, the data set has clips of 9 s")
    assert "cut short" in rejected[lists.TRAIN[0]]
    (unused,) = answer["unused"]
    assert unused["reason"] == "a video that is in none of the lists"
    with Path(answer["left_out_list"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["missing"] * 3 + ["rejected"] * 2 + ["unused"]
    assert Path(answer["left_out_list"]) == tmp_path / "m.left_out.csv"
    manifest = Manifest.read(tmp_path / "m.parquet")
    first = next(clip for clip in manifest.clips if clip.path.stem == lists.TEST[0])
    assert (first.label, first.fixed_offset_s, first.fixed_start_s) == ("dog barking", -0.2, 0.04)


def test_labels_are_counted_and_the_order_of_classes_is_kept(
    tree: Path, prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {0: "playing tennis", 1: "people marching", 2: "dog barking", 3: "hail"}
    lists.write_classes(tmp_path / "meta" / "class_labels_indices_vgg.csv", names, "vgg_")
    assert prepare("vggsound_full", "--valid", "0", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["labels"] == {"labelled": 5, "classes": 4, "without_training_clip": 3}
    manifest = Manifest.read(tmp_path / "m.parquet")
    assert manifest.classes == tuple(names.values())
    assert [clip.label for clip in manifest.select("test").clips] == [
        *["dog barking"] * 2,
        "playing tennis",
    ]
    assert prepare("vggsound_full", "--set", "splits=test") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 clips are labelled: 4 classes, 4 of them without a training clip" in shown


def test_prepare_prints_counts_per_split_and_grouped_reasons(
    tree: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("vggsound") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "│ train │ 3 │ 1 │ 2 │ 0 │",
        "│ test │ 4 │ 1 │ 0 │ 3 │",
        "missing: 3 (there is no file): AAAAAAAAAAA_0_10000",
        "rejected: 1 (too short):",
        "unused: 1 (a video that is in none of the lists):",
        "m.left_out.csv",
        "4 clips (0 train, 1 valid, 3 test), 2 rejected",
    ):
        assert part in shown


def test_a_complete_folder_leaves_no_list_of_what_is_missing(
    tree: Path, prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("vggsound") == 0
    assert (tmp_path / "m.left_out.csv").exists()
    (tree / "zzzzzzzzzzz_0_10000.mp4").unlink()
    for name in [*lists.TRAIN[:2], lists.VALID[0], lists.TEST[1]]:
        (tree / f"{name}.mp4").unlink()
    assert prepare("vggsound_sparse_clean") == 0
    assert not (tmp_path / "m.left_out.csv").exists()
    assert "2 clips (0 train, 0 valid, 2 test), 0 rejected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--valid", "0.1"], "--valid does not apply to the data set 'vggsound'"),
        (["--set", "split=test"], "no option 'split'; did you mean 'splits'?"),
        (["--set", "splits"], "--set takes key=value, got 'splits'"),
        (["--set", "splits=tset"], "'splits.0': Input should be 'train', 'valid' or 'test'"),
        (["--set", "min_seconds=99"], "none of the 6 clips can be used"),
        (["--reencode", "INSIDE"], "would lie within"),
    ],
)
def test_wrong_options_are_one_clear_sentence(
    tree: Path,
    prepare: Prepare,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    inside = str(tree / "new")
    assert prepare("vggsound", *(inside if word == "INSIDE" else word for word in options)) == 2
    assert message in error_of(capsys)


def test_prepare_reencodes_goes_on_and_reports_what_fails(
    short_clip: Path, prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, new = tmp_path / "videos", tmp_path / "new"
    names = [name for name in lists.TEST if name != lists.FILTERED]
    (videos / "dog").mkdir(parents=True)
    for name in names[:2]:
        shutil.copy(short_clip, videos / "dog" / f"{name}.mkv")
    shutil.copy(short_clip, videos / f"{names[2]}.mp4")
    (videos / f"{names[3]}.mp4").write_text("not a clip")
    lists.write_vggsound(tmp_path / "meta")
    words = ["--reencode", str(new), "--set", "min_seconds=0", "--set", "splits=test", "--json"]

    assert prepare("vggsound", *words) == 0
    answer = json.loads(capsys.readouterr().out)
    (rejected,) = answer["rejected"]
    assert rejected["path"] == str(videos / f"{names[3]}.mp4")
    assert answer["official"]["test"] == 4
    made = sorted(path.relative_to(new).as_posix() for path in new.rglob("*.*"))
    assert made == sorted([f"dog/{names[0]}.mp4", f"dog/{names[1]}.mp4", f"{names[2]}.mp4"])
    manifest = Manifest.read(tmp_path / "m.parquet")
    clip = manifest.clips[0]
    assert (clip.video_fps, clip.height, clip.width) == (25, 256, 454)  # 455.1 made even
    assert (clip.sample_rate_hz, clip.channels) == (16_000, 1)
    assert clip.fixed_offset_s is not None

    before = {path: path.stat().st_mtime_ns for path in new.rglob("*.mp4")}
    gone, damaged = new / "dog" / f"{names[0]}.mp4", new / f"{names[2]}.mp4"
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert prepare("vggsound", *words) == 0
    after = {path: path.stat().st_mtime_ns for path in new.rglob("*.mp4")}
    assert {path for path in before if after[path] != before[path]} == {gone, damaged}
    assert Manifest.read(tmp_path / "m.parquet").clips == manifest.clips


CLOCKS = {
    "mp4 25 fps": Recipe(),
    "mkv 29.97 fps, opus, stereo": Recipe(
        "mkv", audio_codec="libopus", fps=Fraction(30000, 1001), rate_hz=48_000, channels=2
    ),
    "late audio": Recipe(audio_delay_s=0.3),
    "60 fps, 44.1 kHz, fragmented": Recipe(
        fps=Fraction(60),
        rate_hz=44_100,
        container_options={"movflags": "frag_keyframe+empty_moov"},
    ),
}


@pytest.mark.parametrize("kind", CLOCKS)
def test_reencoding_keeps_sound_and_picture_together(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reencoding, "WINDOW_FRAMES", 60)  # the clip is read in three pieces
    source = CLOCKS[kind].write(tmp_path).path
    reencode(source, tmp_path / "new.mp4", probe(source).common_s)
    before, after = (decode(path, short_side=HEIGHT) for path in (source, tmp_path / "new.mp4"))
    flashes_s = measured_flashes_s(after) - measured_flashes_s(before)
    clicks_s = measured_clicks_s(after) - measured_clicks_s(before)
    assert np.abs(clicks_s - flashes_s).max() < 0.001
    assert np.abs(flashes_s).max() < 0.001


def test_pieces_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Recipe(fps=Fraction(30), rate_hz=44_100).write(tmp_path).path
    windows = []
    for name, frames in (("one", 200), ("many", 33)):
        monkeypatch.setattr(reencoding, "WINDOW_FRAMES", frames)
        reencode(source, tmp_path / f"{name}.mp4", 3.0)
        windows.append(decode(tmp_path / f"{name}.mp4"))
    assert np.array_equal(windows[0].frames, windows[1].frames)
    assert np.array_equal(windows[0].samples, windows[1].samples)


def test_a_clip_that_kills_its_process_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = [Job(ClipRecord(path=tmp_path / f"{index}"), tmp_path) for index in range(4)]
    answers = {job.record.path.name: why for job, why in run_jobs(jobs, 1, die_on_one)}
    assert answers == {"0": None, "1": "1 kills the process that reads it", "2": None, "3": None}


@pytest.mark.slow
def test_an_interrupted_run_ends_at_once_leaves_nothing_half_written_and_goes_on(
    tmp_path: Path,
) -> None:
    videos, new = tmp_path / "videos", tmp_path / "new"
    videos.mkdir()
    source = write_clip(videos / "0.mp4", 8.0, fps=25)
    for index in range(1, 4):
        os.link(source, videos / f"{index}.mp4")
    words = ["--videos", str(videos), "-o", str(tmp_path / "m.parquet"), "--reencode", str(new)]
    command = [sys.executable, "-m", "zoo.cli", "data", "prepare", "folder", *words]
    with subprocess.Popen([*command, "--workers", "1"], start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(new.glob("[0-9]*.mp4")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 130
    assert not (tmp_path / "m.parquet").exists()
    finished = sorted(path.name for path in new.iterdir())
    assert finished == [f"{index}.mp4" for index in range(len(finished))]
    assert 0 < len(finished) < 4
    subprocess.run(command, check=True)
    assert len(Manifest.read(tmp_path / "m.parquet").clips) == 4
