"""`zoo fix` as a user meets it."""

import json
import shutil
from pathlib import Path

import pytest

from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.media import shift_audio


@pytest.fixture(scope="module")
def late(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose sound is 0.53 s late."""
    path = tmp_path_factory.mktemp("late") / "late.mp4"
    shift_audio(clips.clips[0].path, path, 0.53)
    return path


def test_a_late_clip_is_repaired_and_the_residue_is_reported(
    late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = late.read_bytes()
    assert run(["fix", "tiny-synthetic", str(late), "-o", str(tmp_path / "f.mp4"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["offset_s"] == pytest.approx(-0.53, abs=0.05)
    assert answer["delay_s"] == answer["offset_s"]
    assert abs(answer["residue_s"]) < 0.05
    assert answer["warnings"] == []
    assert late.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["f.mp4"]


def test_what_was_done_is_said_in_words(
    late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fix", "tiny-synthetic", str(late), "-o", str(tmp_path / "fixed.mkv")]) == 0
    text = capsys.readouterr().out
    assert "s earlier; nothing is re-encoded" in text
    assert "measured again: offset" in text


def test_an_unsure_model_writes_nothing_unless_forced(
    model_folder: Path, late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fix", str(model_folder), str(late), "-o", str(tmp_path / "fixed.mp4")]
    assert run(command) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "is not repaired" in error
    assert "sure of an offset" in error
    assert "--force" in error
    assert not list(tmp_path.iterdir())
    assert run([*command, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"]


@pytest.mark.parametrize(
    ("clip", "out", "reason"),
    [
        ("missing.mp4", "out.mp4", "there is no file"),
        ("text.mp4", "out.mp4", "is not a media file"),
        ("late.mp4", "late.mp4", "is the clip itself"),
        ("late.mp4", "there.mp4", "exists; choose another file, or replace it with --overwrite"),
        ("late.mp4", "nowhere/out.mp4", "there is no folder"),
        ("late.mp4", "folder", "is a folder"),
        ("late.mp4", "out.webm", "cannot write late.mp4 as"),
        ("late.mp4", "out.xyz", "cannot write late.mp4 as"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    late: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    clip: str,
    out: str,
    reason: str,
) -> None:
    (tmp_path / "text.mp4").write_text("not a clip")
    (tmp_path / "there.mp4").write_text("precious")
    (tmp_path / "folder").mkdir()
    shutil.copy(late, tmp_path / "late.mp4")
    before = sorted(tmp_path.iterdir())
    assert run(["fix", "tiny-synthetic", str(tmp_path / clip), "-o", str(tmp_path / out)]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.mp4").read_text() == "precious"


def test_an_output_is_replaced_when_asked(late: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("old")
    assert run(["fix", "tiny-synthetic", str(late), "-o", str(out), "--overwrite"]) == 0
    assert out.stat().st_size > 1000
