"""Names that are not UTF-8, hold markup or a new line, or are very long; links; the unnamed."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.features.tensorfile import read_header
from zoo.media import shift_audio

NAMES = {
    "not UTF-8": os.fsdecode(b"z\xff.mp4"),
    "markup": "[bold]a[red] [link=x]&amp;.mp4",
    "new line": "two\nlines.mp4",
    "long": "n" * 251 + ".mp4",
}
READABLE = sorted(name for name in NAMES.values() if name.isprintable() or "\n" in name)


@pytest.fixture
def folder(clips: Manifest, tmp_path: Path) -> Path:
    """One clip under each of the names, of different content."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, name in enumerate(NAMES.values()):
        shift_audio(clips.clips[0].path, tmp_path / f"{number}.mp4", 0.04 * (number + 1))
        (tmp_path / f"{number}.mp4").rename(folder / name)
    return folder


def prepare(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    out = folder.parent / "m.parquet"
    given = ["--videos", str(folder), "-o", str(out), "--json", *more]
    assert run(["data", "prepare", "folder", *given]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def left_out(folder: Path) -> dict[str, str]:
    with (folder.parent / "m.left_out.csv").open(
        newline="", encoding="utf-8", errors="surrogateescape"
    ) as lines:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(lines)}


def test_a_manifest_holds_all_names_but_those_that_are_not_utf_8(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(folder, capsys)
    found = Manifest.read(folder.parent / "m.parquet").clips
    assert sorted(clip.path.name for clip in found) == READABLE
    assert left_out(folder) == {
        NAMES["not UTF-8"]: "its name is not UTF-8, as all text of a manifest is; rename it"
    }
    out, new = folder.parent / "m2.parquet", folder.parent / "new"
    again = ["--videos", str(folder), "-o", str(out), "--reencode", str(new), "--workers", "1"]
    assert run(["data", "prepare", "folder", *again]) == 0
    assert sorted(path.name for path in new.iterdir()) == sorted(NAMES.values())


def test_every_name_has_its_row_and_its_features(
    folder: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "tokens"
    assert run(["features", str(model_folder), str(folder), "-o", str(out)]) == 0
    headers = [read_header(file) for file in out.rglob("*.safetensors")]
    assert len(headers) == len(json.loads((out / "index.json").read_text())["clips"]) == len(NAMES)
    capsys.readouterr()
    assert run(["features", str(model_folder), str(folder), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished_before"] == len(NAMES)
    assert run(["data", "check", str(folder)]) == 0
    assert run(["data", "check", str(folder), "--json"]) == 0
    desync = ["--videos", str(folder), "--duration", "5", "-o", str(folder.parent / "scores")]
    for more in ([], ["--json"]):  # the second one goes on
        assert run(["desync", str(model_folder), *desync, *more]) == 0
    with (folder.parent / "scores" / "clips.csv").open(
        newline="", encoding="utf-8", errors="surrogateescape"
    ) as lines:
        assert {row["name"] for row in csv.DictReader(lines)} == set(NAMES.values())


@pytest.mark.slow
def test_every_name_has_its_row_in_a_table(folder: Path, model_folder: Path) -> None:
    table = folder.parent / "table.csv"
    for _ in range(2):  # the second one goes on
        given = [str(model_folder), str(folder), "--csv", str(table), "--workers", "1"]
        assert run(["predict", *given]) == 0
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        rows = {Path(row["path"]).name: row["error"] for row in csv.DictReader(lines)}
    assert rows == dict.fromkeys(NAMES.values(), "")


def test_one_file_under_several_names_is_taken_once(
    clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    file = Path(shutil.copy2(clips.clips[0].path, folder / "m.mp4"))
    (folder / "a.mp4").symlink_to("m.mp4")
    (folder / "z.mp4").hardlink_to(file)
    shutil.copy2(file, folder / "y.mp4")
    other = clips.clips[1].path
    (folder / "other.mp4").symlink_to(other)  # to a file elsewhere
    answer = prepare(folder, capsys, "--valid", "0.4", "--test", "0.3")
    assert sum(answer["clips"].values()) == 2  # type: ignore[attr-defined]
    found = Manifest.read(tmp_path / "m.parquet").clips
    assert sorted(clip.path.name for clip in found) == ["m.mp4", "other.mp4"]
    same = f"the same file as {file}, which is taken once"
    copy = f"a copy of {file}, which is taken once"
    assert left_out(folder) == {"a.mp4": same, "z.mp4": same, "y.mp4": copy}


def test_what_is_passed_over_is_listed(
    clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    file = Path(shutil.copy2(clips.clips[0].path, folder / "clip.mp4"))
    shutil.copy2(file, folder / "unnamed")
    shutil.copy2(file, folder / ".hidden.mp4")
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "notes.txt").write_text("not a video")
    answer = prepare(folder, capsys)
    assert sum(answer["clips"].values()) == 1  # type: ignore[attr-defined]
    assert left_out(folder) == {
        "unnamed": "a file without a suffix; give it that of its container, such as .mp4",
        ".hidden.mp4": "a hidden file",
        "gone.mp4": "a link that leads nowhere",
        "elsewhere": "a link to a folder, which is not followed",
        "pipe.mp4": "not a regular file",
    }


def test_every_name_is_printed_on_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [folder / name for name in (NAMES["new line"], NAMES["markup"])]
    assert run(["predict", "tiny-synthetic", *map(str, files)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"{folder}/two lines.mp4" in printed
    assert str(files[1]) in printed
    assert run(["data", "check", str(files[0])]) in (0, 2)
    assert "two lines.mp4" in capsys.readouterr().out
