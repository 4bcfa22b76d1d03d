"""`zoo predict` on any clip, as a user meets it."""

import json
from pathlib import Path

import pytest

from zoo.cli.app import run
from zoo.data.manifest import Manifest


@pytest.fixture
def clip(clips: Manifest) -> str:
    return str(clips.clips[0].path)


def test_a_plot_of_the_offset_over_time(
    clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "over time.png"
    command = ["predict", "tiny-synthetic", clip, "--json", "--plot", str(plot)]
    assert run(command) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["over_time"]["meaning"] == "0.0 s throughout"
    assert answer["over_time"]["stretches"][0]["end_s"] == answer["duration_s"]
    assert answer["synchronizability"] > 0.5
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [plot]
    assert run(command) == 2
    assert "exists; choose another file" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--plot", "{folder}/a.txt"], "is no plot; end its name in .png"),
        (["--plot", "{folder}/nowhere/a.png"], "there is no folder"),
        (["--plot", "a.png", "--csv", "{folder}/a.csv"], "leave it out with --csv"),
        (["--audio", "{folder}/missing.wav"], "there is no file"),
        (["--audio-track", "2"], "has one audio track, so there is no track 2"),
        (["--every", "0"], "--every 0 is not above 0 seconds"),
        (["--every", "nan"], "--every nan is not above 0 seconds, or not finite"),
        (["--max-offset", "inf"], "--max-offset inf is not above 0 seconds, or not finite"),
        (["--max-offset", "-3"], "--max-offset -3 is not above 0 seconds"),
        (
            ["--synchronizability", "tiny-synthetic-sync"],
            "does not say whether a clip can be synchronized",
        ),
        (["--csv", "{folder}/nowhere/a.csv"], "there is no folder"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(
    clip: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    reason: str,
) -> None:
    options = [option.format(folder=tmp_path) for option in options]
    assert run(["predict", "tiny-synthetic", clip, *options]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_the_sound_of_one_file_is_for_one_clip(
    clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [str(clip.path) for clip in clips.clips[:2]]
    assert run(["predict", "tiny-synthetic", *two, "--audio", two[0]]) == 2
    assert "--audio is for one clip, and 2 are given" in capsys.readouterr().err


def test_a_folder_counts_as_the_clips_in_it(
    clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(clips.clips[0].path.parent)
    plot = tmp_path / "a.png"
    assert run(["predict", "tiny-synthetic", folder, "--plot", str(plot)]) == 2
    assert "--plot is for one clip, and 6 are given" in capsys.readouterr().err
    assert not plot.exists()


def test_brackets_in_names_are_names(
    clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "[" / "b] Title [dQw4w9WgXcQ].mp4"  # [/b] closes what was never opened
    path.parent.mkdir()
    path.write_bytes(clips.clips[0].path.read_bytes())
    assert run(["predict", "tiny-synthetic", str(path)]) == 0
    assert path.name in capsys.readouterr().out


def test_options_may_be_spelt_as_before(
    clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "a.png"
    command = ["predict", "tiny-synthetic", clip, "--json", "--every", "4"]
    assert run([*command, "--picture", str(plot), "--trust=none"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["synchronizability"] is None
    assert plot.exists()
