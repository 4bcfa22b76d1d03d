"""`zoo predict` on any clip, as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.media import decode, encode


@pytest.fixture
def clip(clips: Manifest) -> str:
    return str(clips.clips[0].path)


def test_a_plot_of_the_offset_over_time(
    clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "over time.png"
    command = ["predict", "tiny-synthetic", clip, "--json", "--plot", str(plot)]
    assert run(command) == 0
    told = capsys.readouterr()
    assert f"plot: {plot}" in told.err
    [answer] = json.loads(told.out)
    assert answer["over_time"]["meaning"].endswith(" s throughout")
    [stretch] = answer["over_time"]["stretches"]
    assert (stretch["start_s"], stretch["end_s"]) == (0.0, answer["duration_s"])
    assert stretch["offset_s"] == pytest.approx(0.0, abs=0.04)
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


@pytest.fixture(scope="module")
def nothing(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose sound is silent, one with a tone, and a still one."""
    folder = tmp_path_factory.mktemp("nothing")
    window = decode(clips.clips[0].path)
    assert window.frames is not None
    assert window.samples is not None
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(window.samples)) / 16_000)
    encode(folder / "silence.mp4", window.frames, 0 * window.samples)
    encode(folder / "tone.mp4", window.frames, tone.astype(np.float32))
    encode(folder / "still.mp4", np.repeat(window.frames[:1], 225, axis=0), window.samples)
    return folder


REASONS = {
    "silence.mp4": "the sound is silent",
    "still.mp4": "the picture does not change",
    "tone.mp4": "the sound has no events",
}


@pytest.mark.parametrize("options", [[], ["--max-offset", "30"], ["--step", "0.04"]])
def test_where_nothing_is_to_measure_there_is_a_reason_and_no_number(
    nothing: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "tiny-synthetic", str(nothing), "--json", *options]) == 2
    answers = json.loads(capsys.readouterr().out)
    assert {Path(answer["path"]).name: answer["reason"] for answer in answers} == REASONS
    assert all(set(answer) == {"path", "error", "reason"} for answer in answers)
    assert run(["predict", "tiny-synthetic", str(nothing / "tone.mp4"), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "has no offset to find: the sound has no events" in " ".join(printed.err.split())


def test_the_reason_is_a_column_and_keeps_a_repair_away(
    nothing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "fixed.mp4"
    command = ["predict", "tiny-synthetic", str(nothing), "--csv", str(table), "--workers", "1"]
    assert run(command) == 2
    rows = table.read_text().splitlines()[1:]
    assert all(reason in row for reason, row in zip(REASONS.values(), rows, strict=True))
    for name, reason in REASONS.items():
        assert run(["fix", "tiny-synthetic", str(nothing / name), "-o", str(out)]) == 2
        assert reason in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_silent_still_and_tone_clips_are_not_scored(
    nothing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["desync", "tiny-synthetic", "--videos", str(nothing)]) == 2
    assert "the sound is silent" in " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flash and, 0.2 s later, a click, exactly every 0.48 s."""
    path = tmp_path_factory.mktemp("repeating") / "repeating.mp4"
    frames = np.full((12, 64, 64, 3), 90, np.uint8)
    frames[3] = 230
    at = np.arange(7_680) - 5_120  # samples of a period, from the click on
    beat = 0.5 * np.sin(2 * np.pi * at / 16) * ((at >= 0) & (at < 480))
    encode(path, np.tile(frames, (20, 1, 1, 1)), np.tile(beat.astype(np.float32), 20))
    return path


def test_a_clip_that_repeats_names_all_offsets_that_fit(
    repeating: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, most in ([], 1 / 8), (["--max-offset", "30"], 1 / 20):
        assert run(["predict", "tiny-synthetic", str(repeating), "--json", *options]) == 0
        [answer] = json.loads(capsys.readouterr().out)
        assert answer["repeats"]["period_s"] == pytest.approx(0.48, abs=0.005)
        assert answer["confidence"] <= most
        assert answer["synchronizability"] is None
        offsets_s = np.asarray(answer["repeats"]["offsets_s"])
        assert np.abs(offsets_s + 0.2).min() < 0.08
        assert answer["refined_s"] in offsets_s
        steps_s = np.diff(offsets_s)
        assert steps_s == pytest.approx(np.full(len(steps_s), 0.48), abs=0.005)
        assert "every 0.48 s from it fit equally well" in answer["meaning"]
    assert run(["predict", "tiny-synthetic", str(repeating)]) == 0
    printed = capsys.readouterr().out
    assert "can be synchronized" not in printed
    assert "to repair" not in printed
    out = tmp_path / "fixed.mp4"
    assert run(["fix", "tiny-synthetic", str(repeating), "-o", str(out)]) == 2
    assert "sound and picture repeat" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
