"""Film clips: what is heard happens where it is seen, and nothing else tells the time."""

from pathlib import Path

import numpy as np
import pytest

from plugins.synthetic import clip
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import FILM, SyntheticConfig
from plugins.synthetic.film.camera import SHORTEST_SHOT_S, sample_camera
from plugins.synthetic.film.cast import LASTING, STRIKES, envelope, play
from plugins.synthetic.film.schedule import (
    MARGIN_S,
    SHORTEST_GAP_S,
    Schedule,
    Times,
    sample_schedule,
)
from plugins.synthetic.film.sound import music, sound_of
from plugins.synthetic.film.textures import leaves, outline, sprite
from zoo.data.rule import find_offset, read_content
from zoo.media import probe

SMALL = {"kind": "film", "size": 32, "seconds": 3.0, "seed": 7}
ONE = Schedule(np.array([1.5]), np.array([0.8]), np.array([0.4]))
Rng = np.random.default_rng


@pytest.mark.parametrize("difficulty", list(FILM))
def test_a_film_clip_depends_on_seed_and_index_only(difficulty: str) -> None:
    config = SyntheticConfig(difficulty=difficulty, **SMALL)
    frames, samples, truth = clip.render(config, 3)
    again = clip.render(config, 3)
    assert frames.shape == (round(3 * truth.fps), 32, 32, 3)
    assert samples.shape == (48_000,)
    assert 0 < np.abs(samples).max() <= 1
    np.testing.assert_array_equal(frames, again[0])
    np.testing.assert_array_equal(samples, again[1])
    assert truth == clip.describe(config, 3)
    assert not np.array_equal(samples, clip.render(config, 4)[1])


def test_events_are_as_likely_anywhere_in_the_clip() -> None:
    rng = Rng(0)
    times_s = np.concatenate([sample_schedule(rng, 9.0).times_s for _ in range(3000)])
    counts, _ = np.histogram(times_s, bins=9, range=(0, 9))
    assert 0.93 < counts.min() / counts.mean() <= counts.max() / counts.mean() < 1.07


def test_events_keep_apart_and_go_on_beyond_both_ends() -> None:
    rng = Rng(1)
    schedules = [sample_schedule(rng, 9.0) for _ in range(300)]
    for schedule in schedules:
        gaps_s = np.diff(schedule.times_s)
        assert gaps_s.min(initial=9) >= SHORTEST_GAP_S - 1e-9
        assert np.all(schedule.lengths_s[:-1] < gaps_s)
        assert 0.25 <= schedule.strengths.min() <= schedule.strengths.max() <= 1
    assert min(schedule.times_s[0] for schedule in schedules) < -0.8 * MARGIN_S
    assert max(schedule.times_s[-1] for schedule in schedules) > 9 + 0.8 * MARGIN_S


def test_a_lasting_event_begins_at_its_time_and_ends_with_its_length() -> None:
    schedule = sample_schedule(Rng(2), 9.0)
    for time_s, length_s in zip(schedule.times_s, schedule.lengths_s, strict=True):
        at_s = time_s + length_s * np.array([-0.02, 0.5, 1.01])
        before, during, after = envelope(schedule, at_s, 0.05, 0.4)
        assert before == pytest.approx(0, abs=1e-6)
        assert during > 0.2
        assert after == pytest.approx(0, abs=1e-6)


def tracks_of(kind: str, seed: int, schedule: Schedule, times_s: Times) -> list[Times]:
    """Return where all parts of a kind are, how large and how bright: one ``(6, T)`` for each."""
    poses = [part.pose(times_s) for part in play(kind, Rng(seed), schedule)]
    return [np.array([p.x, p.y, p.angle, p.half_width, p.half_height, p.opacity]) for p in poses]


@pytest.mark.parametrize("kind", STRIKES)
def test_what_happens_at_once_is_seen_when_it_is_heard(kind: str) -> None:
    """The largest change of speed is at the event, in nearly all scenes."""
    times_s = np.arange(0, 3, 0.01)
    far_s = []
    for seed in range(12):
        tracks = tracks_of(kind, seed, ONE, times_s)
        bends = sum(np.abs(np.diff(track, n=2)).sum(axis=0) for track in tracks)
        far_s.append(abs(times_s[1 + int(np.argmax(bends))] - ONE.times_s[0]))
    assert sum(t <= 0.021 for t in far_s) >= 10


@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_moves_while_it_is_heard(kind: str) -> None:
    times_s = np.arange(0, 3, 0.01)
    since_s = times_s[1:-1] - ONE.times_s[0]
    moves_more = []
    for seed in range(12):
        tracks = tracks_of(kind, seed, ONE, times_s)
        bends = sum(np.abs(np.diff(track, n=2)).sum(axis=0) for track in tracks)
        during = bends[(since_s > 0) & (since_s < ONE.lengths_s[0])].mean()
        moves_more.append(during > 1.5 * bends[(since_s < -0.1) | (since_s > 0.6)].mean())
    assert all(moves_more)


@pytest.mark.parametrize("kind", [*STRIKES, *LASTING])
def test_every_pose_can_be_drawn(kind: str) -> None:
    for seed in range(12):
        for track in tracks_of(kind, seed, sample_schedule(Rng(seed), 9.0), np.arange(0, 9, 0.01)):
            assert np.isfinite(track).all()
            assert (track[3:5] > 0).all()


@pytest.mark.parametrize("lasts", [False, True])
def test_every_sound_begins_with_its_event(lasts: bool) -> None:
    for seed in range(12):
        rng = Rng(seed)
        track = np.abs(sound_of(rng, lasts)(rng, ONE, 48_000))
        onset = round(float(ONE.times_s[0]) * 16_000)
        assert track[:onset].max() < 1e-3 * track.max()
        assert track[onset : onset + 1600].max() > 0.1 * track.max()


def test_a_short_clip_has_a_schedule_too() -> None:
    rng = Rng(4)
    assert all(sample_schedule(rng, 2.0).times_s.size for _ in range(3000))


def test_music_does_not_begin_its_beat_with_the_clip() -> None:
    loud = [np.abs(music(Rng(seed), 2.0, 32_000)).reshape(40, -1).max(axis=1) for seed in range(60)]
    profile = np.mean([track / track.max() for track in loud], axis=0)
    assert profile[0] < 1.15 * profile.mean()


def test_cuts_are_a_second_apart_and_change_the_view() -> None:
    rng = Rng(3)
    cameras = [sample_camera(rng, 9.0, cut_share=1.0, jolts=None) for _ in range(100)]
    assert min(np.diff(camera.cuts_s).min(initial=9) for camera in cameras) >= SHORTEST_SHOT_S
    camera = next(camera for camera in cameras if len(camera.cuts_s) == 2)
    assert (
        0.3
        < np.mean([camera.cuts_s[0] < 4.5 for camera in cameras if len(camera.cuts_s) == 1])
        < 0.7
    )
    view = camera.view(np.append(camera.cuts_s, 9.0) - 0.01)
    assert view.shot.tolist() == [0, 1, 2]
    assert len(set(view.x)) == 3
    assert all(len(sample_camera(rng, 9.0, 0.0, None).shots) == 1 for _ in range(20))


def test_textures_have_the_spectrum_of_photographs() -> None:
    """Their amplitude falls roughly as 1 / f (Field, 1987: slopes of 0.7 to 1.5)."""
    slopes = []
    for seed in range(8):
        grey = leaves(Rng(seed), 96).mean(axis=0)
        amplitude = np.abs(np.fft.fft2(grey - grey.mean()))
        far = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
        mids, means = [], []
        for low in np.geomspace(0.03, 0.3, 8):
            ring = (far >= low) & (far < 1.3 * low)
            mids.append(np.log(1.15 * low))
            means.append(np.log(amplitude[ring].mean()))
        slopes.append(-np.polyfit(mids, means, 1)[0])
    assert 0.7 < np.mean(slopes) < 1.5


def test_outlines_fill_their_square_without_being_cut_off() -> None:
    for seed in range(20):
        cover = outline(Rng(seed), 48)
        assert cover[[0, -1]].max() < 0.5
        assert cover[:, [0, -1]].max() < 0.5
        assert cover.mean() > 0.2
        picture = sprite(Rng(seed), 48)
        assert picture.shape == (4, 48, 48)
        assert (picture[:3] <= picture[3] + 1e-6).all()


def test_the_rule_finds_the_sound_where_the_picture_moves(tmp_path: Path) -> None:
    """Where it answers at all, sound and picture are less than two frames apart."""
    config = SyntheticConfig(kind="film", size=64, seed=3, difficulty="easy")
    off_s = []
    for index in range(8):
        clip.write(config, index, tmp_path / f"{index}.mp4")
        off_s.append(find_offset(read_content(tmp_path / f"{index}.mp4"), 2.0).offset_s)
    hits = np.array([t for t in off_s if abs(t) <= 0.15])
    assert len(hits) >= 4
    assert abs(np.median(hits)) <= 0.08


def test_a_folder_of_film_clips_has_many_frame_rates(tmp_path: Path) -> None:
    config = SyntheticConfig(**{**SMALL, "seconds": 2.0})
    manifest = render_folder(tmp_path / "film", config, 8, {"train": 1.0}, workers=1)
    rates = {found.video_fps for found in manifest.clips}
    assert len(rates) > 1
    for found in manifest.clips:
        media = probe(found.path)
        assert media.video is not None
        assert media.video.fps == pytest.approx(found.video_fps)
        assert found.label in STRIKES | LASTING
        assert found.duration_s == 2.0
