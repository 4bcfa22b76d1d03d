"""A copy with shifted audio loses, adds and reveals nothing; what cannot be kept is refused."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from tests.cases.comparison import differences
from tests.cases.copies import rows_of
from tests.cases.dressed import make_dressed
from tests.cases.generated import GENERATOR, make_cases
from tests.cases.plain import read_content
from zoo.cli.app import run
from zoo.errors import MediaError
from zoo.files import PART, part_beside
from zoo.media import decode, encode, shift_audio

RATE = 16_000
FRAMES = np.zeros((75, 48, 64, 3), np.uint8)
FRAMES[[20, 55]] = 255  # a flash at 0.8 s and at 2.2 s
SAMPLES = np.zeros(3 * RATE, np.float32)
for begin in (0.9, 2.3):  # a click after each
    SAMPLES[int(begin * RATE) : int(begin * RATE) + 400] = 0.5 * np.sin(np.arange(400) * 0.4)
Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    encode(path, FRAMES, SAMPLES, sample_rate_hz=RATE, gop=25)
    return path


def remux(
    path: Path, out: Path, change: Change = lambda _: None, kinds: Any = None, **options: str
) -> Path:
    """Copy packets as they are, each changed."""
    with av.open(str(path)) as source, av.open(str(out), "w", options=options) as target:
        chosen = [s for s in source.streams if kinds is None or s.type in kinds]
        streams = {s.index: target.add_stream_from_template(s) for s in chosen}
        for packet in source.demux():
            if packet.size and packet.stream.index in streams:
                change(packet)
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return out


def later(seconds: float) -> Change:
    def change(packet: Any) -> None:
        ticks = round(seconds / packet.time_base)
        packet.pts += ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks

    return change


def starts(path: Path) -> tuple[float, float]:
    """Return when the first flash and the first click begin, as a player shows them."""
    clip = decode(path, fps=25, sample_rate_hz=RATE)
    bright = clip.frames.mean((1, 2, 3)) > 128
    return int(bright.argmax()) / 25, int((np.abs(clip.samples) > 0.1).argmax()) / RATE


def packets(path: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                counts[packet.stream.type] = counts.get(packet.stream.type, 0) + 1
    return counts


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov"])
@pytest.mark.parametrize("start_s", [3600.0, 2**33 / 90_000 - 1.5])
def test_a_broadcast_begins_at_zero(
    plain: Path, tmp_path: Path, start_s: float, suffix: str
) -> None:
    """Its clock may count from anywhere, and wrap on the way."""
    clip = remux(plain, tmp_path / "a.ts", later(start_s), mpegts_copyts="1")
    shift_audio(clip, tmp_path / f"out{suffix}", 0.2)
    flash, click = starts(tmp_path / f"out{suffix}")
    assert flash == pytest.approx(0.8, abs=0.11)
    assert click - flash == pytest.approx(0.3, abs=0.011)
    assert packets(tmp_path / f"out{suffix}") == packets(clip)
    if suffix != ".ts":
        with av.open(str(tmp_path / f"out{suffix}")) as copy:
            assert copy.duration / av.time_base == pytest.approx(3.2, abs=0.2)


def test_what_an_edit_list_hides_stays_hidden(plain: Path, tmp_path: Path) -> None:
    one_key = tmp_path / "one.mp4"
    encode(one_key, FRAMES, SAMPLES, sample_rate_hz=RATE, gop=250)
    clip = remux(one_key, tmp_path / "cut.mp4", later(-1.2))
    shift_audio(clip, tmp_path / "out.mp4", 0.2)
    flash, click = starts(tmp_path / "out.mp4")
    assert (flash, click) == (pytest.approx(1.0, abs=0.041), pytest.approx(1.3, abs=0.011))
    with pytest.raises(MediaError, match=r"hides the beginning of cut\.mp4, and \.mkv would"):
        shift_audio(clip, tmp_path / "out.mkv", 0.2)
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_audio_that_is_advanced_is_not_cut_where_nothing_can_be_hidden(
    plain: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    shift_audio(plain, out, -0.5)
    assert packets(out) == packets(plain)
    flash, click = starts(out)
    assert click - flash == pytest.approx(-0.4, abs=0.021)
    if suffix == ".mkv":
        assert flash > 1.2  # the picture waits


def test_streams_that_change_half_way_are_refused_but_by_their_own_container(
    tmp_path: Path,
) -> None:
    encode(tmp_path / "a.ts", FRAMES, SAMPLES, sample_rate_hz=RATE)
    louder = np.repeat(SAMPLES, 3)
    encode(tmp_path / "b.mp4", FRAMES, np.stack([louder, louder], 1), sample_rate_hz=48_000)
    remux(tmp_path / "b.mp4", tmp_path / "b.ts", later(3.5), mpegts_copyts="1")
    clip = tmp_path / "joined.ts"
    first = remux(tmp_path / "a.ts", tmp_path / "c.ts", later(-1.3), mpegts_copyts="1")
    clip.write_bytes(first.read_bytes() + (tmp_path / "b.ts").read_bytes())
    with pytest.raises(MediaError, match=r"changes at 0:0[\d.]+ from 16000 Hz mono to"):
        shift_audio(clip, tmp_path / "out.mp4", 0.1)
    shift_audio(clip, tmp_path / "out.ts", 0.1)
    assert packets(tmp_path / "out.ts") == packets(clip)


def test_times_that_begin_again_are_refused(tmp_path: Path) -> None:
    encode(tmp_path / "a.ts", FRAMES, SAMPLES, sample_rate_hz=RATE)
    clip = tmp_path / "twice.ts"
    clip.write_bytes(2 * (tmp_path / "a.ts").read_bytes())
    with pytest.raises(MediaError, match=r"twice\.ts jump from 0:0[\d.]+ to 0:00; it was joined"):
        shift_audio(clip, tmp_path / "out.mkv", 0.1)


def test_what_a_container_would_lose_is_refused_by_name(plain: Path, tmp_path: Path) -> None:
    clip = tmp_path / "named.mkv"
    with av.open(str(plain)) as source, av.open(str(clip), "w") as target:
        streams = [target.add_stream_from_template(s) for s in source.streams]
        streams[1].metadata["title"] = "commentary"
        streams[1].metadata["language"] = "fre"
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    shift_audio(clip, tmp_path / "out.mkv", 0.1)
    with pytest.raises(MediaError, match="the title 'commentary' of audio track 1 would be lost"):
        shift_audio(clip, tmp_path / "out.ts", 0.1)
    assert not list(tmp_path.glob(f"{PART}*"))


def test_subtitles_that_do_not_fit_are_named(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "text.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    clip = tmp_path / "told.mkv"
    with ExitStack() as stack:
        sources = [stack.enter_context(av.open(str(p))) for p in (plain, tmp_path / "text.srt")]
        target = stack.enter_context(av.open(str(clip), "w"))
        copies = [[target.add_stream_from_template(s) for s in c.streams] for c in sources]
        for source, streams in zip(sources, copies, strict=True):
            for packet in source.demux():
                if packet.size:
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
    with pytest.raises(MediaError, match=r"\.mp4 does not take subtitle track 1 .*; write it as"):
        shift_audio(clip, tmp_path / "out.mp4", 0.1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_stays_a_cover(plain: Path, tmp_path: Path, suffix: str) -> None:
    clip = tmp_path / "covered.mkv"
    Image.fromarray(FRAMES[20]).save(tmp_path / "cover.png")
    content = (tmp_path / "cover.png").read_bytes()
    with av.open(str(plain)) as source, av.open(str(clip), "w") as target:
        streams = [target.add_stream_from_template(s) for s in source.streams]
        target.add_attachment("cover.png", "image/png", content)
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    out = tmp_path / f"out{suffix}"
    shift_audio(clip, out, 0.1)
    with av.open(str(out)) as copy:
        assert [bool(s.disposition & Disposition.attached_pic) for s in copy.streams.video] == [
            False,
            True,
        ]


@pytest.mark.parametrize("delay", ["inf", "nan", "1e300", "-3", "3", "-9"])
def test_a_delay_that_leaves_nothing_is_refused(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], delay: str
) -> None:
    command = ["data", "shift", str(plain), "--delay", delay, "-o", str(tmp_path / "out.mp4")]
    assert run(command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "leaves no sound beside the picture" in said
    assert not list(tmp_path.iterdir())


def test_shift_asks_before_it_replaces(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    command = ["data", "shift", str(plain), "--delay", "0.1", "-o", str(out)]
    assert run(command) == 2
    assert "or replace it with --overwrite" in " ".join(capsys.readouterr().err.split())
    assert out.read_text() == "precious"
    assert run([*command, "--overwrite"]) == 0
    assert packets(out) == packets(plain)


def test_a_name_may_be_as_long_as_the_system_takes(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / ("a" * 240 + ".mp4")
    shift_audio(plain, out, 0.1)
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_a_folder_that_takes_no_file_is_named(plain: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(MediaError, match=r"out\.mp4 cannot be written to .*closed: Permission"):
        shift_audio(plain, closed / "out.mp4", 0.1)


def test_parts_that_a_killed_program_left_go_and_others_stay(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from zoo.files import part_beside\n"
        "with part_beside(Path(sys.argv[1])) as part: os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "out.mp4"], check=False)
    [left] = tmp_path.iterdir()
    at_work = tmp_path / f"{PART}busy.mp4"
    at_work.touch()
    for part in (left, at_work):
        os.utime(part, (0, 0))
    young = tmp_path / f"{PART}young.mp4"
    young.touch()
    with at_work.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with part_beside(tmp_path / "out.mp4"):
            assert not left.exists()
    assert sorted(tmp_path.iterdir()) == [at_work, young]


@pytest.mark.skipif(
    not GENERATOR.exists(), reason="the hard media files are not beside this checkout"
)
def test_hard_files_are_copied_whole_or_refused_for_the_true_reason(tmp_path: Path) -> None:
    made = [
        make_cases(tmp_path / "cases", only="a1,a2,a4,a8,a9"),
        make_dressed(tmp_path / "dressed", only="d_tracks.mkv,d_chapters.mp4,c_fragments.mp4"),
    ]
    folder, suffixes = tmp_path / "copies", [".mp4"]
    rows = [row for cases in made for row in rows_of(cases, folder, suffixes, [-0.2])]
    assert not [row for row in rows if row.outcome == "wrong"]
    refused = {row.case for row in rows if row.outcome == "refused"}
    joined = {"a2_again.ts", "a2_jump.ts", "a9_edits_one_key.mp4", "a9_edits_many_keys.mp4"}
    changing = {"a8_rate.ts", "a8_layout.ts", "a8_size.ts"}
    assert refused == {*joined, *changing, "d_tracks.mkv"}


def test_the_comparison_sees_what_is_missing(plain: Path, tmp_path: Path) -> None:
    def without(*lost: int) -> Path:
        seen = {"video": 0, "audio": 0}
        out = tmp_path / "out.mp4"
        with av.open(str(plain)) as source, av.open(str(out), "w") as target:
            copies = [target.add_stream_from_template(s) for s in source.streams]
            for packet in source.demux():
                kind = packet.stream.type
                seen[kind] += 1
                if packet.size and not (kind == "video" and seen[kind] in lost):
                    packet.stream = copies[packet.stream.index]
                    target.mux(packet)
        return out

    original = read_content(plain)
    assert not list(differences(original, read_content(without()), {}, 0.0, ".mp4", []))
    found = list(differences(original, read_content(without(75)), {}, 0.0, ".mp4", []))
    assert found == ["74 other frames than the 75"]
    assert "clicks 0.200 s off" in list(
        differences(original, read_content(without()), {}, 0.2, ".mp4", [])
    )
