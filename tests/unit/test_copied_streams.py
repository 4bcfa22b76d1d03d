"""What goes with the streams of a clip goes with those of its copy, or the copy is refused."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from zoo.errors import MediaError
from zoo.media import decode, encode, shift_audio

RATE = 48_000
FRAMES = np.zeros((50, 64, 64, 3), np.uint8)
FRAMES[[12, 37]] = 255
SAMPLES = np.zeros(2 * RATE, np.float32)
for begin in (0.6, 1.6):
    SAMPLES[int(begin * RATE) :][:1200] = 0.5 * np.sin(np.arange(1200) * 0.13)
SPHERICAL = (
    b"\xff\xcc\x82\x63\xf8\x55\x4a\x93\x88\x14\x58\x7a\x02\x52\x1f\xdd"
    b'<rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    b'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
    b"<GSpherical:Spherical>true</GSpherical:Spherical>"
    b"<GSpherical:Stitched>true</GSpherical:Stitched>"
    b"<GSpherical:StitchingSoftware>test</GSpherical:StitchingSoftware>"
    b"<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    b"</rdf:SphericalVideo>"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    encode(path, FRAMES, SAMPLES, sample_rate_hz=RATE, gop=25)
    return path


def dressed(
    clip: Path, out: Path, dress: Callable[[Any], None], later_s: float = 0, **options: str
) -> Path:
    """Copy a clip; its container is changed before the first packet."""
    with av.open(str(clip)) as source, av.open(str(out), "w", container_options=options) as target:
        copies = [target.add_stream_from_template(s, opaque=True) for s in source.streams]
        dress(target)
        for packet in source.demux():
            if packet.size:
                ticks = round(later_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return out


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_codec_whose_decoder_has_another_name_is_copied(tmp_path: Path, suffix: str) -> None:
    clip = tmp_path / f"clip{suffix}"
    encode(clip, FRAMES, SAMPLES, sample_rate_hz=RATE, video_codec="libsvtav1")
    shift_audio(clip, tmp_path / f"out{suffix}", 0.2)
    copy = decode(tmp_path / f"out{suffix}", fps=25, sample_rate_hz=RATE)
    assert np.array_equal(copy.frames[:50], decode(clip, fps=25, sample_rate_hz=RATE).frames[:50])


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_codec_keeps_the_name_that_its_container_gave_it(tmp_path: Path, suffix: str) -> None:
    encode(tmp_path / "a.mp4", FRAMES, SAMPLES, sample_rate_hz=RATE, video_codec="libx265")

    def name(target: Any) -> None:
        target.streams.video[0].codec_context.codec_tag = "hvc1"

    clip = dressed(tmp_path / "a.mp4", tmp_path / f"clip{suffix}", name)
    shift_audio(clip, tmp_path / "out.mp4", 0.2)
    with av.open(str(tmp_path / "out.mp4")) as copy:
        assert copy.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_tags_of_a_phone_are_kept(
    plain: Path, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    tags = {"com.apple.quicktime.make": "Apple", "com.android.version": "14", "title": "a"}
    clip = dressed(
        plain, tmp_path / f"a{suffix}", lambda t: t.metadata.update(tags),
        movflags="+use_metadata_tags",
    )  # fmt: skip
    shift_audio(clip, tmp_path / f"out{suffix}", 0.2)
    with av.open(str(tmp_path / f"out{suffix}")) as copy:
        assert copy.metadata.items() >= tags.items()
    assert not warnings_of(caplog)


def test_tags_that_a_container_does_not_take_are_named(
    plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = dressed(plain, tmp_path / "a.mkv", lambda t: t.metadata.update({"mood": "fine"}))
    shift_audio(clip, tmp_path / "out.mkv", 0.2)
    assert not warnings_of(caplog)
    shift_audio(clip, tmp_path / "out.mp4", 0.2)
    assert warnings_of(caplog) == ["a.mkv: .mp4 does not keep the tags mood"]


def with_chapters(target: Any, *bounds_ms: int) -> None:
    target.set_chapters([
        {"id": k, "start": a, "end": b, "time_base": Fraction(1, 1000),
         "metadata": {"title": f"part {k}"}}
        for k, (a, b) in enumerate(pairwise(bounds_ms))
    ])  # fmt: skip


def test_chapters_and_timecode_are_kept_or_the_copy_is_refused(
    plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def dress(target: Any) -> None:
        target.streams.video[0].metadata["timecode"] = "01:00:00:00"
        with_chapters(target, 0, 800, 2000)

    clip = dressed(plain, tmp_path / "a.mov", dress)
    with av.open(str(clip)) as source:
        kinds = [stream.type for stream in source.streams]
    for suffix in (".mov", ".mp4", ".mkv"):
        shift_audio(clip, tmp_path / f"out{suffix}", 0.2)
        with av.open(str(tmp_path / f"out{suffix}")) as copy:
            chapters = copy.chapters()
            assert [c["metadata"]["title"] for c in chapters] == ["part 0", "part 1"]
            assert chapters[1]["start"] * chapters[1]["time_base"] == pytest.approx(0.8)
            tags = {k.lower(): v for k, v in copy.streams.video[0].metadata.items()}
            assert tags["timecode"] == "01:00:00:00"
            if suffix != ".mkv":
                assert [stream.type for stream in copy.streams] == kinds
    assert not warnings_of(caplog)
    with pytest.raises(MediaError, match="its chapters would be lost; write it as"):
        shift_audio(clip, tmp_path / "out.ts", 0.2)


def test_chapters_that_would_move_are_named(plain: Path, tmp_path: Path) -> None:
    """The first one of mp4 begins with the film."""
    clip = dressed(plain, tmp_path / "a.mkv", lambda t: with_chapters(t, 500, 800, 2000))
    shift_audio(clip, tmp_path / "out.mkv", -0.2)
    with pytest.raises(MediaError, match=r"'part 0' would begin at 0\.00 s, not at 0\.50"):
        shift_audio(clip, tmp_path / "out.mp4", 0.2)


def test_video_of_360_degrees_stays_so(plain: Path, tmp_path: Path) -> None:
    data = plain.read_bytes()
    box = struct.pack(">I4s", 8 + len(SPHERICAL), b"uuid") + SPHERICAL
    for kind in (b"moov", b"trak"):  # each says how long it is; nothing lies behind them
        at = data.index(kind) - 4
        length = int.from_bytes(data[at : at + 4], "big")
        data = data[:at] + struct.pack(">I", length + len(box)) + data[at + 4 :]
    end = at + length
    clip = tmp_path / "round.mp4"
    clip.write_bytes(data[:end] + box + data[end:])

    def is_spherical(path: Path) -> bool:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            return any(data.type.name == "SPHERICAL" for data in frame.side_data)

    assert is_spherical(clip)
    for suffix in (".mp4", ".mov", ".mkv"):
        shift_audio(clip, tmp_path / f"out{suffix}", 0.2)
        assert is_spherical(tmp_path / f"out{suffix}"), suffix
    with pytest.raises(MediaError, match="the projection of 360 degree video of video track 1"):
        shift_audio(clip, tmp_path / "out.ts", 0.2)


def test_a_rotation_that_would_be_lost_is_named(plain: Path, tmp_path: Path) -> None:
    def turn(target: Any) -> None:
        target.streams.video[0].set_display_rotation(180)

    clip = dressed(plain, tmp_path / "a.mp4", turn)
    shift_audio(clip, tmp_path / "out.mkv", 0.2)
    with pytest.raises(MediaError, match="the rotation of video track 1 would be lost"):
        shift_audio(clip, tmp_path / "out.ts", 0.2)


def test_raw_samples_may_be_cut_into_other_packets(tmp_path: Path) -> None:
    clip = tmp_path / "a.mkv"
    encode(clip, FRAMES, SAMPLES, sample_rate_hz=RATE, audio_codec="pcm_s16le")
    for delay_s in (0.25, -0.25):
        shift_audio(clip, tmp_path / "out.mp4", delay_s)
        samples = decode(tmp_path / "out.mp4", fps=25, sample_rate_hz=RATE).samples
        click = int((np.abs(samples) > 0.1).argmax()) / RATE
        assert click == pytest.approx(0.6 + delay_s, abs=0.002)


def test_a_copy_that_could_not_be_decoded_is_refused(tmp_path: Path) -> None:
    """MPEG-4 keeps its sizes in the header of mp4, and MPEG-TS has none."""
    clip = tmp_path / "a.mp4"
    encode(clip, FRAMES, SAMPLES, sample_rate_hz=RATE, video_codec="mpeg4")
    shift_audio(clip, tmp_path / "out.mkv", 0.2)
    with pytest.raises(MediaError, match="the codec mpeg4 of video track 1 would be lost"):
        shift_audio(clip, tmp_path / "out.ts", 0.2)


def test_tracks_that_a_container_only_seems_to_take_are_named(tmp_path: Path) -> None:
    clip = tmp_path / "a.mkv"
    encode(clip, FRAMES, SAMPLES, sample_rate_hz=RATE, audio_codec="flac")
    with pytest.raises(MediaError, match=r"it would lose 1 of 1 audio tracks; write it as \.mkv"):
        shift_audio(clip, tmp_path / "out.ts", 0.2)
    with pytest.raises(MediaError, match=r"\.mov does not take audio track 1 \(flac\); write it"):
        shift_audio(clip, tmp_path / "out.mov", 0.2)


def test_avi_is_refused_where_its_times_do_not_suffice(tmp_path: Path) -> None:
    clip = tmp_path / "a.avi"
    how: dict[str, Any] = {"sample_rate_hz": 44_100, "audio_codec": "libmp3lame"}
    encode(clip, FRAMES, SAMPLES[::2], video_options={"bf": "2"}, **how)
    with pytest.raises(MediaError, match=r"a\.avi does not say when its frames are shown"):
        shift_audio(clip, tmp_path / "out.mkv", 0.2)
    encode(clip, FRAMES, SAMPLES[::2], video_codec="mpeg4", **how)
    shift_audio(clip, tmp_path / "out.mkv", 0.2)
    with pytest.raises(MediaError, match=r"AVI keeps no times, .*; write it as \.mkv or \.mp4"):
        shift_audio(clip, tmp_path / "out.avi", 0.2)
    assert not (tmp_path / "out.avi").exists()


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_that_an_edit_list_hides_is_not_delayed_into_the_clip(
    plain: Path, tmp_path: Path, suffix: str
) -> None:
    clip = dressed(plain, tmp_path / "cut.mp4", lambda _: None, later_s=-0.8)
    shift_audio(clip, tmp_path / f"out{suffix}", 0.3)
    samples = decode(tmp_path / f"out{suffix}", fps=25, sample_rate_hz=RATE).samples
    loud = np.flatnonzero(np.abs(samples) > 0.1) / RATE
    assert loud[0] == pytest.approx(1.1, abs=0.01)  # the click at 0.6 s is hidden


def test_a_hidden_beginning_beside_another_cut_is_refused_for_the_cut(
    plain: Path, tmp_path: Path
) -> None:
    """Another container would be no help."""
    clip = dressed(plain, tmp_path / "cut.mp4", lambda _: None, later_s=-0.6)
    with pytest.raises(MediaError, match=r"hides the beginning of cut\.mp4, .*; write it as \.mp4"):
        shift_audio(clip, tmp_path / "out.mkv", 0.2)
    data = clip.read_bytes()
    at = data.index(b"elst") + 12  # how long the edit of the video is, in milliseconds
    clip.write_bytes(data[:at] + struct.pack(">I", 900) + data[at + 4 :])
    for suffix in (".mkv", ".mp4"):
        with pytest.raises(MediaError, match=r"cuts parts out of cut\.mp4"):
            shift_audio(clip, tmp_path / f"out{suffix}", 0.2)
