"""`zoo fix` as a user meets it."""

import csv
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


@pytest.fixture
def export(late: Path, tmp_path: Path) -> Path:
    """A folder with a late clip, another one below it, and a file that is no clip."""
    folder = tmp_path / "export"
    (folder / "day 2").mkdir(parents=True)
    shutil.copy(late, folder / "late.mp4")
    shutil.copy(late, folder / "day 2" / "late.mp4")
    (folder / "text.mp4").write_text("not a clip")
    return folder


def test_a_folder_is_repaired_clip_by_clip_and_goes_on(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in export.rglob("*.mp4")}
    command = ["fix", "tiny-synthetic", str(export), "-o", str(tmp_path / "fixed")]
    assert run(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "text.mp4: " in said
    assert "repairs.csv: 2 of 3 clips repaired; the column" in said
    made = {file.relative_to(tmp_path / "fixed").as_posix() for file in _files(tmp_path / "fixed")}
    assert made == {"late.mp4", "day 2/late.mp4", "repairs.csv"}
    with (tmp_path / "fixed" / "repairs.csv").open(newline="") as file:
        first = {row["path"]: row for row in csv.DictReader(file)}
    assert float(first["late.mp4"]["delay_s"]) == pytest.approx(-0.53, abs=0.05)
    assert "not a media file" in first["text.mp4"]["error"]

    kept = (tmp_path / "fixed" / "late.mp4").stat().st_mtime_ns
    (tmp_path / "fixed" / "day 2" / "late.mp4").unlink()
    shutil.copy(export / "late.mp4", export / "text.mp4")  # mended meanwhile
    assert run([*command, "--json"]) == 0
    again = {row["path"]: row for row in json.loads(capsys.readouterr().out)}
    assert [row["error"] for row in again.values()] == [None, None, None]
    assert again["late.mp4"]["delay_s"] == float(first["late.mp4"]["delay_s"])
    assert (tmp_path / "fixed" / "late.mp4").stat().st_mtime_ns == kept
    assert (tmp_path / "fixed" / "day 2" / "late.mp4").exists()
    assert all(file.read_bytes() == before[file] for file in before if file.name == "late.mp4")


def test_a_folder_without_a_repair_is_an_error(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(export / "day 2")
    out = tmp_path / "fixed"
    out.mkdir()
    (out / "late.mp4").write_text("precious")
    assert run(["fix", "tiny-synthetic", str(export), "-o", str(out)]) == 2
    told = capsys.readouterr()
    assert "not one of 2 clips is repaired" in " ".join(told.err.split())
    assert "late.mp4 is already there, and not in repairs.csv" in " ".join(told.out.split())
    assert (out / "late.mp4").read_text() == "precious"


@pytest.mark.parametrize("out", ["export", "export/fixed", "."])
def test_copies_do_not_lie_among_the_clips(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    assert run(["fix", "tiny-synthetic", str(export), "-o", str(tmp_path / out)]) == 2
    assert "would lie among the clips" in " ".join(capsys.readouterr().err.split())
    assert len(_files(tmp_path)) == 3


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]
