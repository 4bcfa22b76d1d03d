"""Writing clips, and shifting their sound without re-encoding."""

import os
from contextlib import ExitStack
from fractions import Fraction

import av
import numpy as np
import pytest

from zoo.errors import MediaError
from zoo.media import decode, encode, probe, shift_audio
from zoo.media.encode import as_rate

FRAMES = np.zeros((25, 48, 64, 3), np.uint8)
SAMPLES = np.zeros(16_000, np.float32)


def test_frames_may_come_one_by_one(tmp_path):
    encode(tmp_path / "a.mp4", (frame for frame in FRAMES), SAMPLES)
    assert decode(tmp_path / "a.mp4").frames.shape == FRAMES.shape


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux alone schedules so")
def test_an_encoder_that_takes_real_time_for_itself_does_not_keep_it(tmp_path):
    before = os.sched_getscheduler(0)
    encode(
        tmp_path / "a.mkv", FRAMES, None, video_codec="libsvtav1", video_options={"preset": "12"}
    )
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("delay_s", [0.0, 0.3, -0.3])
def test_sound_in_pieces_is_the_same_file(tmp_path, delay_s):
    samples = np.random.default_rng(0).normal(0, 0.1, (20_000, 2)).astype(np.float32)
    pieces = [samples[:100], samples[100:100], samples[100:9000], samples[9000:]]
    encode(tmp_path / "a.mp4", FRAMES, samples, audio_delay_s=delay_s)
    encode(tmp_path / "b.mp4", FRAMES, iter(pieces), audio_delay_s=delay_s)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_stereo_is_kept(tmp_path):
    encode(tmp_path / "a.mp4", FRAMES, np.zeros((48_000, 2), np.float32), sample_rate_hz=48_000)
    assert probe(tmp_path / "a.mp4").audio.channels == 2
    assert probe(tmp_path / "a.mp4").audio.sample_rate_hz == 48_000


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (25, Fraction(25)),
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
    ],
)
def test_frame_rates_are_exact(fps, rate):
    assert as_rate(fps) == rate


def test_options_reach_the_encoder(tmp_path):
    encode(tmp_path / "a.mp4", FRAMES, None, gop=5, crf=40)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert sum(keys) == 5


@pytest.mark.parametrize(
    ("name", "given", "options", "words"),
    [
        ("a.xyz", FRAMES, {}, "a.xyz"),
        ("a.mp4", FRAMES, {"video_codec": "libnone"}, "libnone"),
        ("a.webm", FRAMES, {}, "a.webm"),
        ("a.mp4", FRAMES[:, :47], {}, "even, not 64x47"),
        ("a.mp4", FRAMES[:0], {}, "no frame"),
        ("a.mp4", FRAMES[..., 0], {}, "(H, W, 3) uint8, not (48, 64)"),
        ("a.mp4", FRAMES.astype(np.float32), {}, "float32"),
        ("none/a.mp4", FRAMES, {}, "there is no folder"),
    ],
)
def test_refusals_leave_the_old_file_and_nothing_else(name, given, options, words, tmp_path):
    old = tmp_path / "a.mp4"
    old.write_bytes(b"old")
    with pytest.raises(MediaError) as caught:
        encode(tmp_path / name, given, SAMPLES, **options)
    assert words in str(caught.value)
    assert "Errno" not in str(caught.value)
    assert old.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    def broken():
        yield FRAMES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path / "a.mp4", broken(), None)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def rich_clip(tmp_path):
    """A picture with B-frames, two sound tracks, subtitles, a chapter and a title."""
    path = tmp_path / "rich.mkv"
    rng = np.random.default_rng(0)
    encode(tmp_path / "plain.mp4", rng.integers(0, 255, (50, 48, 64, 3), np.uint8), SAMPLES)
    (tmp_path / "text.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    names = ("plain.mp4", "plain.mp4", "text.srt")
    with ExitStack() as stack:
        out = stack.enter_context(av.open(str(path), "w"))
        inputs = [stack.enter_context(av.open(str(tmp_path / name))) for name in names]
        taken = [[0, 1], [1], [0]]
        copies = [
            {index: out.add_stream_from_template(source.streams[index]) for index in indices}
            for source, indices in zip(inputs, taken, strict=True)
        ]
        copies[1][1].metadata["language"] = "fre"
        out.metadata["title"] = "a clip"
        chapter = {"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {}}
        out.set_chapters([chapter])
        for source, streams in zip(inputs, copies, strict=True):
            for packet in source.demux():
                if packet.size and packet.stream.index in streams:
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
    return path


def test_shift_keeps_every_stream_and_leaves_the_input(rich_clip, tmp_path):
    before = rich_clip.read_bytes()
    shift_audio(rich_clip, tmp_path / "out.mkv", 0.2)
    assert rich_clip.read_bytes() == before
    with av.open(str(tmp_path / "out.mkv")) as out:
        assert [s.type for s in out.streams] == ["video", "audio", "audio", "subtitle"]
        assert out.streams[2].metadata["language"] == "fre"
        assert out.metadata["title"] == "a clip"
        assert len(out.chapters()) == 1
    old, new = decode(rich_clip, audio=False), decode(tmp_path / "out.mkv", audio=False)
    np.testing.assert_array_equal(old.frames, new.frames)


def test_shift_keeps_the_rotation(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(90)
        audio = out.add_stream("aac", rate=16_000, layout="mono")
        for index, picture in enumerate(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        sound = av.AudioFrame.from_ndarray(SAMPLES[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 16_000, 0
        out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    shift_audio(path, tmp_path / "b.mp4", 0.1)
    before, after = probe(path).video, probe(tmp_path / "b.mp4").video
    assert before.rotation_deg in (90, -90)
    assert (after.rotation_deg, after.width) == (before.rotation_deg, 48)


def test_shift_leaves_out_a_timecode_track(tmp_path, caplog):
    path = tmp_path / "camera.mov"
    encode(tmp_path / "plain.mp4", FRAMES, SAMPLES)
    with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in source.streams]
        streams[0].metadata["timecode"] = "01:00:00:00"
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    with av.open(str(path)) as camera:
        assert "data" in [stream.type for stream in camera.streams]
    shift_audio(path, tmp_path / "out.mkv", 0.1)  # which has a tag for it
    assert not caplog.text
    shift_audio(path, tmp_path / "out.ts", 0.1)
    assert "camera.mov: data track 2 is left out" in caplog.text
    assert decode(tmp_path / "out.mkv").frames.shape == FRAMES.shape


@pytest.mark.parametrize("name", ["räum ə 音.mp4", "100%03d.mp4", "a:b|c?.mp4", "-i.mp4"])
def test_any_file_name_will_do(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode(name, FRAMES, SAMPLES)
    shift_audio(name, f"out {name}", 0.1)
    assert decode(f"out {name}").frames.shape == FRAMES.shape


def test_shift_refuses_to_write_over_its_input(tmp_path):
    encode(tmp_path / "a.mp4", FRAMES, SAMPLES)
    with pytest.raises(MediaError, match="is the clip itself"):
        shift_audio(tmp_path / "a.mp4", tmp_path / "a.mp4", 0.1)


def test_shift_says_what_is_wrong(tmp_path):
    encode(tmp_path / "silent.mp4", FRAMES, None)
    with pytest.raises(MediaError, match="has no audio stream"):
        shift_audio(tmp_path / "silent.mp4", tmp_path / "out.mp4", 0.1)
    encode(tmp_path / "a.mp4", FRAMES, SAMPLES)
    with pytest.raises(MediaError, match=r"as out\.webm"):
        shift_audio(tmp_path / "a.mp4", tmp_path / "out.webm", 0.1)
    assert not list(tmp_path.glob("*out*"))
