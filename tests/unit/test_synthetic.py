import json
from pathlib import Path

import numpy as np
import pytest

from plugins.folder import FolderConfig
from plugins.folder.adapter import Folder
from plugins.synthetic import clip, dense, sparse
from plugins.synthetic.clip_folder import SyntheticFolder, clip_path, render_folder, split_of
from plugins.synthetic.command import parse_split
from plugins.synthetic.config import SyntheticConfig
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ManifestError
from zoo.media import decode

SMALL = {"size": 32, "seconds": 3.0, "seed": 7}


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_clip_depends_on_seed_and_index_only(kind: str) -> None:
    config = SyntheticConfig(kind=kind, **SMALL)
    frames, samples, truth = clip.render(config, 3)
    again = clip.render(config, 3)
    assert frames.shape == (75, 32, 32, 3)
    assert samples.shape == (48_000,)
    np.testing.assert_array_equal(frames, again[0])
    np.testing.assert_array_equal(samples, again[1])
    assert truth == clip.describe(config, 3)
    assert truth != clip.describe(config, 4)
    other = clip.render(config.model_copy(update={"seed": 8}), 3)
    assert not np.array_equal(frames, other[0])


def test_the_sparse_and_dense_clips_of_a_recipe_stay_what_they_were() -> None:
    sparse_truth = clip.describe(SyntheticConfig(seed=11, seconds=6.0), 0)
    dense_truth = clip.describe(SyntheticConfig(kind="dense", seed=11, seconds=6.0), 0)
    assert sparse_truth.label == "snare"
    assert sparse_truth.events_s == pytest.approx(
        [0.398018, 1.158689, 3.052358, 3.762101, 4.546196], abs=1e-6
    )
    assert dense_truth.label == "flute"
    assert dense_truth.events_s[:3] == pytest.approx([0.076, 0.354, 0.628], abs=1e-6)


def test_a_scene_looks_the_same_at_any_size() -> None:
    small = SyntheticConfig(seconds=2.0, size=32)
    large = small.model_copy(update={"size": 128})
    coarse = clip.render(small, 0)[0].astype(float)
    fine = clip.render(large, 0)[0].astype(float)
    shrunk = fine.reshape(50, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.corrcoef(coarse.ravel(), shrunk.ravel())[0, 1] > 0.95


def test_sparse_clips_hold_three_to_seven_spaced_events_one_near_the_middle() -> None:
    for index in range(200):
        times_s = sparse.sample_times(np.random.default_rng(index), 9.0)
        inside = times_s[(times_s >= 0) & (times_s < 9)]
        assert 3 <= inside.size <= 7
        assert np.diff(times_s).min() >= sparse.MIN_GAP_S
        assert np.abs(inside - 4.5).min() <= sparse.MIDDLE_S


def test_events_are_as_likely_anywhere_in_the_clip() -> None:
    rng = np.random.default_rng(0)
    times_s = np.concatenate([sparse.sample_times(rng, 9.0) for _ in range(2000)])
    counts, _ = np.histogram(times_s, bins=9, range=(0, 9))
    assert counts.max() / counts.mean() < 1.1
    assert counts.min() / counts.mean() > 0.9


def test_the_object_is_fastest_just_before_the_hit_and_stops_dead_at_it() -> None:
    planned = sparse.plan(np.random.default_rng(1), SyntheticConfig())
    actor = planned._actor()
    for impact in planned.impacts:
        pose = actor.pose(impact.time_s + np.array([-0.02, -0.01, 0.0, 0.01, 0.02]))
        steps = np.hypot(np.diff(pose.x), np.diff(pose.y))
        assert steps[1] > steps[0] > 0
        assert steps[2:] == pytest.approx([0, 0], abs=1e-9)
        ratio = pose.half_height / pose.half_width
        assert ratio[:2] == pytest.approx([1, 1], abs=1e-3)
        assert ratio[2] > ratio[3] > ratio[4] > 1


def test_higher_places_sound_higher_and_stronger_squashes_louder() -> None:
    impacts = sparse.plan(np.random.default_rng(1), SyntheticConfig()).impacts
    by_height = sorted(impacts, key=lambda impact: impact.stop[1], reverse=True)
    octaves = [impact.octaves for impact in by_height]
    assert octaves == sorted(octaves)
    by_squash = sorted(impacts, key=lambda impact: impact.squash)
    loudness = [impact.loudness for impact in by_squash]
    assert loudness == sorted(loudness)


def cut_around(
    signal: np.ndarray, events_s: list[float], rate: float, reach_s: float
) -> list[np.ndarray]:
    reach = round(reach_s * rate)
    at = [round(t * rate) for t in events_s]
    return [signal[i - reach : i + reach] for i in at if reach < i < signal.size - reach]


def test_decoded_from_mp4_the_sound_begins_at_the_event(tmp_path: Path) -> None:
    config = SyntheticConfig(size=32, difficulty="easy", seed=3)
    cuts = []
    for index in range(6):
        clip.write(config, index, tmp_path / "clip.mp4")
        samples = decode(tmp_path / "clip.mp4", video=False).samples
        assert samples is not None
        power = samples**2 / np.mean(samples**2)
        cuts += cut_around(power, clip.describe(config, index).events_s, 16_000, 0.1)
    mean = np.mean(cuts, axis=0).reshape(-1, 80).mean(axis=1)  # 5 ms steps
    assert mean[20:24].mean() > 20 * mean[:18].mean()
    assert abs(int(np.argmax(mean > 0.3 * mean.max())) - 20) <= 2  # 10 ms


def test_decoded_from_mp4_the_picture_moves_until_the_event(tmp_path: Path) -> None:
    config = SyntheticConfig(size=48, difficulty="easy", seed=3)
    cuts = []
    for index in range(6):
        clip.write(config, index, tmp_path / "clip.mp4")
        frames = decode(tmp_path / "clip.mp4", audio=False).frames
        assert frames is not None
        motion = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
        cuts += cut_around(motion, clip.describe(config, index).events_s, 25, 0.4)
    mean = np.mean(cuts, axis=0)
    # Step i of the motion lies between frames i and i + 1: the last ones before the event win.
    assert abs(int(np.argmax(mean)) - 9) <= 1


def test_the_mouth_opens_with_the_loudness_and_the_ball_follows_the_pitch() -> None:
    config = SyntheticConfig(kind="dense", difficulty="easy")
    planned = dense.plan(np.random.default_rng(0), config)
    _, mouth, _, ball = planned._face(np.random.default_rng(1))
    times_s = np.arange(0, 9, 0.04)
    loudness = planned.babble.at(planned.babble.opening, times_s)
    assert np.corrcoef(mouth.pose(times_s).half_height, loudness)[0, 1] > 0.99
    pitch = planned.babble.at(planned.babble.pitch, times_s)
    assert np.corrcoef(-ball.pose(times_s).y, pitch)[0, 1] > 0.9
    voice = planned._speak(np.random.default_rng(2))
    power = (voice**2).reshape(-1, 640).mean(axis=1)
    assert np.corrcoef(np.sqrt(power), loudness)[0, 1] > 0.7


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_the_mean_brightness_does_not_follow_the_sound(kind: str) -> None:
    config = SyntheticConfig(kind=kind, difficulty="easy", seed=1)
    found = []
    for index in range(10):
        frames, samples, _ = clip.render(config, index)
        brightness = frames.mean(axis=(1, 2, 3))
        loudness = np.sqrt((samples**2).reshape(len(frames), -1).mean(axis=1))
        found.append(np.corrcoef(np.diff(brightness), np.diff(loudness))[0, 1])
    assert abs(np.mean(found)) < 0.15


def test_difficulty_sets_the_noise() -> None:
    levels = []
    for difficulty in ("easy", "normal", "hard"):
        config = SyntheticConfig(size=32, difficulty=difficulty)
        ratios = []
        for index in range(8):
            samples = clip.render(config, index)[1]
            blocks = np.sort((samples**2).reshape(-1, 800).mean(axis=1))
            ratios.append(10 * np.log10(blocks[-3:].mean() / blocks[:90].mean()))
        levels.append(np.mean(ratios))
    assert levels[0] > levels[1] > levels[2]


def test_a_folder_is_the_same_for_any_number_of_workers_and_can_grow(tmp_path: Path) -> None:
    config = SyntheticConfig(size=32, seconds=2.0, seed=5)
    shares = parse_split("train=0.5,valid=0.25,test=0.25")
    one = render_folder(tmp_path / "one", config, 4, shares, workers=1)
    two = render_folder(tmp_path / "two", config, 4, shares, workers=2)
    assert one.sha256 == two.sha256
    for index in range(4):
        first, second = (clip_path(tmp_path / name, index) for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
    kept = clip_path(tmp_path / "one", 0).stat().st_mtime_ns
    grown = render_folder(tmp_path / "one", config, 5, shares, workers=1)
    assert clip_path(tmp_path / "one", 0).stat().st_mtime_ns == kept
    assert grown.clips[:4] == one.clips
    assert Manifest.read(tmp_path / "one" / "manifest.parquet") == grown
    lines = (tmp_path / "one" / "labels.jsonl").read_text().splitlines()
    assert json.loads(lines[4])["seed"] == [5, 4]
    records = list(SyntheticFolder().scan(tmp_path / "one"))
    assert [record.split for record in records] == [each.split for each in grown.clips]
    assert [record.path for record in records] == [each.path for each in grown.clips]


def test_another_recipe_or_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    config = SyntheticConfig(size=32, seconds=2.0)
    render_folder(tmp_path / "set", config, 1, {"train": 1.0}, workers=1)
    other = config.model_copy(update={"difficulty": "hard"})
    with pytest.raises(ManifestError, match="difficulty normal there, hard here"):
        render_folder(tmp_path / "set", other, 1, {"train": 1.0}, workers=1)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").touch()
    with pytest.raises(ManifestError, match="not a folder of synthetic clips"):
        render_folder(tmp_path / "foreign", config, 1, {"train": 1.0}, workers=1)
    with pytest.raises(ManifestError, match="not a folder of synthetic clips"):
        render_folder(tmp_path / "foreign" / "letter.txt", config, 1, {"train": 1.0}, workers=1)
    with pytest.raises(ManifestError, match="zoo data synth"):
        list(SyntheticFolder().scan(tmp_path / "foreign"))


def test_splits_have_their_shares_and_never_move() -> None:
    shares = parse_split("train=0.8,valid=0.1,test=0.1")
    splits = [split_of(index, shares) for index in range(200)]
    assert abs(splits.count("train") - 160) <= 2
    assert abs(splits.count("test") - 20) <= 2
    assert {split_of(index, parse_split("test")) for index in range(50)} == {"test"}


@pytest.mark.parametrize("text", ["trian", "train=x", "train=0", "train=2,valid=-1", ""])
def test_a_wrong_split_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError, match="split"):
        parse_split(text)


def test_a_clip_of_a_folder_keeps_its_split_when_others_come(tmp_path: Path) -> None:
    for index in range(40):
        (tmp_path / f"{index}.mp4").touch()
    adapter = Folder(FolderConfig(valid=0.2, test=0.2))
    before = {record.path: record.split for record in adapter.scan(tmp_path)}
    (tmp_path / "new.mp4").touch()
    after = {record.path: record.split for record in adapter.scan(tmp_path)}
    assert before.items() <= after.items()
    assert set(before.values()) == {"train", "valid", "test"}
    other = {r.path: r.split for r in Folder(FolderConfig(seed=1)).scan(tmp_path)}
    assert other != after
