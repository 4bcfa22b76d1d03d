"""Crops along a clip, and what they say together."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

import zoo
from zoo.data.check import check_clip
from zoo.data.manifest import Manifest
from zoo.errors import MediaError, NothingToMeasureError
from zoo.inference.batch import _row
from zoo.inference.batch_table import Options
from zoo.inference.changepoints import OverTime, follow
from zoo.inference.crops import SlidingTokens
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.windows import Streams, plan_windows
from zoo.media import decode, encode
from zoo.models.model import Model
from zoo.timeline import OffsetGrid, SegmentLayout, clock_time, search_shifts, shared_segments

OFFSETS_S = tuple(round(-2 + 0.2 * i, 6) for i in range(21))


@pytest.fixture(scope="module")
def untrained(model: Model) -> OffsetPredictor:
    return OffsetPredictor(model, "untrained")


@pytest.fixture(scope="module")
def shipped() -> OffsetPredictor:
    return zoo.load("tiny-synthetic")


def _over_time(true_s: np.ndarray, sure: float = 0.9, wrong: tuple[int, ...] = ()) -> OverTime:
    """Windows every 0.32 s whose distributions peak at the class of the true offset."""
    classes = np.abs(np.asarray(OFFSETS_S) - true_s[:, None]).argmin(1)
    classes[list(wrong)] = 0
    p = np.full((len(true_s), 21), (1 - sure) / 20)
    p[np.arange(len(true_s)), classes] = sure
    starts_s = 0.32 * np.arange(len(true_s))
    return follow(
        starts_s,
        torch.from_numpy(p),
        OFFSETS_S,
        window_s=4.8,
        end_s=float(starts_s[-1] + 4.8),
        class_step_s=0.2,
    )


def test_segments_are_those_whose_picture_and_shifted_sound_exist() -> None:
    layout = SegmentLayout()
    nine, seven = (0.0, 9.0), (0.0, 7.0)
    assert shared_segments(nine, nine, layout) == range(27)
    assert shared_segments(nine, seven, layout) == shared_segments(seven, nine, layout)
    late = shared_segments(nine, nine, layout, shift_s=3.0)  # picture 3 to 9 s, sound 0 to 6 s
    assert (late.start, late.stop) == (10, 27)
    early = shared_segments(nine, nine, layout, shift_s=-3.0)
    assert early == shared_segments((0.0, 6.0), nine, layout)
    assert not shared_segments(nine, nine, layout, shift_s=20.0)


def test_segments_before_a_late_stream_are_left_out() -> None:
    layout = SegmentLayout()
    assert shared_segments((0.0, 9.0), (0.021, 9.0), layout).start == 0
    assert shared_segments((0.0, 9.0), (0.5, 9.0), layout).start == 0
    assert shared_segments((0.0, 9.0), (3.2, 9.0), layout).start == 9  # its end is at 3.52 s


def test_moments_are_written_as_players_do() -> None:
    assert [clock_time(t) for t in (0.4, 59.6, 751, 3723)] == ["0:00", "1:00", "12:31", "1:02:03"]


def test_one_offset_is_one_stretch() -> None:
    over_time = _over_time(np.full(200, 0.4), wrong=(20, 77, 78, 79))
    assert over_time.meaning == "+0.4 s throughout"
    assert over_time.drift is None
    assert [(s.start_s, s.end_s) for s in over_time.stretches] == [(0.0, 68.48)]


def test_a_jump_is_found_where_it_is() -> None:
    over_time = _over_time(np.where(np.arange(400) < 150, 0.0, 0.4))
    assert over_time.meaning == "0.0 s until 0:50, then +0.4 s"
    assert over_time.stretches[0].end_s == pytest.approx(150 * 0.32 + 2.4, abs=0.32)
    assert over_time.drift is None


def test_a_drift_is_not_a_staircase() -> None:
    over_time = _over_time(np.linspace(-0.3, 0.7, 800))
    assert over_time.drift is not None
    assert over_time.drift.start_offset_s == pytest.approx(-0.3, abs=0.05)
    assert over_time.drift.end_offset_s == pytest.approx(0.7, abs=0.05)
    assert "per minute" in over_time.meaning


def _heard(
    true_s: Callable[[float], float], length_s: float, step_s: float, seed: int = 0
) -> OverTime:
    """Windows that hear events all over a clip, some of which mislead; nothing beyond 2 s."""
    rng = np.random.default_rng(seed)
    offsets_s = np.round(np.arange(-2, 2 + 1e-9, step_s), 6)
    events_s = np.sort(rng.uniform(0, length_s, round(length_s)))
    starts_s = 0.32 * np.arange(int((length_s - 4.8) / 0.32) + 1)
    p = rng.dirichlet(np.full(len(offsets_s), 0.5), len(starts_s))
    for number, start_s in enumerate(starts_s):
        inside = events_s[(events_s >= start_s) & (events_s < start_s + 4.8)]
        at_s = np.asarray([true_s(t) for t in inside if abs(true_s(t)) < 2.05])
        if len(at_s):
            near = np.exp(-0.5 * ((offsets_s - at_s[:, None]) / max(0.045, step_s / 3)) ** 2).sum(0)
            p[number] = 0.4 * p[number] + 0.6 * near / near.sum()
    return follow(
        starts_s,
        torch.from_numpy(p),
        tuple(offsets_s.tolist()),
        window_s=4.8,
        end_s=length_s,
        class_step_s=0.2,
    )


@pytest.mark.parametrize("step_s", [0.04, 0.2])
@pytest.mark.parametrize(
    ("start_s", "per_minute_s", "length_s"),
    [
        (-0.4, -0.06, 300.0),  # pulldown
        (0.2, 0.1, 240.0),
        (-0.4, -2.56, 60.0),  # PAL: beyond 2 s after 38 s
        (0.0, 2.4, 300.0),  # a sixth of it is within 2 s
        (-3.0, 1.2, 120.0),  # comes into reach after 50 s
        (-0.4, 3.0, 60.0),
        (1.5, -5.3, 60.0),  # 48 kHz taken for 44.1 kHz: beyond 2 s after 40 s
    ],
)
def test_a_drift_is_named_with_its_rate(
    start_s: float, per_minute_s: float, length_s: float, step_s: float
) -> None:
    over_time = _heard(lambda t: start_s + per_minute_s * t / 60, length_s, step_s)
    assert over_time.drift is not None
    assert over_time.drift.per_minute_s == pytest.approx(per_minute_s, rel=0.1)
    assert len(over_time.stretches) == 1
    leaves = abs(start_s + per_minute_s * length_s / 60) > 2
    assert ("further than was searched" in over_time.meaning) == (leaves or abs(start_s) > 2)


@pytest.mark.parametrize("step_s", [0.04, 0.2])
@pytest.mark.parametrize(
    ("jumps_s", "length_s"), [([], 9.0), ([], 300.0), ([45.0], 90.0), ([100.0, 200.0], 300.0)]
)
def test_jumps_and_one_offset_are_no_drift(
    jumps_s: list[float], length_s: float, step_s: float
) -> None:
    over_time = _heard(lambda t: -0.4 + 0.4 * sum(t > at for at in jumps_s), length_s, step_s)
    assert over_time.drift is None
    ends_s = [stretch.end_s for stretch in over_time.stretches]
    assert ends_s == pytest.approx([*jumps_s, length_s], abs=3.0)


@pytest.mark.parametrize("wrong", [0, 59, 30])
def test_one_wrong_crop_makes_no_jump(wrong: int) -> None:
    offsets_s = tuple(round(-2 + 0.04 * i, 6) for i in range(101))
    probabilities = torch.zeros(60, 101)
    probabilities[:, 50] = 1.0
    probabilities[wrong] = torch.eye(101)[75]
    starts_s = np.arange(60) * 0.32
    over_time = follow(
        starts_s, probabilities, offsets_s, window_s=4.8, end_s=24.0, class_step_s=0.2
    )
    assert over_time.meaning == "0.0 s throughout"


def test_the_only_crop_lies_where_there_is_sound(untrained: OffsetPredictor) -> None:
    path = Path("late.mkv")
    streams = Streams(path, path, None, (0.0, 8.5), (5.0, 8.5), None)
    plan = plan_windows(streams, untrained.model, "m")
    start_s = plan.firsts[0] * untrained.model.config.layout.step_s
    assert 4.3 < start_s <= 5.0
    assert plan.padded_s == pytest.approx(start_s + 4.8 - 8.5)
    begun = Streams(path, path, None, (0.0, 5.0), (1.0, 5.0), None)
    assert plan_windows(begun, untrained.model, "m").padded_s >= 0


def test_what_is_shared_moves_with_the_sound() -> None:
    path = Path("a.mp4")
    streams = Streams(path, path, None, (0.0, 27.0), (0.0, 14.0), None)
    assert streams.shared_s() == (0.0, 14.0)
    assert streams.shared_s(13.0) == (13.0, 27.0)
    assert streams.shared_s(-20.0) == (0.0, 0.0)


def test_windows_that_say_nothing_make_no_jump() -> None:
    assert len(_over_time(np.linspace(-2, 2, 50), sure=1 / 21).stretches) == 1


def test_sparse_crops_are_those_of_the_dense_ones(
    untrained: OffsetPredictor, clips: Manifest
) -> None:
    path = clips.clips[0].path
    dense, sparse = untrained.predict(path), untrained.predict(path, every_s=1.3)
    assert [w.start_s for w in sparse.windows] == [0.0, 1.28, 2.56, 3.84]
    for window, same in zip(sparse.windows, dense.windows[::4], strict=True):
        assert window.probability == pytest.approx(same.probability, abs=1e-4)


def test_crops_further_apart_than_they_are_long(untrained: OffsetPredictor, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (375, 64, 64, 3), np.uint8)
    samples = np.random.default_rng(1).normal(0, 0.1, 240_000).astype(np.float32)
    samples *= 1.0 + (np.arange(240_000) % 16_000 < 800)  # louder every second: an event
    encode(tmp_path / "long.mp4", frames, samples, gop=25)
    dense = untrained.predict(tmp_path / "long.mp4")
    calls: list[tuple[int, int]] = []
    sparse = untrained.predict(
        tmp_path / "long.mp4", every_s=8.0, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(0, 2), (1, 2), (2, 2)]
    assert sparse.windows[1].probability == pytest.approx(dense.windows[25].probability, abs=1e-4)


@pytest.mark.parametrize("max_offset_s", [None, 6.0])
def test_a_clip_without_events_is_refused_before_the_model_runs(
    untrained: OffsetPredictor,
    clips: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_offset_s: float | None,
) -> None:
    def never(*given: object) -> None:
        raise AssertionError("the model runs")

    window = decode(clips.clips[0].path)
    assert window.samples is not None
    tone = 0.3 * np.sin(0.2 * np.arange(len(window.samples)))
    encode(tmp_path / "tone.mp4", window.frames, tone.astype(np.float32))
    monkeypatch.setattr(SlidingTokens, "crops", never)
    with pytest.raises(NothingToMeasureError, match="the sound has no events"):
        untrained.predict(tmp_path / "tone.mp4", max_offset_s=max_offset_s)


def test_a_clip_a_little_too_short_is_filled_up_and_says_so(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    window = decode(clips.clips[0].path, duration_s=3.4)
    encode(tmp_path / "short.mp4", window.frames, window.samples)
    prediction = shipped.predict(tmp_path / "short.mp4")
    assert len(prediction.windows) == 1
    assert "lasts 3.4" in prediction.notes[0]
    assert "of silence were added" in prediction.notes[0]


def test_the_sound_may_be_in_another_file(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    window = decode(clips.clips[0].path)
    encode(tmp_path / "sound.wav", None, window.samples, audio_codec="pcm_s16le")
    encode(tmp_path / "silent.mp4", window.frames, None)
    own = shipped.predict(clips.clips[0].path, 0.04)
    other = shipped.predict(tmp_path / "silent.mp4", 0.04, audio=tmp_path / "sound.wav")
    assert other.refined_s == pytest.approx(own.refined_s, abs=0.01)
    with pytest.raises(MediaError, match=r"silent\.mp4 has no audio stream"):
        shipped.predict(tmp_path / "silent.mp4")
    with pytest.raises(MediaError, match=r"sound\.wav has no video stream"):
        shipped.predict(tmp_path / "sound.wav")


@pytest.fixture
def two_tracks(clips: Manifest, tmp_path: Path) -> Path:
    """A clip whose second audio track is 0.4 s late."""
    window = decode(clips.clips[0].path)
    assert window.samples is not None
    encode(tmp_path / "one.mp4", window.frames, window.samples)
    encode(tmp_path / "two.mka", None, window.samples, audio_delay_s=0.4)
    path = tmp_path / "both.mkv"
    with (
        av.open(str(path), "w") as out,
        av.open(str(tmp_path / "one.mp4")) as one,
        av.open(str(tmp_path / "two.mka")) as two,
    ):
        copies = {id(s): out.add_stream_from_template(s) for s in [*one.streams, *two.streams]}
        for source in (one, two):
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[id(packet.stream)]
                    out.mux(packet)
    return path


def test_an_audio_track_can_be_chosen(shipped: OffsetPredictor, two_tracks: Path) -> None:
    first, second = (shipped.predict(two_tracks, 0.04, audio_track=n) for n in (1, 2))
    assert shipped.predict(two_tracks, 0.04).refined_s == first.refined_s
    assert second.refined_s == pytest.approx(first.refined_s - 0.4, abs=0.03)
    with pytest.raises(MediaError, match="has 2 audio tracks, so there is no track 3"):
        shipped.predict(two_tracks, audio_track=3)


def test_an_offset_between_the_classes_is_found(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    zoo.media.shift_audio(clips.clips[0].path, tmp_path / "late.mp4", 0.33)
    prediction = shipped.predict(tmp_path / "late.mp4", 0.04)
    assert prediction.refined_s == pytest.approx(-0.33, abs=0.04)
    assert prediction.confidence > 0.8


def test_a_cut_in_the_sound_is_reported(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    windows = [decode(clip.path) for clip in clips.clips[:4]]
    frames = np.concatenate([window.frames[:225] for window in windows])
    samples = np.concatenate([window.samples[:144_000] for window in windows])
    late = np.concatenate([samples[:288_000], np.zeros(8_000, np.float32), samples[288_000:]])
    encode(tmp_path / "cut.mp4", frames, late, gop=50)
    over_time = shipped.predict(tmp_path / "cut.mp4").over_time
    before, after = over_time.stretches
    assert before.offset_s == pytest.approx(0.0, abs=0.05)
    assert after.offset_s == pytest.approx(-0.5, abs=0.11)
    assert before.end_s == pytest.approx(18, abs=2.0)


def test_offsets_far_beyond_the_grid_are_searched(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    windows = [decode(clip.path) for clip in clips.clips[:3]]
    frames = np.concatenate([window.frames[:225] for window in windows])
    samples = np.concatenate([window.samples[:144_000] for window in windows])
    encode(tmp_path / "far.mp4", frames, samples, gop=50, audio_delay_s=7.5)
    prediction = shipped.predict(tmp_path / "far.mp4", 0.04, max_offset_s=10.0)
    assert prediction.refined_s == pytest.approx(-7.5, abs=0.05)
    assert prediction.confidence > 0.8
    assert prediction.notes == []
    assert "the audio is 7.5" in prediction.meaning


def test_a_search_says_how_far_the_clip_let_it_go(
    untrained: OffsetPredictor, clips: Manifest
) -> None:
    notes = untrained.predict(clips.clips[0].path, every_s=2.0, max_offset_s=30.0).notes
    assert notes == ["the clip is too short for offsets beyond 5.8 s either way"]
    notes = untrained.predict(clips.clips[0].path, every_s=2.0, max_offset_s=1.0).notes
    assert notes == ["the model looks at all offsets up to 2 s either way in any case"]


def test_shifts_reach_the_largest_offset() -> None:
    layout, grid = SegmentLayout(), OffsetGrid()
    assert search_shifts(layout, grid, 2.0) == [0]
    shifts = search_shifts(layout, grid, 30.0)
    assert shifts[0] == -shifts[-1]
    assert shifts[-1] * 0.32 + 2 >= 30
    assert max(np.diff(shifts)) * 0.32 <= 1.0


def test_what_was_assumed_in_reading_is_part_of_every_answer(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    window = decode(clips.clips[0].path)
    encode(tmp_path / "half.ts", window.frames, window.samples)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * (tmp_path / "half.ts").read_bytes())
    prediction = shipped.predict(joined)
    whole_s = 2 * len(window.frames) / 25
    assert prediction.duration_s == pytest.approx(whole_s, abs=0.1)
    (note,) = prediction.notes
    assert "the times of the file start again at 0:0" in note
    assert prediction.as_dict()["notes"] == [note]
    assert _row(shipped, str(joined), Options())["notes"] == note
    assert note in check_clip(joined).notes


def test_the_video_track_can_be_chosen(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    clip, both = clips.clips[0].path, tmp_path / "both.mkv"
    lights = np.random.default_rng(0).choice([0, 120, 240], 40).repeat(10)[:, None, None, None]
    encode(tmp_path / "light.mp4", np.full((400, 64, 64, 3), lights, np.uint8), None)
    with (
        av.open(str(tmp_path / "light.mp4")) as light,
        av.open(str(clip)) as film,
        av.open(str(both), "w") as out,
    ):
        packets = []
        for stream in [*light.streams, *film.streams]:
            copy = out.add_stream_from_template(stream)
            copy.disposition = Disposition(0)
            stream.container.seek(0)
            for packet in stream.container.demux(stream):
                if packet.size:
                    packet.stream = copy
                    packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    own, lit = shipped.predict(clip, 0.04), shipped.predict(both, 0.04)
    assert "video track 1 of 2 is looked at, which has the most frames" in lit.notes[0]
    chosen = shipped.predict(both, 0.04, video_track=2)
    assert chosen.notes == []
    assert chosen.refined_s == pytest.approx(own.refined_s, abs=0.02)
    with pytest.raises(MediaError, match="has 2 video tracks, so there is no track 3"):
        shipped.predict(both, video_track=3)
