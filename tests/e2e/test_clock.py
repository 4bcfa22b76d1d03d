"""One clock for picture and sound, whatever wrote the file: the rules of docs/clock.md.

Truth: picture i of a clip is shown at i / fps and a click starts at the time of the first picture
of its flash. A flash is located as the mean time of its white frames and compared with the mean
time of its white source pictures, which is unbiased for every frame rate; six flashes meet the
25 fps lattice in different phases and the mean over them is reported. At 25 fps it is exact.
A click is located by matched filter.

``ZOO_CLOCK_TABLE=docs/clock.md pytest tests/e2e/test_clock.py`` rewrites the table of that page.
"""

import os
import struct
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import av
import clock_clips
import numpy as np
import pytest
from clock_clips import Recipe

from zoo.media import decode, encode, probe, shift_audio

MARKER = "<!-- measured -->"
MAX_ERROR_S = 0.010
ROUNDING_S = 0.0011  # Matroska times are whole milliseconds
VIDEO_CODECS = ("libx264", "libx265", "libvpx-vp9", "libsvtav1")
AUDIO_CODECS = ("aac", "libopus", "libmp3lame", "pcm_s16le")
HOLDS = {  # what each container can hold
    "mp4": (VIDEO_CODECS, AUDIO_CODECS),
    "mov": (("libx264", "libx265"), ("aac", "libmp3lame", "pcm_s16le")),
    "mkv": (VIDEO_CODECS, AUDIO_CODECS),
    "webm": (("libvpx-vp9", "libsvtav1"), ("libopus",)),
    "ts": (("libx264", "libx265"), ("aac", "libopus", "libmp3lame")),
}
RATES = {
    "23.976": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "60": Fraction(60),
}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
RECIPES = {
    **{
        f"{suffix} {video} {audio}": Recipe(suffix, video, audio)
        for suffix, (videos, audios) in HOLDS.items()
        for video in videos
        for audio in audios
    },
    "flv, times in whole ms": Recipe("flv", rate_hz=44_100),
    "fragmented mp4": Recipe(container_options=FRAGMENTED),
    "fast-start mp4": Recipe(container_options={"movflags": "faststart"}),
    "mp4 without edit list": Recipe(container_options={"use_editlist": "0"}),
    "ts that starts at 1000 s": Recipe("ts", container_options={"output_ts_offset": "1000"}),
    **{f"mp4 at {name} fps": Recipe(fps=rate) for name, rate in RATES.items()},
    **{
        f"webm at {name} fps": Recipe("webm", "libvpx-vp9", "libopus", rate, 48_000)
        for name, rate in RATES.items()
    },
    "mp4 44.1 kHz stereo": Recipe(rate_hz=44_100, channels=2),
    "mp4 48 kHz stereo": Recipe(rate_hz=48_000, channels=2),
    "mkv 44.1 kHz": Recipe("mkv", rate_hz=44_100),
    "ts 44.1 kHz": Recipe("ts", rate_hz=44_100),
}


@pytest.fixture(scope="module")
def table():
    """Collect errors by kind of clip; rewrite the page's table when asked to."""
    errors: dict[str, list[float]] = defaultdict(list)
    yield errors
    page = os.environ.get("ZOO_CLOCK_TABLE")
    if page:
        path = Path(page)
        head, _, tail = path.read_text().split(MARKER)
        lines = ["| kind of clip | clips | worst error, ms |", "|---|---|---|"]
        for kind, values in errors.items():
            worst_ms = 1000 * np.abs(values).max()
            lines.append(f"| {kind} | {len(values)} | {worst_ms:.2f} |")
        path.write_text(MARKER.join([head, "\n\n" + "\n".join(lines) + "\n\n", tail]))


def record(table, kind, flash_s, click_s):
    """Note how late the sound of one clip is against its picture, seconds."""
    table[kind].append(float(np.mean(click_s) - np.mean(flash_s)))


def assert_shows_nearest(clip, frames, start_s=0.0, fps=25):
    """Every frame is the source picture nearest in time, where ties and rounding may go."""
    source_s = np.array([float(time_s) for time_s in clip.times_s])
    wanted_s = start_s + np.arange(len(frames)) / fps
    shown = clock_clips.read_indices(frames)
    distance_s = np.abs(source_s[shown] - wanted_s)
    best_s = np.abs(source_s[None] - wanted_s[:, None]).min(1)
    assert (distance_s <= best_s + ROUNDING_S).all()


def kind_of(name):
    recipe = RECIPES[name]
    if name == f"{recipe.suffix} {recipe.video_codec} {recipe.audio_codec}":
        videos, audios = HOLDS[recipe.suffix]
        return f"{recipe.suffix}: {len(videos)} video x {len(audios)} audio codecs"
    if recipe.fps != 25:
        return f"{recipe.suffix} at 23.976, 29.97, 30, 50, 60 fps"
    return "44.1 and 48 kHz, stereo" if "kHz" in name else name


@pytest.mark.parametrize("name", RECIPES)
def test_flash_and_click_coincide(name, tmp_path, table):
    clip = RECIPES[name].write(tmp_path)
    window = decode(clip.path)
    flash_s, click_s = clock_clips.measured_errors_s(clip, window)
    record(table, kind_of(name), flash_s, click_s)
    assert abs(np.mean(flash_s) - np.mean(click_s)) < MAX_ERROR_S
    assert np.abs(click_s).max() < 0.001
    if clip.times_s[1] == Fraction(1, 25):
        assert np.abs(flash_s).max() < ROUNDING_S
    assert_shows_nearest(clip, window.frames, -probe(clip.path).video.start_s)
    assert window.num_errors == 0
    assert probe(clip.path).low_confidence is None


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_variable_frame_rate_keeps_its_times(suffix, tmp_path, table):
    clip = clock_clips.write_irregular(tmp_path / f"clip.{suffix}")
    window = decode(clip.path)
    flash_s, click_s = clock_clips.measured_errors_s(clip, window)
    record(table, "variable frame rate, pictures 10 to 90 ms apart", flash_s, click_s)
    assert abs(np.mean(flash_s) - np.mean(click_s)) < MAX_ERROR_S
    assert_shows_nearest(clip, window.frames)
    assert probe(clip.path).video.is_variable_rate
    assert probe(clip.path).video.fps == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize("delay_s", [0.5, -0.3])
def test_a_late_or_early_sound_is_seen_as_such(suffix, delay_s, tmp_path, table):
    audio_codec = "pcm_s16le" if suffix == "mov" else "aac"
    clip = Recipe(suffix, audio_codec=audio_codec, audio_delay_s=delay_s).write(tmp_path)
    flash_s, click_s = clock_clips.measured_errors_s(clip, decode(clip.path))
    record(table, "sound that starts 500 ms late or 300 ms early", flash_s, click_s - delay_s)
    np.testing.assert_allclose(click_s - flash_s, delay_s, atol=0.001)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_late_picture_is_seen_as_such(suffix, tmp_path, table):
    clip = Recipe("mp4", gop=12).write(tmp_path)
    path = tmp_path / f"late.{suffix}"
    _delay_video(clip.path, path, delay_s=0.48)
    window = decode(path, duration_s=6.4)
    flash_s = clock_clips.measured_flashes_s(window) - clip.flash_centres_s
    click_s = clock_clips.measured_clicks_s(window) - clip.clicks_s
    record(table, "picture that starts 480 ms late", flash_s - 0.48, click_s)
    np.testing.assert_allclose(flash_s - click_s, 0.48, atol=0.001)


def test_a_copy_that_starts_between_two_pictures_keeps_every_picture(tmp_path, table):
    clip = Recipe("mp4", gop=12, rate_hz=48_000).write(tmp_path)
    _delay_video(clip.path, tmp_path / "copy.mkv", delay_s=0)  # starts 21 ms late: AAC priming
    window = decode(tmp_path / "copy.mkv", duration_s=6.0)
    flash_s = clock_clips.measured_flashes_s(window) - clip.flash_centres_s
    click_s = clock_clips.measured_clicks_s(window) - clip.clicks_s
    record(table, "mp4 copied to mkv, which then starts 21 ms late", flash_s, click_s)
    np.testing.assert_allclose(flash_s, click_s, atol=0.001)


def _delay_video(path, out, delay_s):
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size == 0:
                continue
            if packet.stream.type == "video":
                shift = round(delay_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            target.mux(packet)


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_nearest_frame_is_unbiased_where_the_last_one_lags(rate, tmp_path):
    clip = Recipe(fps=rate).write(tmp_path)
    window = decode(clip.path, duration_s=5.0)
    wanted_s = np.arange(len(window.frames)) / 25
    source_s = np.array([float(time_s) for time_s in clip.times_s])
    shown_s = source_s[clock_clips.read_indices(window.frames)]
    last_s = source_s[np.searchsorted(source_s, wanted_s + 1e-6) - 1]
    assert abs(np.mean(shown_s - wanted_s)) < 0.0025
    if rate != 50:  # every second picture of 50 fps is on the lattice
        assert np.mean(last_s - wanted_s) < -0.006


def test_a_hole_in_the_sound_keeps_its_place(tmp_path):
    path = tmp_path / "hole.mkv"
    _write_sound_with_hole(path, hole_s=0.3)
    window = decode(path, video=False, duration_s=2.0)
    click = clock_clips.chirp(16_000)
    score = np.abs(np.correlate(window.samples, click, "valid"))
    assert score[:16_000].argmax() == 8_000
    assert 16_000 + score[16_000:].argmax() == 8_000 + 16_000 + 4_800
    assert not window.samples[16_000:20_800].any()
    later = decode(path, video=False, start_s=1.5, duration_s=0.5)
    np.testing.assert_array_equal(later.samples, window.samples[24_000:])


def _write_sound_with_hole(path, hole_s):
    second = np.zeros(16_000, np.float32)
    second[8_000 : 8_000 + round(0.02 * 16_000)] = clock_clips.chirp(16_000)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for begin in (0, round((1 + hole_s) * 16_000)):
            for part in range(0, 16_000, 1_000):
                data = (second[None, part : part + 1_000] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
                frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
                frame.pts = begin + part
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


SEEKS = {
    "mp4 aac": Recipe(),
    "mkv aac": Recipe("mkv"),
    "ts aac": Recipe("ts"),
    "mp4 pcm": Recipe(audio_codec="pcm_s16le"),
    "mkv pcm 44.1 kHz": Recipe("mkv", audio_codec="pcm_s16le", rate_hz=44_100),
    "mkv aac 44.1 kHz": Recipe("mkv", rate_hz=44_100),
    "webm vp9 opus": Recipe("webm", "libvpx-vp9", "libopus", rate_hz=48_000),
    "mkv h265 mp3": Recipe("mkv", "libx265", "libmp3lame"),
    "mp4 av1 opus": Recipe("mp4", "libsvtav1", "libopus"),
    "fragmented mp4": Recipe(container_options=FRAGMENTED),
    "one key frame": Recipe(gop=250),
    "mp4 29.97 fps": Recipe(fps=Fraction(30000, 1001)),
}


@pytest.mark.parametrize("name", SEEKS)
def test_a_window_equals_the_same_stretch_of_the_whole(name, tmp_path, monkeypatch):
    monkeypatch.setattr(clock_clips, "sound", _tones)
    clip = SEEKS[name].write(tmp_path)
    whole = decode(clip.path)
    for start_s in (0.04, 0.32, 1.0, 2.48, 4.4):
        part = decode(clip.path, start_s=start_s, duration_s=1.28)
        first, sample = round(start_s * 25), round(start_s * 16_000)
        np.testing.assert_array_equal(part.frames, whole.frames[first : first + 32])
        expected = whole.samples[sample : sample + len(part.samples)]
        # Opus settles slowly, and AAC at 44.1 kHz fills bands with noise of its own
        tolerance = 1e-3 if "opus" in name or "aac 44.1" in name else 0
        np.testing.assert_allclose(part.samples[: len(expected)], expected, rtol=0, atol=tolerance)


def _tones(_, rate_hz, channels):
    t = np.arange(clock_clips.DURATION_S * rate_hz) / rate_hz
    tones = sum(0.1 * np.sin(2 * np.pi * f * t + f) for f in (220, 997, 3111, 6100))
    return np.repeat(tones[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize("stored_deg", [90, 180, 270])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_rotation_follows_the_matrix_in_the_file(stored_deg, suffix, tmp_path):
    path = tmp_path / f"rotated.{suffix}"
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:16, :16] = 255  # white corner, top left as stored
    _write_rotated(path, picture, stored_deg)
    window = decode(path, audio=False)
    info = probe(path).video
    assert window.frames.shape[1:3] == (info.height, info.width)
    # ISO 14496-12: a stored point (x, y) is shown at (a x + c y, b x + d y), up to a translation.
    a, b, c, d = _stored_matrix(path)
    x, y = 8 - 40, 8 - 24  # the corner, from the middle of the picture
    right, down = a * x + c * y > 0, b * x + d * y > 0
    image = window.frames[0].mean(-1)
    height, width = image.shape
    corner = image[height - 12 :] if down else image[:12]
    corner = corner[:, width - 12 :] if right else corner[:, :12]
    assert corner.mean() > 200
    assert image.mean() < 40


def _write_rotated(path, picture, rotation_deg):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        stream.set_display_rotation(rotation_deg)
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _stored_matrix(path):
    """Read a, b, c, d of the track header's display matrix."""
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # after version, times, id, duration, layer, volume
    a, b, _, c, d = struct.unpack(">5i", data[at : at + 20])
    return a, b, c, d


def test_all_channels_are_averaged(tmp_path):
    t = np.arange(32_000) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    left_only = np.stack([tone, np.zeros_like(tone)], axis=1)
    apart = np.stack([tone, -0.5 * tone], axis=1)
    for samples, expected in ((left_only, tone / 2), (apart, tone / 4)):
        encode(tmp_path / "a.mkv", None, samples, audio_codec="pcm_s16le")
        heard = decode(tmp_path / "a.mkv", video=False).samples
        np.testing.assert_allclose(heard, expected, atol=1e-4)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_resampling_moves_nothing(rate_hz, tmp_path):
    t = np.arange(2 * rate_hz) / rate_hz
    encode(
        tmp_path / "a.mkv",
        None,
        (0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32),
        sample_rate_hz=rate_hz,
        audio_codec="pcm_s16le",
    )
    heard = decode(tmp_path / "a.mkv", video=False, start_s=0.5, duration_s=1.0).samples
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (0.5 + np.arange(16_000) / 16_000))
    np.testing.assert_allclose(heard, expected, atol=2e-3)


@pytest.mark.parametrize("video_codec", ["mpeg4", "libx264"])
def test_avi_says_that_its_clock_is_not_known(video_codec, tmp_path, table):
    clip = Recipe("avi", video_codec, "libmp3lame").write(tmp_path)
    assert "AVI" in probe(clip.path).low_confidence
    window = decode(clip.path)
    flash_s, click_s = clock_clips.measured_errors_s(clip, window)
    record(table, f"AVI {video_codec} (flagged low confidence)", flash_s, click_s)
    assert abs(np.mean(flash_s) - np.mean(click_s)) < 0.1
    assert (np.diff(clock_clips.read_indices(window.frames)) >= 0).all()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "ts"])
@pytest.mark.parametrize("delay_s", [0.2, -0.2, -0.033, 2.0, -2.0])
def test_shift_without_re_encoding_moves_the_sound_alone(suffix, delay_s, tmp_path, table):
    codecs = ("libvpx-vp9", "libopus") if suffix == "webm" else ("libx264", "aac")
    clip = Recipe(suffix, *codecs).write(tmp_path)
    out = tmp_path / f"shifted.{suffix}"
    shift_audio(clip.path, out, delay_s)
    window = decode(out, duration_s=8.0)
    heard = clip.clicks_s + delay_s > 0  # what lies before time 0 is hidden
    heard |= suffix in {"mkv", "webm"}  # which can hide nothing: the picture waits
    flash_s = (clock_clips.measured_flashes_s(window) - clip.flash_centres_s)[heard]
    click_s = clock_clips.measured_clicks_s(window, heard.sum()) - clip.clicks_s[heard]
    record(table, "`shift_audio` by 33 ms to 2 s, five containers", flash_s, click_s - delay_s)
    np.testing.assert_allclose(click_s - flash_s, delay_s, atol=0.002)


def test_real_clips_decode_to_the_counts_that_are_known():
    root = Path(__file__).parents[3] / "shared" / "clips"
    paths = sorted(root.glob("**/*.mp4"))
    if not paths:
        pytest.skip("the sample clips are not in ../shared/clips")
    known = {
        "3qesirWAGt4_20000_30000": (250, 160_768),
        "ZYc410CE4Rg_0_10000": (250, 160_768),
        "00018": (393, 251_904),
    }
    for path in paths:
        num_frames, num_samples = known[path.stem]
        info = probe(path)
        window = decode(path)
        assert window.frames.shape == (num_frames, info.video.height, info.video.width, 3)
        assert window.num_errors == 0
        # decoders pad the tail: every sample they give is there, and silence follows
        sound = decode(path, video=False, duration_s=num_samples / 16_000 + 0.1).samples
        assert sound[:num_samples].any()
        assert sound[num_samples - 1_024 : num_samples].any()
        assert not sound[num_samples:].any()
