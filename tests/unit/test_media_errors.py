"""Whatever is wrong with a file is one sentence that names it, never a traceback of the decoder."""

import numpy as np
import pytest

from zoo.errors import MediaError
from zoo.media import decode, encode, probe, require_streams


@pytest.fixture
def noise():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (75, 48, 64, 3), np.uint8)
    samples = rng.normal(0, 0.1, 48_000).astype(np.float32)
    return frames, samples


@pytest.fixture
def clip(noise, tmp_path):
    path = tmp_path / "clip.mp4"
    encode(path, *noise, gop=10, container_options={"movflags": "faststart"})
    return path


def assert_refused(path, *words, action=decode):
    with pytest.raises(MediaError) as caught:
        action(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert "Errno" not in message
    for word in words:
        assert word in message


def assert_read_as_far_as_it_goes(cut, whole, *, announces_its_length=True):
    info = probe(cut)
    assert 1.2 < info.common_s < 2.5
    notes = "".join(info.notes)
    assert ("the file ends after 0:0" in notes) == announces_its_length
    window, expected = decode(cut), decode(whole)
    assert len(window.frames) == round(info.common_s * 25)
    np.testing.assert_array_equal(window.frames[:25], expected.frames[:25])
    with pytest.raises(MediaError, match="lies outside"):
        decode(cut, start_s=2.6, duration_s=0.4)


@pytest.mark.parametrize("action", [probe, decode])
def test_missing_file(action, tmp_path):
    assert_refused(tmp_path / "none.mp4", "there is no file", action=action)


@pytest.mark.parametrize("action", [probe, decode])
def test_folder(action, tmp_path):
    assert_refused(tmp_path, "is a folder", action=action)


@pytest.mark.parametrize("action", [probe, decode])
def test_empty_file(action, tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert_refused(tmp_path / "empty.mp4", "is empty", action=action)


@pytest.mark.parametrize("action", [probe, decode])
@pytest.mark.parametrize("name", ["text.mp4", "text.mkv", "text.txt", "text.srt"])
def test_text_is_not_media(name, action, tmp_path):
    (tmp_path / name).write_text("1\n00:00:01,000 --> 00:00:02,000\nThis is a letter.\n" * 50)
    assert_refused(tmp_path / name, action=action)


def test_a_playlist_does_not_reach_out(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/part.ts\n#EXT-X-ENDLIST\n")
    assert_refused(path, action=probe)


@pytest.mark.parametrize("action", [probe, decode])
def test_mp4_cut_before_its_index(noise, action, tmp_path):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    encode(whole, *noise)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert_refused(cut, "cut short", "moov", action=action)


def test_fast_start_mp4_cut_at_60_percent(clip, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    assert_read_as_far_as_it_goes(cut, clip)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts"])
def test_other_containers_cut_at_60_percent(suffix, noise, tmp_path):
    codecs = {} if suffix != "webm" else {"video_codec": "libvpx-vp9", "audio_codec": "libopus"}
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    encode(whole, *noise, **codecs)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert_read_as_far_as_it_goes(cut, whole, announces_its_length=suffix != "ts")


def test_missing_streams(noise, tmp_path):
    silent, blind = tmp_path / "silent.mp4", tmp_path / "blind.m4a"
    encode(silent, noise[0], None)
    encode(blind, None, noise[1])
    assert probe(silent).audio is None
    assert probe(blind).video is None
    assert_refused(silent, "silent.mp4 has no audio stream")
    assert_refused(blind, "blind.m4a has no video stream")
    for path, missing in ((silent, "audio"), (blind, "video")):
        with pytest.raises(MediaError, match=f"{path.name} has no {missing} stream"):
            require_streams(probe(path))
    assert decode(silent, audio=False).samples is None
    assert decode(blind, video=False).frames is None


@pytest.mark.parametrize("start_s", [3.2, 100.0, -5.0])
def test_window_outside_the_clip(start_s, clip):
    assert_refused(
        clip, "lasts from 0.00 to 3.0", action=lambda p: decode(p, start_s=start_s, duration_s=1.0)
    )


def test_window_without_length(clip):
    with pytest.raises(MediaError, match="shorter than a frame"):
        decode(clip, duration_s=0.0)
    with pytest.raises(MediaError, match="nothing to decode"):
        decode(clip, video=False, audio=False)


def test_a_few_damaged_packets_are_counted_and_survived(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    window = decode(damaged)
    assert window.num_errors > 0
    assert window.frames.shape == (75, 48, 64, 3)


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_is_decoded_or_refused(seed, clip, tmp_path):
    rng = np.random.default_rng(seed)
    data = np.frombuffer(clip.read_bytes(), np.uint8).copy()
    where = rng.integers(0, len(data), 2 ** (seed % 6 + 2))
    data[where] = rng.integers(0, 256, len(where))
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data.tobytes())
    try:
        probe(damaged)
        window = decode(damaged, start_s=0.4, duration_s=1.0, short_side=32)
    except MediaError:
        return
    assert window.frames.shape[0] == 25
    assert window.samples.shape == (16_000,)
    assert np.isfinite(window.samples).all()


def test_a_run_of_frames_that_the_file_cannot_hold_is_refused(noise, tmp_path):
    path = tmp_path / "fragments.mp4"
    encode(path, *noise, gop=10, container_options={"movflags": "frag_keyframe+empty_moov"})
    assert probe(path).video.duration_s == pytest.approx(3.0, abs=0.1)
    data = bytearray(path.read_bytes())
    place = data.index(b"trun") + 4
    data[place : place + 8] = b"\0\0\0\0" + (2**25).to_bytes(4)  # no bytes for any of them
    path.write_bytes(data)
    assert_refused(path, "is damaged", "33,554,432 frames", action=probe)


def test_sizes_that_are_all_alike_may_not_claim_more_than_the_file_holds(clip):
    data = bytearray(clip.read_bytes())
    place = data.index(b"stsz") + 8
    data[place : place + 8] = (1).to_bytes(4) + (2**31).to_bytes(4)
    clip.write_bytes(data)
    assert_refused(clip, "is damaged", "2,147,483,648 frames", action=probe)
