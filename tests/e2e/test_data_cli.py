import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.media import encode, probe


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered folder, made by the command itself."""
    out = tmp_path_factory.mktemp("data") / "clips"
    assert synth(out) == 0
    return out


def synth(out: Path, *options: str) -> int:
    given = ["--clips", "6", "--seconds", "7", "--size", "32", "--seed", "2", "--workers", "1"]
    return run(["data", "synth", str(out), *given, *options])


def assert_one_sentence(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    error = " ".join(capsys.readouterr().err.split("error:")[-1].split())
    assert error
    for part in parts:
        assert part in error


def test_synth_writes_clips_labels_and_a_manifest_and_goes_on(clips: Path) -> None:
    manifest = Manifest.read(clips / "manifest.parquet")
    assert len(manifest.clips) == 6
    info = probe(manifest.clips[0].path)
    assert info.video is not None
    assert info.audio is not None
    assert (info.video.codec, info.video.fps, info.video.width) == ("h264", 25, 32)
    assert (info.audio.codec, info.audio.sample_rate_hz) == ("aac", 16_000)
    manifest.clips[3].path.unlink()
    assert synth(clips) == 0
    assert Manifest.read(clips / "manifest.parquet").sha256 == manifest.sha256


def test_synth_refuses_another_recipe_and_wrong_values(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synth(clips, "--kind", "dense") == 2
    assert_one_sentence(capsys, "another recipe", "kind sparse there, dense here")
    assert synth(tmp_path / "new", "--size", "33") == 2
    assert_one_sentence(capsys, "--size 33", "multiple of 2")
    assert synth(tmp_path / "new", "--split", "trian") == 2
    assert_one_sentence(capsys, "did you mean 'train'")
    (tmp_path / "file").touch()
    assert synth(tmp_path / "file" / "clips") == 2
    assert_one_sentence(capsys, "cannot write")


def test_check_accepts_rendered_clips_and_answers_as_json(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "check", str(clips / "manifest.parquet"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["num_clips"] == answer["num_usable"] == 6
    assert answer["clips"][0]["problems"] == []


def test_check_reports_bad_clips_beside_good_ones(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    shutil.copy(clips / "clips" / "000000.mp4", tmp_path / "good.mp4")
    assert run(["data", "check", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "text.mp4" in shown
    assert "1 of 2 clips are usable" in shown


def test_check_fails_where_nothing_is_usable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (200, 32, 32, 3), np.uint8)
    encode(tmp_path / "mute.mp4", frames, None)
    assert run(["data", "check", str(tmp_path)]) == 2
    assert_one_sentence(capsys, "none of the 1 clips is usable", "no audio stream")
    assert run(["data", "check", str(tmp_path / "missing.mp4")]) == 2
    assert_one_sentence(capsys, "missing.mp4")
    (tmp_path / "empty").mkdir()
    assert run(["data", "check", str(tmp_path / "empty")]) == 2
    assert_one_sentence(capsys, "holds no video")
    (tmp_path / "text.parquet").write_text("hello")
    assert run(["data", "check", str(tmp_path / "text.parquet")]) == 2
    assert_one_sentence(capsys, "not a Parquet file")


def test_prepare_makes_a_manifest_of_any_folder(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.parquet"
    words = ["data", "prepare", "folder", "--videos", str(clips), "-o", str(out)]
    assert run([*words, "--valid", "0.5", "--json"]) == 0
    assert sum(json.loads(capsys.readouterr().out)["clips"].values()) == 6
    assert Manifest.read(out).clips[0].label is None
    words[2] = "synthetic"
    assert run(words) == 0
    assert Manifest.read(out).clips[0].label is not None
    capsys.readouterr()
    assert run([*words, "--valid", "0.5"]) == 2
    assert_one_sentence(capsys, "--valid does not apply")


def test_prepare_says_what_is_wrong(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(name: str, videos: Path, out: Path, *options: str) -> int:
        return run(["data", "prepare", name, "--videos", str(videos), "-o", str(out), *options])

    out = tmp_path / "m.parquet"
    assert prepare("foldr", clips, out) == 2
    assert_one_sentence(capsys, "did you mean 'folder'")
    assert prepare("folder", tmp_path, out) == 2
    assert_one_sentence(capsys, "holds no video")
    assert prepare("folder", clips, out, "--valid", "0.7", "--test", "0.7") == 2
    assert_one_sentence(capsys, "more than everything")
    assert prepare("folder", clips, clips / "recipe.json" / "m.parquet") == 2
    assert_one_sentence(capsys, "cannot write the manifest")


@pytest.mark.parametrize(("delay", "words"), [("0.4", "0.4 s late"), ("-0.25", "0.25 s early")])
def test_shift_says_in_words_what_the_offset_is_now(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], delay: str, words: str
) -> None:
    clip, out = clips / "clips" / "000000.mp4", tmp_path / "out.mp4"
    assert run(["data", "shift", str(clip), "--delay", delay, "-o", str(out)]) == 0
    assert words in " ".join(capsys.readouterr().out.split())
    again = ["data", "shift", str(clip), "--delay", delay, "-o", str(out), "--overwrite"]
    assert run([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["offset_change_s"] == -float(delay)
    assert run(["data", "shift", str(tmp_path / "no.mp4"), "--delay", delay, "-o", str(out)]) == 2
    assert_one_sentence(capsys, "no.mp4")
