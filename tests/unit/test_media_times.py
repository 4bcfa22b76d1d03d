"""Times that start again, jump or are wild: what is read, and what is said of it."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

import zoo.media.audio
from zoo.errors import MediaError
from zoo.media import Decoder, decode, encode, probe, shift_audio
from zoo.media.audio import Mix, resample
from zoo.media.times import Packet, settle

VIDEO, AUDIO = 0, 1
DAY_S = 86_400.0


def recording(length_s, start_s=0.0, frame_s=0.04, packet_s=0.064):
    """Packets of both streams in the order of their times."""
    found = [
        (index, start_s + number * step_s, step_s)
        for index, step_s in ((VIDEO, frame_s), (AUDIO, packet_s))
        for number in range(round(length_s / step_s))
    ]
    return sorted(found, key=lambda packet: packet[1])


def settled(rows):
    packets = [Packet(index, 0, time_s, time_s, step_s) for index, time_s, step_s in rows]
    by_s = settle(packets, VIDEO)
    return np.array([packet.order_s + by for packet, by in zip(packets, by_s, strict=True)])


def times_of(rows, index):
    return np.array([time_s for i, time_s, _ in rows if i == index])


@pytest.mark.parametrize("again_s", [0.0, 1.4, 5.0 + 36_000, 30.0])
def test_a_second_recording_comes_right_behind(again_s):
    rows = recording(5.12) + recording(5.12, again_s)
    expected = [t for _, t, _ in recording(5.12)] + [5.12 + t for _, t, _ in recording(5.12)]
    np.testing.assert_allclose(settled(rows), expected, atol=1e-9)


def test_sound_that_comes_first_behind_a_join_does_not_move_frames_off_their_lattice():
    second = recording(4.8, 1.4)
    rows = [*recording(5.0), *sorted(second, key=lambda p: p[1] - 0.3 * (p[0] == AUDIO))]
    found = settled(rows)
    is_video = np.array([index == VIDEO for index, _, _ in rows])
    np.testing.assert_allclose(np.diff(found[is_video]), 0.04, atol=1e-9)
    behind = slice(len(recording(5.0)), None)
    moved = found[behind] - [time_s for _, time_s, _ in rows[behind]]
    assert np.ptp(moved) < 1e-9  # sound and picture alike


@pytest.mark.parametrize("times_s", [(0.0, 90.0), (0.0, 90.0, 180.0, 270.0), (5.0,)])
def test_few_packets_far_apart_are_put_on_one_clock(times_s):
    found = settled([(VIDEO, time_s, 0.04) for time_s in times_s])
    np.testing.assert_allclose(np.diff(found), 0.04, atol=1e-9)


def test_frames_that_all_have_one_time_keep_the_rate_that_is_said(tmp_path):
    path = tmp_path / "still.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=64)
        black = np.zeros((64, 64, 3), np.uint8)
        for frame in [*(av.VideoFrame.from_ndarray(black) for _ in range(5)), None]:
            for packet in stream.encode(frame):
                packet.pts = packet.dts = 0
                container.mux(packet)
    assert probe(path).video.fps == 25


@pytest.mark.parametrize("place", [0, 1, 5, 100, 101, 150, -2, -1])
@pytest.mark.parametrize("wild_s", [24.8 * DAY_S, 7.0, -3.0])
def test_one_wild_time_is_put_between_its_neighbours(place, wild_s):
    good = recording(8.0)
    rows = list(good)
    index, time_s, step_s = rows[place]
    if time_s + wild_s < 0:
        wild_s -= 100
    rows[place] = (index, time_s + wild_s, step_s)
    found = settled(rows)
    expected = np.array([t for _, t, _ in good])
    others = np.arange(len(good)) != place % len(good)
    np.testing.assert_allclose(found[others], expected[others])
    if place >= 0 or wild_s != 7.0:  # else nothing behind it says that it is wrong
        np.testing.assert_allclose(found, expected, atol=0.2)


def test_a_pause_of_one_stream_stays():
    rows = [p for p in recording(60.0) if p[0] == VIDEO or not 5 < p[1] < 40]
    np.testing.assert_allclose(settled(rows), [t for _, t, _ in rows])


def test_streams_that_are_stored_one_behind_the_other_stay():
    rows = sorted(recording(60.0), key=lambda packet: packet[0])
    np.testing.assert_allclose(settled(rows), [t for _, t, _ in rows])


NUM, RATE = 100, 16_000


def pictures(num=NUM, first=0):
    levels = (20 + 2 * np.arange(first, first + num)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num, 32, 48, 3))


def noise(num=NUM, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, num * RATE // 25).astype(np.float32)


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """Two recordings of 2 s in one file, each with its own times."""
    folder = tmp_path_factory.mktemp("joined")
    halves = [folder / "one.ts", folder / "two.ts"]
    for number, half in enumerate(halves):
        encode(half, pictures(50, 50 * number), noise(50, number), audio_codec="libmp3lame")
    path = folder / "joined.ts"
    path.write_bytes(b"".join(half.read_bytes() for half in halves))
    return path


def test_both_recordings_of_a_joined_file_are_read(joined):
    info = probe(joined)
    assert info.common_s == pytest.approx(4.0, abs=0.1)
    assert "start again at 0:02" in info.notes[0]
    shown = decode(joined, duration_s=4.0, audio=False).frames.mean((1, 2, 3))
    assert np.abs(shown - (20 + 2 * np.arange(100))).max() < 4
    assert decode(joined, duration_s=4.0).num_errors == 0  # the last packet before is whole, too
    tail = decode(joined, start_s=3.0, duration_s=0.8, audio=False).frames.mean((1, 2, 3))
    np.testing.assert_array_equal(tail, shown[75:95])


def test_a_joined_file_is_not_copied(joined, tmp_path):
    with pytest.raises(Exception, match="was joined"):
        shift_audio(joined, tmp_path / "out.mkv", 0.1)


def test_one_wild_time_of_a_film_makes_it_no_longer(tmp_path):
    encode(tmp_path / "film.mp4", pictures(), noise())
    path = tmp_path / "wild.flv"
    with av.open(str(tmp_path / "film.mp4")) as source, av.open(str(path), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    data = bytearray(path.read_bytes())
    at, sounds = 13, []
    while at + 12 < len(data):
        sounds += [at] * (data[at] == 8)
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    data[sounds[30] + 4 : sounds[30] + 8] = bytes.fromhex("7fffff7f")
    whole = decode(path, duration_s=3.9)
    path.write_bytes(data)
    info = probe(path)
    assert info.duration_s < 4.3
    assert info.notes == ("1 timestamp of the audio is 24.8 days off and was replaced",)
    window = decode(path, duration_s=3.9)
    np.testing.assert_array_equal(window.frames, whole.frames)
    np.testing.assert_allclose(window.samples, whole.samples, atol=1e-3)


@pytest.mark.parametrize(("suffix", "codec"), [("h264", "libx264"), ("m2v", "mpeg2video")])
def test_a_raw_stream_is_read_as_often_as_one_likes(suffix, codec, tmp_path):
    path = tmp_path / f"clip.{suffix}"
    encode(path, pictures(), None, video_codec=codec, gop=50, crf=None)
    assert probe(path).video.duration_s == pytest.approx(4.0, abs=0.05)
    decoder = Decoder(path)
    whole = decoder.window(0.0, 3.6, audio=False).frames
    assert np.abs(whole.mean((1, 2, 3)) - (20 + 2 * np.arange(90))).max() < 6
    for start_s in (2.0, 0.4, 2.8):
        part = decoder.window(start_s, 0.8, audio=False).frames
        first = round(start_s * 25)
        np.testing.assert_array_equal(part, whole[first : first + 20])


def with_times(path, times_ms):
    """Write pictures at times of their own."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=1000, options={"g": "1000", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time_ms, picture in zip(times_ms, pictures(len(times_ms)), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("freeze_ms", [300, 2_000, 12_000])
def test_while_the_picture_stands_still_the_one_before_is_shown(suffix, freeze_ms, tmp_path):
    jitter = np.random.default_rng(0).integers(-8, 9, 60)
    times_ms = 40 * np.arange(60) + np.where(np.arange(60) > 0, jitter, 0)
    times_ms[30:] += freeze_ms
    path = with_times(tmp_path / f"freeze.{suffix}", times_ms.tolist())
    length_s = (times_ms[-1] + 40) / 1000
    shown = decode(path, duration_s=length_s, audio=False).frames.mean((1, 2, 3))
    numbers = np.round((shown - 20) / 2).astype(int)
    at_ms = 40 * np.arange(len(numbers))
    early_ms = times_ms[np.clip(numbers, 0, 59)] - at_ms
    assert early_ms.max() <= 30  # nearest, while all goes on
    assert early_ms[numbers == 30].max() <= 21  # half a frame
    is_frozen = (at_ms > times_ms[29] + 20) & (at_ms < times_ms[30] - 20)
    assert np.abs(numbers[is_frozen] - 29).max() <= 1


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("gop", [10, 1000])
@pytest.mark.parametrize(("step_s", "length_s"), [(0.64, 0.96), (0.8, 0.8), (1.0, 0.4)])
def test_a_window_that_goes_on_is_that_of_a_seek(suffix, gop, step_s, length_s, tmp_path):
    path = tmp_path / f"clip.{suffix}"
    frames = np.random.default_rng(1).integers(0, 255, (NUM, 32, 48, 3), np.uint8)
    encode(path, frames, noise(), gop=gop, audio_codec="libmp3lame")
    decoder = Decoder(path)
    for start_s in np.arange(0, 3.0, step_s).round(6):
        window = decoder.window(start_s, length_s)
        other = decode(path, start_s=start_s, duration_s=length_s)
        np.testing.assert_array_equal(window.frames, other.frames)
        np.testing.assert_allclose(window.samples, other.samples, atol=1e-6)


def test_going_on_decodes_every_frame_once(tmp_path, monkeypatch):
    from zoo.media.container import Source

    path = tmp_path / "clip.mp4"
    encode(path, pictures(), noise(), gop=1000)
    frames_of, seen = Source.frames, []

    def counted(self, stream):
        for item in frames_of(self, stream):
            seen.append(stream.type)
            yield item

    monkeypatch.setattr(Source, "frames", counted)
    decoder = Decoder(path)
    for start_s in np.arange(0, 3.2, 0.32).round(6):
        decoder.window(start_s, 0.64)
    assert seen.count("video") <= NUM
    assert seen.count("audio") <= NUM * 40 / 64 + 4


def test_a_forgotten_decoder_closes_its_file(tmp_path):
    encode(tmp_path / "clip.mp4", pictures(), noise())
    decoder = Decoder(tmp_path / "clip.mp4")
    decoder.window(0.0, 1.0)
    sources = list(decoder._sources)
    del decoder
    with pytest.raises(AssertionError, match="not open"):
        sources[0].container.seek(0)


def with_rates(path, rates_hz):
    """Write 2 s of a tone at each rate, one behind the other."""
    parts = []
    for number, rate_hz in enumerate(rates_hz):
        t = np.arange(2 * rate_hz) / rate_hz
        tone = (0.3 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
        tone = tone if number % 2 else np.stack([tone, tone], 1)
        one = path.with_name(f"{number}.ts")
        options = {"sample_rate_hz": rate_hz, "audio_delay_s": 0.0}
        encode(one, pictures(50), tone, audio_codec="mp2", **options)
        parts.append(one.read_bytes())
    path.write_bytes(b"".join(parts))


def test_each_stretch_of_a_sound_is_resampled_from_its_own_rate(tmp_path):
    path = tmp_path / "rates.ts"
    with_rates(path, (44_100, 48_000, 44_100))
    decoder = Decoder(path)
    window = decoder.window(0.0, 5.9, video=False)
    told = "; ".join(decoder.notes)
    assert "from 44100 Hz and 2 channels to 48000 Hz and 1 channel at 0:02" in told
    for start_s in (0.5, 2.5, 4.5):
        piece = window.samples[round(start_s * RATE) :][:RATE]
        spectrum = np.abs(np.fft.rfft(piece))
        assert spectrum.argmax() == 1000
    for start_s in (1.5, 2.2, 3.5):
        part = decode(path, start_s=start_s, duration_s=1.0, video=False).samples
        at = round(start_s * RATE)
        np.testing.assert_allclose(part, window.samples[at : at + RATE], atol=2e-3)


def test_a_rate_that_changes_again_and_again_is_refused(tmp_path):
    path = tmp_path / "rates.ts"
    with_rates(path, (16_000, 22_050, 24_000, 32_000, 48_000))
    with pytest.raises(MediaError, match="is damaged: the rate of its audio changes all the time"):
        decode(path, duration_s=9.5, video=False)


def test_a_long_sound_is_resampled_in_parts_without_a_seam(monkeypatch):
    sound = noise(2000)
    whole = resample(sound, 44_100, RATE)
    monkeypatch.setattr(zoo.media.audio, "MOST_AT_ONCE", 10_007)
    np.testing.assert_array_equal(resample(sound, 44_100, RATE), whole)


def test_frames_that_change_their_size_keep_their_shape(tmp_path):
    parts = []
    for width in (48, 96):
        frame = np.full((50, 48, width, 3), 30, np.uint8)
        frame[:, 20:28, width // 2 - 4 : width // 2 + 4] = 220  # a square in the middle
        encode(tmp_path / f"{width}.ts", frame, None)
        parts.append((tmp_path / f"{width}.ts").read_bytes())
    path = tmp_path / "sizes.ts"
    path.write_bytes(b"".join(parts))
    decoder = Decoder(path)
    window = decoder.window(0.0, 4.0, audio=False)
    assert "the video changes from 48x48 pixels to 96x48 pixels at 0:02" in decoder.notes
    assert window.frames.shape == (100, 48, 48, 3)
    assert np.abs(window.frames[10].astype(int) - window.frames[90].astype(int)).max() < 12
    later = decode(path, start_s=3.0, duration_s=0.4, audio=False)
    assert later.frames.shape == (10, 48, 96, 3)
    np.testing.assert_array_equal(later.frames[:, :, 24:72], window.frames[75:85])


def with_two_edits(path, source, shown_ms):
    """Copy a film of 25 fps, and show parts of it: two edits in place of a delay and one edit."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                second = round(1 / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts + second,
                    packet.dts + second,
                    copy,
                )
                out.mux(packet)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"elst") + 12
    (first,) = struct.unpack(">i", data[at + 12 + 4 : at + 12 + 8])  # where its media time begins
    for number, (begin, end) in enumerate(shown_ms):
        media = first + begin * second // 1000
        struct.pack_into(">IiI", data, at + 12 * number, end - begin, media, 1 << 16)
    for box, skip in ((b"mvhd", 16), (b"tkhd", 20)):
        struct.pack_into(">I", data, data.rindex(box) + 4 + skip, sum(b - a for a, b in shown_ms))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("gop", [25, 1000])
def test_all_parts_of_an_edited_film_are_read_and_nothing_that_is_hidden(gop, tmp_path):
    whole = tmp_path / "whole.mp4"
    encode(whole, pictures(100), noise(100), gop=gop)
    path = with_two_edits(tmp_path / "edited.mp4", whole, [(0, 1000), (3000, 4000)])
    info = probe(path)
    assert (info.video.start_s, round(info.video.duration_s, 2)) == (0.0, 2.0)
    assert info.video.fps == pytest.approx(25, rel=0.03)
    expected = 20 + 2 * np.array([*range(25), *range(75, 100)])
    decoder = Decoder(path, fps=25)
    for start_s in (0.0, 1.0, 0.4):
        window = decoder.window(start_s, 0.6, audio=False)
        shown = window.frames.mean((1, 2, 3)) - expected[round(start_s * 25) :][:15]
        assert np.abs(shown).max() < (3 if gop == 25 else 7)  # FFmpeg shows two frames late


def channels(*gains, num=6, faint=0.05):
    """One sound in some of the channels, and noise of its own in each, as an encoder adds it."""
    sound = noise(seed=1)
    mixed = np.stack([faint * noise(seed=2 + n) for n in range(num)])
    mixed[: len(gains)] += np.outer(gains, sound)
    return av.AudioFrame.from_ndarray(mixed, format="fltp", layout={2: "stereo", 6: "5.1"}[num])


@pytest.mark.parametrize("num", [2, 6])
@pytest.mark.parametrize("gains", [(1, -1), (1,), (0, 1), (1, 1), (1, -0.2)])
def test_channels_cancel_where_a_mix_leaves_less_than_one_of_them_would(num, gains):
    mix = Mix()
    heard = mix([channels(*gains, num=num)])
    cancels = gains == (1, -1)
    assert bool(mix.notes) == cancels
    expected = noise(seed=1) * (1 if cancels else sum(gains) / num)
    assert abs(np.corrcoef(heard, expected)[0, 1]) > 0.97  # either of two that cancel
