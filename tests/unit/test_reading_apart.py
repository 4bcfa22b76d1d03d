"""Clips that crash, hang or fill up the process that reads them."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from zoo.data import check
from zoo.data.check import check_clips
from zoo.data.manifest import Manifest
from zoo.errors import MediaError
from zoo.media import ClipInfo, apart, decode, probe, untrusted
from zoo.media.apart import reading_apart, reads_clip, reads_frames
from zoo.media.in_order import pictures_in_order


@reads_clip
def act(path: Path, how: str) -> str | tuple[int, np.ndarray]:
    """Do what a strange file makes a decoder do."""
    if how == "crash" or (how == "crash once" and not path.exists()):
        path.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        while True:
            pass
    if how == "fill up":
        np.ones(2**45, np.uint8)
    if how == "be wrong":
        raise KeyError("key")
    if how == "warn":
        logging.getLogger("zoo.media").warning("100 % strange")
    return os.getpid(), np.arange(6).reshape(2, 3)


@reads_frames
def act_midway(path: Path) -> Generator[np.ndarray]:
    yield np.zeros(3)
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_clip_is_read_elsewhere_and_is_the_same(clips: Manifest) -> None:
    path = clips.clips[0].path
    here = decode(path, duration_s=1.0, short_side=32)
    with reading_apart():
        there = decode(path, duration_s=1.0, short_side=32)
        assert probe(path).path == path
        assert act(path, "")[0] != os.getpid()
        assert len(list(pictures_in_order(path, 25.0, 5))) == 5
    assert act(path, "")[0] == os.getpid()
    assert np.array_equal(here.frames, there.frames)
    assert np.array_equal(here.samples, there.samples)
    there.frames[0] = 0  # as if it had been read here


def test_relative_paths_are_in_the_folder_of_whoever_asks(
    clips: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clip = clips.clips[0].path
    with reading_apart():
        monkeypatch.chdir(tmp_path)
        probe(clip)
        monkeypatch.chdir(clip.parent)
        assert probe(clip.name).path == Path(clip.name)


def test_a_crash_is_a_sentence_and_the_next_clip_is_read(tmp_path: Path) -> None:
    with reading_apart():
        with pytest.raises(MediaError, match=r"a\.mp4 .* ends the process .*signal 11"):
            act(tmp_path / "a.mp4", "crash")
        with pytest.raises(MediaError, match=r"a\.mp4 .* ends the process .*signal 11"):
            list(act_midway(tmp_path / "a.mp4"))
        assert act(tmp_path / "b.mp4", "")[1].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_crash_that_does_not_come_again_costs_nothing(tmp_path: Path) -> None:
    with reading_apart():
        assert act(tmp_path / "a.mp4", "crash once")[1].shape == (2, 3)


def test_a_hang_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "STALL_S", 0.1)
    monkeypatch.setattr(apart._Readers, "here", None)  # processes with this limit
    with reading_apart(), pytest.raises(MediaError, match=r"no progress in 0\.1 s of processor"):
        act(tmp_path / "a.mp4", "hang")


def test_too_much_memory_and_our_own_mistakes_are_sentences(tmp_path: Path) -> None:
    with reading_apart():
        with pytest.raises(MediaError, match=r"a\.mp4 asks for more memory than there is"):
            act(tmp_path / "a.mp4", "fill up")
        with pytest.raises(MediaError, match=r"a\.mp4 cannot be read: KeyError: 'key'"):
            act(tmp_path / "a.mp4", "be wrong")
        with pytest.raises(MediaError, match="there is no file"):
            probe(tmp_path / "missing.mp4")


def test_what_is_logged_there_is_logged_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with reading_apart():
        act(tmp_path / "a.mp4", "warn")
    assert "100 % strange" in caplog.text


def test_a_process_ends_with_the_one_that_asks_it() -> None:
    reader = apart._Reader()
    reader._socket.close()  # all that is seen of a parent that was killed
    assert reader._process.wait(timeout=60) == 0


def test_a_clip_that_kills_its_reader_is_reported_and_the_others_are_checked(
    clips: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "probe", _crash_at_strange_clips)
    good, strange = clips.clips[0].path, tmp_path / "strange.mp4"
    reports = check_clips([good, strange, good], workers=2)
    assert [report.is_usable for report in reports] == [True, False, True]
    assert "ends the process" in reports[1].problems[0]


def _crash_at_strange_clips(path: Path) -> ClipInfo:
    if path.name == "strange.mp4":
        act(path, "crash")
    return probe(path)


def test_only_films_and_sounds_are_opened(tmp_path: Path) -> None:
    for name in ("hls", "concat", "dash", "sdp", "image2", "tty", "lavfi", "rtsp", "srt"):
        assert name not in untrusted.FORMATS.split(",")
    for number, text in enumerate(
        (
            "ffconcat version 1.0\nfile 0.mp4\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.mp4\n",
            "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
        )
    ):
        path = tmp_path / f"{number}.mp4"
        path.write_text(text)
        with pytest.raises(MediaError, match="is not a media file"):
            probe(path)
