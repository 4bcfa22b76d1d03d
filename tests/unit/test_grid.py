"""GRID as it is downloaded: speakers, sentences, alignments, MPEG-PS, and the recipes for it."""

from __future__ import annotations

import csv
import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.grid import GridConfig
from plugins.grid.adapter import Grid
from zoo import ClipRecord, testing
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ManifestError
from zoo.media import decode, encode, probe
from zoo.training.recipe import Recipe
from zoo.training.rehearsal import check_clips, check_fit
from zoo.training.request import TrainRequest, draft_recipe

REAL = Path(__file__).parents[3] / "shared" / "real" / "talking"
# Of every muxer: codecs of a film, its rate of the sound.
MUXERS = {
    "mpg": ("mpeg1video", "mp2", 44_100),
    "vob": ("mpeg2video", "mp2", 48_000),
    "dvd": ("mpeg2video", "ac3", 48_000),
}
EVENTS_S = (0.8, 1.6, 2.4)  # on the 25 fps lattice
BEEP_S = 0.02
ALIGNED = """\
0 14500 sil
14500 20000 bin
20000 26500 blue
26500 30250 at
30250 35000 f
35000 35500 sp
35500 41000 two
41000 53500 now
53500 74500 sil
"""
WORDS = (
    (0.58, 0.8, "bin"),
    (0.8, 1.06, "blue"),
    (1.06, 1.21, "at"),
    (1.21, 1.4, "f"),
    (1.42, 1.64, "two"),
    (1.64, 2.14, "now"),
)


def write_clip(path: Path, muxer: str = "mpg", seconds: float = 3.0) -> Path:
    """Write a film that flashes and beeps at three moments.

    Frames are larger than a packet of 2 kB, as in the corpus: where several share one, FFmpeg's
    muxer may write the time of the next.
    """
    video, audio, rate_hz = MUXERS.get(muxer, ("libx264", "aac", 16_000))
    shape = round(seconds * 25), 72, 90, 3
    frames = np.random.default_rng(0).integers(0, 100, shape, np.uint8)
    samples = np.zeros(round(seconds * rate_hz), np.float32)
    beep = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(round(BEEP_S * rate_hz)) / rate_hz)
    for event_s in EVENTS_S:
        frames[round(event_s * 25) :][:4] += 150
        there = samples[round(event_s * rate_hz) :][: len(beep)]
        there[:] = beep[: len(there)]
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(f".{muxer}")
    how: dict[str, Any] = {"video_codec": video, "audio_codec": audio}
    how["video_options"] = {"b": "1150k"}
    encode(made, frames, samples, fps=25, sample_rate_hz=rate_hz, **how)
    return made.rename(path)


def write_alignment(folder: Path, *names: str, text: str = ALIGNED) -> None:
    for name in names:
        path = folder / f"{name}.align"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def touch(folder: Path, *names: str) -> Path:
    """Make empty files: an adapter goes by names only."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven sentences in the folders of the downloads, two of them damaged; and alignments."""
    folder = tmp_path_factory.mktemp("grid")
    write_clip(folder / "s1" / "bbaf2n.mpg")
    write_clip(folder / "s3.mpg_6000.part1" / "s3" / "video" / "mpg_6000" / "lgwz8p.mpg", "vob")
    write_clip(folder / "s5" / "sbia1a.mpg")
    write_clip(folder / "s6" / "swiz3n.mpg", "dvd")
    write_clip(folder / "s7" / "lbax4n.mp4", "mp4")
    write_clip(folder / "s8" / "prwq3s.mpg", seconds=1.0)
    (folder / "s9").mkdir()
    (folder / "s9" / "pgid6p.mpg").write_bytes(b"no film" * 100)
    names = ("s1/bbaf2n", "s3/lgwz8p", "s5/sbia1a", "s6/swiz3n", "s9/pgid6p")
    write_alignment(folder / "alignments", *names)
    return folder


@pytest.fixture(scope="module")
def manifest(corpus: Path) -> Path:
    """The manifest of the corpus, made by the command."""
    path = corpus / "grid.parquet"
    assert run(["data", "prepare", "grid", "--videos", str(corpus), "-o", str(path)]) == 0
    return path


def scan(videos: Path, **options: Any) -> dict[str, ClipRecord]:
    records = Grid(GridConfig(**options)).scan(videos)
    return {record.path.relative_to(videos).as_posix(): record for record in records}


def splits(videos: Path, **options: Any) -> dict[str, str]:
    return {name: record.split for name, record in scan(videos, **options).items()}


def left_out(videos: Path, **options: Any) -> dict[str, str]:
    adapter = Grid(GridConfig(**options))
    list(adapter.scan(videos))
    return {
        one.id or one.path.relative_to(videos).as_posix(): one.reason  # type: ignore[union-attr]
        for one in adapter.left_out() or []
    }


def test_the_corpus_as_downloaded_becomes_a_manifest(manifest: Path) -> None:
    clips = {clip.path.stem: clip for clip in Manifest.read(manifest).clips}
    assert {name: clip.split for name, clip in clips.items()} == {
        "bbaf2n": "test",
        "lgwz8p": "valid",
        "sbia1a": "train",
        "swiz3n": "train",
        "lbax4n": "train",
    }
    assert clips["bbaf2n"].events == WORDS
    assert clips["bbaf2n"].events_s == tuple(start_s for start_s, _, _ in WORDS)
    assert clips["lbax4n"].events_s is None
    assert all(2.9 < clip.duration_s <= 3.0 for clip in clips.values())
    with manifest.with_name("grid.left_out.csv").open() as file:
        rejected = {Path(row["path"]).stem: row["reason"] for row in csv.DictReader(file)}
    assert rejected.keys() == {"prwq3s", "pgid6p"}
    assert rejected["prwq3s"].startswith("too short")


def test_the_adapter_keeps_its_promises(corpus: Path) -> None:
    testing.check_dataset("grid", corpus)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("s1/bbaf2n.mpg", "test"),
        ("S20/video/mpg_6000/BBAF2N.MPG", "test"),
        ("s2.mpg_vcd/bbaf2n.mpg", "test"),
        ("s22_processed/bbaf2n.mp4", "test"),
        ("s03/bbaf2n.mkv", "valid"),
        ("s4.mpg_6000.part2/s4/video/mpg_6000/bbaf2n.mpg", "valid"),
        ("s1/s12/bbaf2n.avi", "train"),
        ("s34/bbaf2n.mov", "train"),
    ],
)
def test_the_nearest_folder_of_a_speaker_decides(tmp_path: Path, name: str, split: str) -> None:
    assert splits(touch(tmp_path, name)) == {name: split}


def test_the_folder_of_one_speaker_will_do(tmp_path: Path) -> None:
    touch(tmp_path, "s20/bbaf2n.mpg")
    assert splits(tmp_path / "s20") == {"bbaf2n.mpg": "test"}


def test_files_that_are_no_clip_are_accounted_for(tmp_path: Path) -> None:
    names = ("s1/bbaf2n.mpg", "s1/hd/bbaf2n.mpg", "s35/bbaf2n.mpg", "bbaf2n.mpg", "s1/holiday.mpg")
    videos = touch(tmp_path, *names, "s1/bbwf2n.mpg", "s1/bbaw2n.mpg")
    assert list(scan(videos)) == ["s1/bbaf2n.mpg", "s1/bbwf2n.mpg"]
    assert left_out(videos) == {
        "s1/hd/bbaf2n.mpg": "another file of the same clip is used",
        "s35/bbaf2n.mpg": "not in the folder of a speaker, s1 to s34",
        "bbaf2n.mpg": "not in the folder of a speaker, s1 to s34",
        "s1/holiday.mpg": "not named like a sentence",
        "s1/bbaw2n.mpg": "not named like a sentence",
    }


def test_a_folder_without_clips_says_how_they_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"named <speaker>/<sentence>.*the first, a.mpg, is not"
    ):
        scan(touch(tmp_path, "a.mpg", "b.mpg"))


# --- splits ---

SENTENCES = [
    "".join(word) for word in itertools.product("b", "bgrw", "a", "abcde", "12345", "anps")
]


def test_unseen_speakers_are_held_out(tmp_path: Path) -> None:
    videos = touch(tmp_path, *(f"s{n}/bbaf2n.mpg" for n in range(1, 35) if n != 21))
    assert Counter(splits(videos).values()) == {"train": 27, "valid": 2, "test": 4}
    found = splits(videos, test_speakers="3, s5", valid_speakers="")
    assert [name for name, split in found.items() if split == "test"] == [
        "s3/bbaf2n.mpg",
        "s5/bbaf2n.mpg",
    ]
    assert "valid" not in found.values()


def test_sentences_of_all_speakers_may_be_held_out_instead(tmp_path: Path) -> None:
    videos = touch(tmp_path, *(f"s{n}/{name}.mpg" for n in (1, 3, 5) for name in SENTENCES))
    options: dict[str, Any] = {"test_speakers": "", "valid_speakers": "", "test": 0.255}
    found = splits(videos, **options, valid=0.05)
    for speaker in ("s1", "s3", "s5"):
        count = Counter(split for name, split in found.items() if name.startswith(f"{speaker}/"))
        assert count["test"] == pytest.approx(0.255 * 400, abs=30)
        assert count["valid"] == pytest.approx(0.05 * 400, abs=15)
    fewer = splits(videos / "s1", **options, valid=0.05)
    assert all(found[f"s1/{name}"] == split for name, split in fewer.items())
    assert splits(videos, **options, valid=0.05, seed=1) != found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_speakers": "1,35"}, "there is no speaker 35: GRID has 1 to 34"),
        ({"test_speakers": "1,3"}, "speaker 3 cannot be both for validation and for testing"),
        ({"test_speakers": "1,Anna"}, "'anna' is no speaker: give numbers, such as 1,2,20,22"),
        ({"test": 0.7, "valid": 0.4}, "are more than everything"),
    ],
)
def test_a_split_that_cannot_be_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "s1/bbaf2n.mpg")
    words = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    out = str(tmp_path / "m.parquet")
    assert run(["data", "prepare", "grid", "--videos", str(tmp_path), "-o", out, *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


# --- alignments ---


@pytest.mark.parametrize("place", ["alignments/s1", "s1/align", "s1", "alignments/alignments/s1"])
def test_alignments_are_found_below_the_videos(tmp_path: Path, place: str) -> None:
    touch(tmp_path, "s1/bbaf2n.mpg", "s1/._bbaf2n.align")
    write_alignment(tmp_path / place, "bbaf2n")
    assert scan(tmp_path)["s1/bbaf2n.mpg"].events == WORDS


def test_alignments_may_lie_elsewhere(tmp_path: Path) -> None:
    videos = touch(tmp_path / "v", "s1/bbaf2n.mpg")
    write_alignment(tmp_path / "alignments" / "s1", "bbaf2n")
    assert scan(videos, meta=tmp_path / "alignments")["s1/bbaf2n.mpg"].events == WORDS
    with pytest.raises(ManifestError, match=r"meta: .*v holds no alignment"):
        scan(videos, meta=videos)


def test_without_alignments_clips_have_no_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        [record] = scan(touch(tmp_path, "s1/bbaf2n.mpg")).values()
    assert (record.events, record.events_s) == (None, None)
    assert "the clips have no words; the option 'meta' may name another folder" in caplog.text


def test_aligned_sentences_without_a_video_are_missing(tmp_path: Path) -> None:
    touch(tmp_path, "s1/bbaf2n.mpg")
    write_alignment(tmp_path / "alignments", "s1/bbaf2n", "s1/lgwz8p", "s21/lgwz8p")
    assert left_out(tmp_path) == {"s1/lgwz8p": "there is no file"}


def test_exchanged_folders_of_alignments_are_told_by_their_sentences(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    five, six = [f"s5/{name}.mpg" for name in SENTENCES[:9]], ["s6/bbaa1a.mpg", "s6/sbia1a.mpg"]
    touch(tmp_path, *five, *six, "s7/lbax4n.mpg", "s7/lgwz8p.mpg", "s7/sbia1a.mpg")
    write_alignment(tmp_path / "alignments" / "s6", *SENTENCES[:9])
    write_alignment(tmp_path / "alignments" / "s5", "sbia1a", "bbaa1a")
    with caplog.at_level(logging.WARNING):
        found = scan(tmp_path)
    assert all(found[name].events == WORDS for name in (*five, *six))
    assert found["s7/sbia1a.mpg"].events is None
    assert "lie in another folder: those of s5 in s6, those of s6 in s5" in caplog.text
    assert "no alignments for most of the sentences of s7" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a damaged alignment: it holds no word"),
        ("0 74500 sil\n", "a damaged alignment: it holds no word"),
        ("0 1000 bin\n1000 blue\n", "not an alignment: it has the line '1000 blue', expected"),
        ("0 1.5 bin\n", "not an alignment: it has the line '0 1.5 bin'"),
        ("2000 1000 bin\n", "a damaged alignment: in '2000 1000 bin' the times are not in order"),
        ("0 2000 bin\n1000 3000 at\n", "a damaged alignment: in '1000 3000 at' the times"),
        ("-1 2000 bin\n", "a damaged alignment: in '-1 2000 bin' the times"),
    ],
)
def test_a_damaged_alignment_costs_the_words_and_not_the_clip(
    tmp_path: Path, text: str, reason: str
) -> None:
    touch(tmp_path, "s1/bbaf2n.mpg")
    write_alignment(tmp_path / "s1" / "align", "bbaf2n", text=text)
    assert scan(tmp_path)["s1/bbaf2n.mpg"].events is None
    assert left_out(tmp_path)["s1/align/bbaf2n.align"].startswith(reason)


# --- MPEG-PS ---


@pytest.mark.parametrize("muxer", MUXERS)
def test_program_streams_are_read_on_the_clock(tmp_path: Path, muxer: str) -> None:
    clip = write_clip(tmp_path / "bbaf2n.mpg", muxer)
    info = probe(clip)
    assert info.container == "mpeg"
    assert info.video is not None
    assert info.video.fps == 25
    window = decode(clip, start_s=0.0, duration_s=2.8, fps=25, sample_rate_hz=16_000)
    is_white = window.frames.mean(axis=(1, 2, 3)) > 130
    flashes = np.flatnonzero(is_white[1:] & ~is_white[:-1]) + 1
    np.testing.assert_array_equal(flashes / 25, EVENTS_S)
    loud = np.flatnonzero(np.abs(window.samples) > 0.1) / 16_000
    beeps_s = [loud[0], *loud[1:][np.diff(loud) > 0.2]]
    np.testing.assert_allclose(beeps_s, EVENTS_S, atol=0.002)


# --- recipes ---


def recipe_of(name: str, manifest: Path, **options: Any) -> tuple[TrainRequest, Recipe]:
    request = TrainRequest(extractor="ast_motionformer", recipe=name, data=str(manifest), **options)
    return request, draft_recipe(request, 0)


@pytest.mark.parametrize(
    ("name", "preset", "settings", "size"),
    [
        ("grid", "paper", {}, (224, 256)),
        ("grid_tiny", "tiny", {}, (64, 72)),
        ("grid_tiny", "tiny", {"frontend.size": 128, "frontend.short_side": 144}, (128, 144)),
    ],
)
def test_a_recipe_fits_clips_of_3_s(
    manifest: Path, name: str, preset: str, settings: dict[str, Any], size: tuple[int, int]
) -> None:
    larger = {f"vision.{key}": value for key, value in settings.items()}
    request, recipe = recipe_of(name, manifest, set=larger)
    assert request.stages(recipe) == (1, 2)
    assert recipe.preset == preset
    vision = recipe.model.encoder_config().io().vision.frontend
    assert (vision.size, vision.short_side) == size  # type: ignore[union-attr]
    assert recipe.model.task is not None
    grid = recipe.model.task_config().grid  # type: ignore[attr-defined]
    assert np.allclose(np.diff(grid.offsets_s), 0.04)
    assert grid.offsets_s[0] == -0.6
    check_fit(recipe, (1, 2))
    for split in ("train", "valid"):
        check_clips(recipe, (1, 2), split, list(Manifest.read(manifest).select(split).clips))


def test_a_recipe_takes_more_steps_for_more_clips(manifest: Path) -> None:
    _, few = recipe_of("grid_tiny", manifest)
    whole = draft_recipe(TrainRequest(extractor="ast_motionformer", recipe="grid_tiny"), 0)
    assert (few.stage1.steps, few.stage2.steps) == (1400, 300)
    assert (whole.stage1.steps, whole.stage2.steps) == (9000, 6750)
    assert (few.data.cache, whole.data.cache) == (True, False)


@pytest.mark.usefixtures("in_process")
def test_the_tiny_recipe_trains_on_program_streams(manifest: Path, tmp_path: Path) -> None:
    few = {"stage1.steps": 1, "stage1.clips": 2, "stage2.steps": 1, "stage2.batch": 2}
    words = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    given = ["--extractor", "ast_motionformer", "--recipe", "grid_tiny", "--data", str(manifest)]
    assert run(["train", *given, "--out", str(tmp_path / "run"), *words]) == 0
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()
    assert run(["evaluate", str(tmp_path / "run"), "--data", str(manifest), "--rounds", "1"]) == 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the GRID sentences are not beside this checkout")
def test_cropped_faces_of_a_speaker_are_read() -> None:
    found = scan(REAL)
    assert len(found) > 400
    assert {name.split("/")[0] for name in found} == {"s1"}
    assert {record.split for record in found.values()} == {"test"}
    strangers = [name for name in left_out(REAL) if name.startswith("others/")]
    assert len(strangers) == len(list((REAL / "others").glob("*.mp4")))
