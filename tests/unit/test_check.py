from pathlib import Path

import numpy as np
import pytest

from zoo.data.check import MIN_SECONDS, check_clip, check_clips
from zoo.data.find import find_clips, find_videos
from zoo.errors import ManifestError
from zoo.media import decode, encode, shift_audio

SECONDS = 7.0


def picture(seconds: float = SECONDS) -> np.ndarray:
    """A small bright square that travels over grey."""
    frames = np.full((round(seconds * 25), 64, 64, 3), 90, np.uint8)
    for index, frame in enumerate(frames):
        at = index % 56
        frame[20:28, at : at + 8] = 230
    return frames


def noise(seconds: float = SECONDS) -> np.ndarray:
    """Noise that is twice as loud now and then."""
    rng = np.random.default_rng(0)
    levels = rng.choice([0.05, 0.1], 1 + round(seconds / 0.5)).repeat(8_000)
    num = round(seconds * 16_000)
    return (rng.normal(0, 1, num) * levels[:num]).astype(np.float32)


def flicker() -> np.ndarray:
    """Two levels in turn."""
    levels = np.resize([90, 130], 175).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (175, 64, 64, 3))


def ticking() -> tuple[np.ndarray, np.ndarray]:
    """A flash and a click every 0.52 s."""
    frames, samples = np.full((175, 64, 64, 3), 90, np.uint8), np.zeros(112_000)
    frames[::13] = 230
    for start in range(0, 112_000, 8_320):
        samples[start : start + 480] = 0.5 * np.sin(0.4 * np.arange(480))
    return frames, samples


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "good.mp4"
    encode(path, picture(), noise(), gop=25, container_options={"movflags": "faststart"})
    return path


def test_a_good_clip_has_no_problems(good: Path) -> None:
    report = check_clip(good)
    assert report.is_usable
    assert report.notes == ()
    assert report.duration_s == pytest.approx(SECONDS, abs=0.1)


def test_the_default_is_the_crop_plus_the_largest_offset(good: Path) -> None:
    assert pytest.approx(6.8) == MIN_SECONDS
    assert check_clip(good, min_seconds=7.5).problems[0].startswith("too short: 7.0")


@pytest.mark.parametrize(
    ("frames", "samples", "problem"),
    [
        (picture(), None, "no audio stream"),
        (None, noise(), "no video stream"),
        (picture(), 0 * noise(), "silent for 100%"),
        (np.repeat(picture()[:1], 175, axis=0), noise(), "stands still for 100%"),
        (picture(2), noise(2), "too short"),
    ],
)
def test_each_lack_has_its_reason(tmp_path: Path, frames, samples, problem: str) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, frames, samples)
    report = check_clip(path)
    assert not report.is_usable
    assert any(problem in each for each in report.problems), report


@pytest.mark.parametrize(
    ("frames", "samples", "note"),
    [
        (picture(), 0.3 * np.sin(0.2 * np.arange(112_000)), "no offset to find: the sound has no"),
        (picture(), np.random.default_rng(0).normal(0, 0.1, 112_000), "the sound has no events"),
        (flicker(), noise(), "no offset to find: the picture only flickers"),
        (ticking()[0], ticking()[1], "sound and picture repeat every 0.52 s: several offsets fit"),
    ],
)
def test_a_clip_without_an_offset_is_noted(tmp_path: Path, frames, samples, note: str) -> None:
    encode(tmp_path / "clip.mkv", frames, samples.astype(np.float32), audio_codec="pcm_s16le")
    report = check_clip(tmp_path / "clip.mkv")
    assert any(note in each for each in report.notes), report


def test_nearly_all_silent_is_silent_and_a_few_sounds_are_enough(tmp_path: Path) -> None:
    samples = noise()
    samples[round(0.02 * samples.size) :] = 0
    encode(tmp_path / "one.mp4", picture(), samples)
    assert "silent" in check_clip(tmp_path / "one.mp4").problems[0]
    samples = noise()
    samples[round(0.2 * samples.size) :] = 0
    encode(tmp_path / "some.mp4", picture(), samples)
    assert check_clip(tmp_path / "some.mp4").is_usable


def test_streams_that_start_apart_are_refused(good: Path, tmp_path: Path) -> None:
    shift_audio(good, tmp_path / "late.mp4", 0.5)
    (problem,) = check_clip(tmp_path / "late.mp4", min_seconds=5).problems
    assert "start apart" in problem
    assert "after video" in problem


def test_an_audio_that_ends_early_is_noted(tmp_path: Path) -> None:
    encode(tmp_path / "clip.mp4", picture(9), noise(7))
    report = check_clip(tmp_path / "clip.mp4")
    assert report.is_usable
    assert "audio ends" in report.notes[0]


def test_an_avi_has_a_clock_of_low_confidence(tmp_path: Path) -> None:
    encode(tmp_path / "clip.avi", picture(), noise(), video_codec="mpeg4", audio_codec="libmp3lame")
    assert any("low confidence" in note for note in check_clip(tmp_path / "clip.avi").notes)


def test_missing_text_and_truncated_files_are_reported(good: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    cut = good.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(cut[: round(0.6 * len(cut))])
    (tmp_path / "headless.mp4").write_bytes(cut[-1000:])
    for name in ("missing.mp4", "text.mp4", "headless.mp4"):
        report = check_clip(tmp_path / name)
        assert not report.is_usable, name
        assert name in report.problems[0]
    report = check_clip(tmp_path / "cut.mp4", min_seconds=3.0)
    assert report.is_usable
    assert any("the file ends after 0:0" in note for note in report.notes)


def test_reports_keep_the_order_and_progress_is_told(good: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = [tmp_path / "missing.mp4", good]
    reports = check_clips(paths, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert [report.path for report in reports] == paths
    assert [report.is_usable for report in reports] == [False, True]
    assert seen == [(1, 2), (2, 2)]


def test_clips_are_found_once_and_by_suffix(good: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.MP4", "sub/a.webm", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    names = [path.name for path in find_videos(tmp_path)]
    assert names == ["b.MP4", "a.webm"]
    assert find_clips([tmp_path, tmp_path / "b.MP4", good]) == [*find_videos(tmp_path), good]


def test_a_missing_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no video"):
        find_videos(tmp_path)
    with pytest.raises(ManifestError, match="does not exist"):
        find_videos(tmp_path / "nowhere")


def test_channels_that_cancel_are_noted_and_the_loudest_is_read(good, tmp_path):
    one = decode(good).samples
    stereo = np.stack([one, -one], 1)
    encode(tmp_path / "turned.mkv", decode(good).frames, stereo, audio_codec="pcm_s16le")
    np.testing.assert_allclose(decode(tmp_path / "turned.mkv").samples, one, atol=1e-4)
    report = check_clip(tmp_path / "turned.mkv")
    assert report.is_usable
    assert "the channels cancel each other when mixed; the loudest one is read" in report.notes
