"""The rule without learning, and AV-Align, which comes from the same tracks."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.cli.app import run
from zoo.data.content import BIN_S, Content, Tracks
from zoo.data.lags import correlate, refine
from zoo.data.manifest import Manifest
from zoo.data.rule import (
    LATE_S,
    av_align,
    find_maxima,
    find_offset,
    find_onsets,
    peaks_met,
    read_content,
)
from zoo.errors import MediaError, NothingToMeasureError
from zoo.evaluation.rounds import Outcome
from zoo.evaluation.rule_control import score_rule
from zoo.evaluation.sample_sources import Samples
from zoo.media import encode, shift_audio
from zoo.models.config import Component
from zoo.models.model import build_task
from zoo.timeline import OffsetGrid, Sample, SegmentLayout

RATE_HZ, FPS = 16_000, 25
EVENTS_S = (1.0, 1.72, 3.2, 4.6, 5.24, 7.0)


def _track(at_s: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return smooth bumps at random moments, at any times."""
    rng = np.random.default_rng(seed)
    moments_s, heights = rng.uniform(-5, 65, 60), rng.uniform(0.3, 1, 60)
    return (heights * np.exp(-0.5 * ((at_s[:, None] - moments_s) / 0.06) ** 2)).sum(axis=1)


class Given(Content):
    """Content whose tracks are known."""

    def __init__(self, onset: np.ndarray, motion: np.ndarray) -> None:
        super().__init__()
        self.given = Tracks(onset, motion)

    def tracks(
        self, audio_s: float = 0.0, video_s: float = 0.0, length_s: float = math.inf
    ) -> Tracks:
        return self.given

    def has_events(self, video_s: float, audio_s: float, length_s: float) -> bool:
        return True


def _clip(offset_s: float = 0.0, length_s: float = 9.0) -> Content:
    """Return a lamp that is switched, and clicks that come earlier by the offset."""
    content = Content()
    frames = np.full((round(length_s * FPS), 64, 64, 3), 90, np.uint8)
    times_s = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    sound = np.zeros(len(times_s))
    for number, event_s in enumerate(EVENTS_S):
        frames[round(event_s * FPS) :] = 90 if number % 2 else 235
        is_on = (times_s >= event_s - offset_s) & (times_s < event_s - offset_s + 0.03)
        sound += 0.5 * is_on * np.sin(2 * np.pi * 1000 * times_s)
    content.see(0.0, frames, FPS)
    content.hear(0.0, sound.astype(np.float32), RATE_HZ)
    return content


@pytest.mark.parametrize("offset_s", [0.0, 0.013, 0.5, 1.93, -0.027, -0.8, -1.707])
def test_tracks_that_are_shifted_are_found_to_a_few_milliseconds(offset_s: float) -> None:
    times_s = BIN_S * np.arange(1500)
    found = find_offset(Given(_track(times_s + offset_s), _track(times_s)), 2.0)
    assert found.offset_s == pytest.approx(offset_s - LATE_S, abs=0.005)
    assert found.correlation > 0.8
    assert found.next_correlation is not None
    assert found.next_correlation < 0.5 < found.correlation


def test_gaps_in_what_was_read_do_not_matter() -> None:
    times_s = BIN_S * np.arange(1500)
    onset, motion = _track(times_s + 0.4), _track(times_s)
    onset[200:500] = motion[700:900] = motion[::7] = np.nan
    assert find_offset(Given(onset, motion), 2.0).offset_s == pytest.approx(0.4 - LATE_S, abs=0.01)


def test_a_correlation_knows_which_track_is_later() -> None:
    one = np.zeros(100)
    one[40] = 1.0
    alike, meet = correlate(one, np.roll(one, 7), 10)
    assert refine(alike, int(alike.argmax())) - 10 == pytest.approx(7, abs=0.01)
    assert meet.tolist() == [100 - abs(lag) for lag in range(-10, 11)]
    assert alike.max() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("offset_s", [0.0, 0.6, -0.52, 1.8])
def test_early_audio_has_a_positive_offset(offset_s: float) -> None:
    found = find_offset(_clip(offset_s), 2.0)
    assert found.offset_s == pytest.approx(offset_s, abs=0.03)
    if offset_s:
        word = "early" if offset_s > 0 else "late"
        assert word in found.meaning
        assert word in str(found)


@pytest.mark.parametrize(("audio_s", "video_s"), [(2.0, 1.0), (0.4, 2.0), (1.0, 1.0)])
def test_crops_are_off_by_the_distance_of_their_starts(audio_s: float, video_s: float) -> None:
    found = find_offset(_clip(), 2.0, audio_s=audio_s, video_s=video_s, length_s=4.8)
    assert found.offset_s == pytest.approx(audio_s - video_s, abs=0.03)


def test_no_lag_beyond_the_reach_is_looked_at() -> None:
    assert abs(find_offset(_clip(1.5), 0.6).offset_s) <= 0.6 + BIN_S


@pytest.mark.parametrize(
    ("blank", "reason"),
    [("sound", "the sound is silent"), ("picture", "the picture does not change")],
)
def test_a_blank_stream_has_no_answer_but_a_reason(blank: str, reason: str) -> None:
    content, clip = Content(), _clip()
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 9 * RATE_HZ) * (np.arange(9 * RATE_HZ) // RATE_HZ % 2)
    frames = rng.integers(0, 255, (225, 64, 64, 3)).astype(np.uint8)
    content.hear(0.0, np.float32(0 * noise if blank == "sound" else noise), RATE_HZ)
    content.see(0.0, np.zeros_like(frames) if blank == "picture" else frames, FPS)
    with pytest.raises(NothingToMeasureError) as error:
        find_offset(content, 2.0)
    assert error.value.reason == reason
    assert find_offset(clip, 2.0)
    with pytest.raises(NothingToMeasureError):
        find_offset(Content(), 2.0)  # of which nothing was read


def test_tracks_that_never_meet_have_no_answer() -> None:
    onset, motion = _track(BIN_S * np.arange(400)), _track(BIN_S * np.arange(400))
    onset[100:], motion[:300] = np.nan, np.nan
    with pytest.raises(NothingToMeasureError):
        find_offset(Given(onset, motion), 2.0)


# --- AV-Align ---


def test_as_many_peaks_as_possible_meet_one_to_one_whichever_is_first() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        one, other = (np.sort(rng.choice(14, rng.integers(0, 6), replace=False)) for _ in "ab")
        most = max(
            sum(abs(a - b) <= 1 for a, b in zip(chosen, shorter, strict=True))
            for shorter, longer in [sorted((one.tolist(), other.tolist()), key=len)]
            for chosen in itertools.permutations(longer, len(shorter))
        )
        union = len(one) + len(other) - most
        expected = most / union if union else None
        assert peaks_met(one, other) == peaks_met(other, one) == expected


def test_the_same_peaks_score_1_and_distant_ones_0() -> None:
    peaks = np.asarray([3, 10, 25])
    assert peaks_met(peaks, peaks) == 1.0
    assert peaks_met(peaks, peaks + 3) == 0.0
    assert peaks_met(peaks, peaks[:0]) == 0.0
    assert peaks_met(peaks[:0], peaks[:0]) is None
    # The published code scores 3 / (3 + 1 - 3): one video peak counts three times.
    assert peaks_met(np.asarray([9, 10, 11]), np.asarray([10])) == 1 / 3


def test_peaks_are_maxima_and_onsets_stand_out() -> None:
    track = np.asarray([0, 1, 0, 0, 5, np.nan, 4, 4, 0, 2, 1.0])
    assert find_maxima(track).tolist() == [1, 4, 9]
    onset = np.full(100, 0.1)
    onset[[20, 50, 51, 80]] = 5, 3, 4, 0.2
    assert find_onsets(onset).tolist() == [20, 51]


def test_clicks_on_changes_align_and_blank_streams_have_no_score() -> None:
    assert av_align(_clip()) == 1.0
    assert av_align(_clip(0.4)) == 0.0
    assert av_align(Content()) is None


# --- clips ---


@pytest.mark.parametrize("delay_s", [0.0, 0.6, -0.44])
def test_a_rendered_clip_is_found_as_far_off_as_it_was_moved(
    clips: Manifest, tmp_path: Path, delay_s: float
) -> None:
    offsets_s = []
    for clip in clips.clips[:3]:
        shift_audio(clip.path, tmp_path / clip.path.name, delay_s)
        content = read_content(tmp_path / clip.path.name)
        offsets_s.append(find_offset(content, 2.0).offset_s)
    # Which impact of a drawn clip moves most is a matter of luck, so most of them must fit.
    assert np.median(offsets_s) == pytest.approx(-delay_s, abs=0.08)


def test_a_long_clip_is_read_window_by_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = np.full((20 * FPS, 32, 32, 3), 90, np.uint8)
    sound = np.zeros(20 * RATE_HZ, np.float32)
    for event_s in (2.0, 7.04, 11.2, 15.0, 18.6):
        frames[round(event_s * FPS) :] = 255 - frames[-1]
        first = round(event_s * RATE_HZ)
        sound[first : first + 800] = 0.5 * rng.normal(size=800)
    encode(tmp_path / "long.mp4", frames, sound)
    content = read_content(tmp_path / "long.mp4")
    assert len(content.tracks().motion) == 20 * FPS
    assert find_offset(content, 2.0).offset_s == pytest.approx(0.0, abs=0.04)


def test_a_clip_without_sound_is_refused(tmp_path: Path) -> None:
    encode(tmp_path / "mute.mp4", np.zeros((50, 32, 32, 3), np.uint8), None)
    with pytest.raises(MediaError, match="has no audio stream"):
        read_content(tmp_path / "mute.mp4")


class Chosen(Samples):
    """Clips of a manifest; samples are made by the test."""

    def __init__(self, manifest: Manifest) -> None:
        self.clips, self.layout = list(manifest.clips), SegmentLayout()
        self.usable, self.left_out = [], {}

    def sample(self, clip: int, number: int) -> tuple[Sample, None]:
        raise NotImplementedError


def test_the_rule_is_scored_on_the_same_crops(clips: Manifest) -> None:
    grid = OffsetGrid()
    samples = [
        Sample(clip, 2.0, 2.0 + grid.offsets_s[target], target)
        for clip in range(4)
        for target in (2, 8, 10, 14)
    ]
    scores = score_rule(samples, Chosen(clips), grid)
    assert scores["num"] == 16
    assert scores["within_one"] > 3 * (3 * 21 - 2) / 21**2  # chance
    assert scores["accuracy"] <= scores["within_one"]
    shuffled = [Sample(s.clip, s.vision_start_s, s.audio_start_s, 20) for s in samples]
    assert score_rule(shuffled, Chosen(clips), grid)["within_one"] < scores["within_one"]


def test_samples_without_anything_to_hear_are_guessed(tmp_path: Path, clips: Manifest) -> None:
    frames = np.full((9 * FPS, 32, 32, 3), 90, np.uint8)
    frames[::20] = 200
    encode(tmp_path / "silent.mp4", frames, np.zeros(9 * RATE_HZ, np.float32))
    source = Chosen(clips)
    source.clips[0] = replace(source.clips[0], path=tmp_path / "silent.mp4")
    source.clips[1] = replace(source.clips[1], path=tmp_path / "gone.mp4")
    samples = [Sample(clip, 2.0, 2.0, 10) for clip in (0, 1)]
    scores = score_rule(samples, source, OffsetGrid())
    assert (scores["num"], scores["num_guessed"], scores["accuracy"]) == (2, 2, 1.0)


# --- commands ---


def test_predict_explains_itself_with_the_rule(
    clips: Manifest, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(model_folder), str(clips.clips[0].path), "--every", "3"]
    assert run([*words, "--explain", "--plot", str(tmp_path / "a.png")]) == 0
    assert "rule without learning: offset " in " ".join(capsys.readouterr().out.split())
    assert run([*words, "--explain", "--json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    rule = answer["rule"]
    assert set(rule) == {"offset_s", "meaning", "correlation", "next_s", "next_correlation"}
    assert rule["correlation"] >= rule["next_correlation"]
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["rule"] is None
    assert run([*words, "--explain", "--csv", str(tmp_path / "a.csv")]) == 2
    assert "leave it out with --csv" in " ".join(capsys.readouterr().err.split())


def test_without_controls_no_clip_is_read_for_the_rule(clips: Manifest) -> None:
    outcome = Outcome([Sample(0, 2.0, 2.0, 10)], [0], {"": [torch.zeros(1, 21)]})
    task = build_task(Component(name="offset"))
    assert "rule" not in task.report(outcome, Chosen(clips), 0)
    outcome.outputs["audio blanked"] = [torch.zeros(1, 21)]
    report = task.report(outcome, Chosen(clips), 0)
    assert report["rule"]["num"] == 1
    assert task.report_rows(report)["rule without learning"] == report["rule"]
