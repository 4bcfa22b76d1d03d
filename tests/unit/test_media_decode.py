"""Shapes and edges of a decoded window, and what probing says."""

from contextlib import ExitStack

import av
import numpy as np
import pytest
from av.stream import Disposition

from zoo.media import decode, encode, probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds: picture k is grey of level 5 + 4 k, the sound is a constant 0.25."""
    path = tmp_path_factory.mktemp("media") / "grey.mkv"
    levels = (5 + 4 * np.arange(50)).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (50, 48, 80, 3))
    samples = np.full(32_000, 0.25, np.float32)
    encode(path, frames, samples, audio_codec="pcm_s16le", crf=4, gop=12)
    return path


def picture_numbers(window):
    return np.round((window.frames.mean((1, 2, 3)) - 5) / 4).astype(int)


def test_probe_describes_the_clip(clip):
    info = probe(str(clip))
    assert info.path == clip
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 80, 48)
    assert (info.video.fps, info.video.is_variable_rate, info.video.rotation_deg) == (25, False, 0)
    assert (info.audio.codec, info.audio.sample_rate_hz, info.audio.channels) == (
        "pcm_s16le",
        16_000,
        1,
    )
    assert info.common_s == pytest.approx(2.0)
    assert info.duration_s == pytest.approx(2.0)
    assert info.low_confidence is None


def test_every_frame_of_a_constant_rate_is_itself(clip):
    window = decode(clip)
    assert window.frames.shape == (50, 48, 80, 3)
    assert window.frames.dtype == np.uint8
    assert window.samples.shape == (32_000,)
    assert window.samples.dtype == np.float32
    np.testing.assert_array_equal(picture_numbers(window), np.arange(50))
    np.testing.assert_allclose(window.samples, 0.25, atol=1e-4)


@pytest.mark.parametrize(("fps", "count"), [(50, 100), (10, 20), (12.5, 25)])
def test_other_frame_rates_take_the_nearest_picture(fps, count, clip):
    shown = picture_numbers(decode(clip, fps=fps))
    assert len(shown) == count
    assert np.abs(shown - np.arange(count) * 25 / fps).max() <= 0.5


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("short_side", "size"), [(None, (48, 80)), (32, (32, 53)), (96, (96, 160))]
)
def test_short_side_keeps_the_aspect(short_side, size, exact, clip):
    window = decode(clip, short_side=short_side, duration_s=0.4, exact=exact)
    assert window.frames.shape == (10, *size, 3)
    # swscale rounds by up to two levels, differently for every size
    np.testing.assert_allclose(window.frames.mean((1, 2, 3)), 5 + 4 * np.arange(10), atol=3)


def test_beyond_the_ends_pictures_repeat_and_sound_is_silent(clip):
    window = decode(clip, start_s=-0.4, duration_s=3.0)
    expected = np.clip(np.arange(75) - 10, 0, 49)
    np.testing.assert_array_equal(picture_numbers(window), expected)
    assert not window.samples[:6_400].any()
    assert not window.samples[38_400:].any()
    np.testing.assert_allclose(window.samples[6_400:38_400], 0.25, atol=1e-4)


def test_counts_are_those_of_the_duration(clip):
    for duration_s in (0.64, 0.333, 1.28, 1.0):
        window = decode(clip, start_s=0.2, duration_s=duration_s, sample_rate_hz=22_050)
        assert len(window.frames) == round(duration_s * 25)
        assert len(window.samples) == round(duration_s * 22_050)


def test_by_default_the_window_ends_where_a_stream_does(tmp_path):
    frames = np.zeros((50, 48, 64, 3), np.uint8)
    encode(tmp_path / "a.mkv", frames, np.zeros(24_000, np.float32), audio_codec="pcm_s16le")
    info = probe(tmp_path / "a.mkv")
    assert info.common_s == pytest.approx(1.5)
    assert info.duration_s == pytest.approx(2.0)
    assert len(decode(info.path).frames) == round(1.5 * 25)
    assert len(decode(info.path, audio=False).frames) == 50
    assert len(decode(info.path, start_s=0.5).samples) == 16_000


def test_a_short_window_does_not_decode_the_whole_file(tmp_path, monkeypatch):
    from zoo.media.container import Source

    frames = np.zeros((1_000, 48, 64, 3), np.uint8)
    encode(tmp_path / "long.mp4", frames, np.zeros(640_000, np.float32), gop=25)
    seen = []
    frames_of = Source.frames

    def counted(self, stream, *skip_until_s):
        for item in frames_of(self, stream, *skip_until_s):
            seen.append(stream.type)
            yield item

    monkeypatch.setattr(Source, "frames", counted)
    decode(tmp_path / "long.mp4", start_s=30.0, duration_s=0.64)
    assert seen.count("video") < 50
    assert seen.count("audio") < 30


def test_cover_pictures_are_not_video(tmp_path):
    import av

    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        audio = out.add_stream("aac", rate=16_000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16_000), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 16_000, 0
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        packets = [*audio.encode(frame), *audio.encode(None)]
        packets += [*cover.encode(picture), *cover.encode(None)]
        for packet in packets:
            out.mux(packet)
    assert probe(path).video is None


def with_others_before(clip, path, *others, default=None):
    """Put the films of other files before that of a clip."""
    with ExitStack() as stack:
        sources = [stack.enter_context(av.open(str(p))) for p in (*others, clip)]
        out = stack.enter_context(av.open(str(path), "w"))
        copies = [out.add_stream_from_template(s.streams.video[0]) for s in sources]
        for number, copy in enumerate(copies):
            copy.disposition = Disposition(int(number == default))
        for source, copy in zip(sources, copies, strict=True):
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    return path


def test_a_thumbnail_before_the_film_is_not_taken_for_it(clip, tmp_path):
    with av.open(str(tmp_path / "thumb.mov"), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuvj420p"
        picture = np.zeros((48, 80, 3), np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    path = with_others_before(clip, tmp_path / "both.mov", tmp_path / "thumb.mov")
    assert decode(path, audio=False).frames.shape[0] == 50


@pytest.mark.parametrize(("default", "length"), [(0, 10), (1, 50), (None, 50)])
def test_of_two_films_the_default_is_taken_else_the_longer(clip, tmp_path, default, length):
    encode(tmp_path / "other.mkv", np.zeros((10, 48, 80, 3), np.uint8), None)
    path = with_others_before(clip, tmp_path / "both.mkv", tmp_path / "other.mkv", default=default)
    assert len(decode(path, audio=False).frames) == length
