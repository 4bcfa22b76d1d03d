"""AVE by its annotations and split lists, on miniature lists and empty files."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

from plugins.ave.adapter import Ave
from zoo import ClipRecord, testing
from zoo.data.manifest import build_manifest
from zoo.errors import ManifestError
from zoo.media import encode
from zoo.registry.manager import registry

TITLES = "Category&VideoID&Quality&StartTime&EndTime"
ROWS = [
    "Church bell&RUhOCu3LNXM&good&0&10",
    "Male speech, man speaking&VWi2ENBuTbw&good&3&7",
    "Church bell&-FDmL3kEy0M&good&2&2",
    "Bark&_F1zhB2nQ3o&bad&1&4",
]


def write(path: Path, *lines: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """Annotations and lists in their format."""
    folder = tmp_path / "meta"
    write(folder / "Annotations.txt", TITLES, *ROWS)
    for name, rows in (("trainSet", ROWS[:2]), ("valSet", ROWS[2:3]), ("testSet", ROWS[3:])):
        write(folder / f"{name}.txt", *rows)
    return folder


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "v"
    folder.mkdir()
    for row in ROWS:
        (folder / f"{row.split('&')[1]}.mp4").touch()
    return folder


def adapter_of(meta: Path, **options: Any) -> Ave:
    spec = registry().dataset("ave")
    adapter = spec.build(spec.config_class(meta=meta, **options))
    assert isinstance(adapter, Ave)
    return adapter


def scan(adapter: Ave, videos: Path) -> dict[str, ClipRecord]:
    return {record.path.stem: record for record in adapter.scan(videos)}


def test_events_are_seconds_in_which_something_is_audible_and_visible(
    meta: Path, videos: Path
) -> None:
    adapter = adapter_of(meta)
    found = scan(adapter, videos)
    assert found["VWi2ENBuTbw"].events == ((3.0, 7.0, "Male speech, man speaking"),)
    assert found["RUhOCu3LNXM"].events == ((0.0, math.inf, "Church bell"),)
    assert found["-FDmL3kEy0M"].events == ()
    assert found["-FDmL3kEy0M"].label == "Church bell"
    assert {name: record.split for name, record in found.items()} == {
        "RUhOCu3LNXM": "train",
        "VWi2ENBuTbw": "train",
        "-FDmL3kEy0M": "valid",
        "_F1zhB2nQ3o": "test",
    }
    assert adapter.classes() == ("Bark", "Church bell", "Male speech, man speaking")


def test_lists_may_number_the_lines_of_the_annotations(meta: Path, videos: Path) -> None:
    expected = scan(adapter_of(meta), videos)
    for name in ("trainSet", "valSet", "testSet"):
        (meta / f"{name}.txt").unlink()
    for name, numbers in (("train", (1, 0)), ("val", (2,)), ("test", (3,))):
        write(meta / f"{name}_order.txt", *numbers)
    assert scan(adapter_of(meta), videos) == expected


def test_missing_videos_are_counted(meta: Path, videos: Path) -> None:
    (videos / "_F1zhB2nQ3o.mp4").unlink()
    adapter = adapter_of(meta)
    assert len(scan(adapter, videos)) == 3
    assert [(clip.id, clip.split) for clip in adapter.left_out() or []] == [("_F1zhB2nQ3o", "test")]


def test_lists_of_other_splits_are_not_needed(meta: Path, videos: Path) -> None:
    (meta / "trainSet.txt").unlink()
    assert set(scan(adapter_of(meta, splits="test"), videos)) == {"_F1zhB2nQ3o"}
    with pytest.raises(ManifestError, match=r"has neither trainSet.txt nor train_order.txt"):
        scan(adapter_of(meta), videos)


def test_several_lines_of_a_video_are_taken_together(
    meta: Path, videos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(meta / "testSet.txt", ROWS[3], "Bark&_F1zhB2nQ3o&bad&6&8")
    with caplog.at_level(logging.WARNING):
        found = scan(adapter_of(meta), videos)
    assert found["_F1zhB2nQ3o"].events == ((1.0, 4.0, "Bark"), (6.0, 8.0, "Bark"))
    assert "test clips with several lines, whose events are taken together: 1," in caplog.text


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("Annotations.txt", [], "lists no clip"),
        ("Annotations.txt", ["Bark,abc,good,0,1"], "has the line 'Bark,abc,good,0,1', expected"),
        ("trainSet.txt", ["Bark&RUhOCu3LNXM&good&5&2"], "a start from 0 up to the end"),
        ("trainSet.txt", ["Bark&RUhOCu3LNXM&good&nan&2"], "a start from 0 up to the end"),
        ("trainSet.txt", ["&RUhOCu3LNXM&good&0&2"], "it needs a category"),
        ("valSet.txt", [], "valSet.txt lists no clip"),
        ("trainSet.txt", [ROWS[3]], "test clips of AVE are in the list of another split"),
    ],
)
def test_a_wrong_list_is_one_clear_sentence(
    meta: Path, videos: Path, file: str, lines: list[str], message: str
) -> None:
    write(meta / file, *lines)
    with pytest.raises(ManifestError, match=message):
        scan(adapter_of(meta), videos)


@pytest.mark.parametrize(("line", "message"), [("4", "and Annotations.txt has 4"), ("x", "number")])
def test_a_wrong_number_is_one_clear_sentence(
    meta: Path, videos: Path, line: str, message: str
) -> None:
    (meta / "testSet.txt").unlink()
    write(meta / "test_order.txt", line)
    with pytest.raises(ManifestError, match=message):
        scan(adapter_of(meta), videos)


def test_an_event_at_the_end_ends_with_its_clip(meta: Path, tmp_path: Path) -> None:
    import numpy as np

    clip = tmp_path / "RUhOCu3LNXM.mp4"
    frames, samples = np.zeros((30, 32, 32, 3), np.uint8), np.zeros(19_200, np.float32)
    encode(clip, frames, samples, fps=25, sample_rate_hz=16_000)
    record = ClipRecord(path=clip, events=((0.0, math.inf, "Church bell"),))
    manifest, rejected = build_manifest([record], tmp_path / "m.parquet")
    assert not rejected
    [event] = manifest.clips[0].events or ()
    assert event.end_s == manifest.clips[0].duration_s < 1.3


def test_the_adapter_keeps_its_promises(meta: Path, videos: Path) -> None:
    testing.check_dataset("ave", videos, {"meta": meta})


def test_an_empty_list_of_numbers_is_refused_like_an_empty_list_of_lines(
    meta: Path, videos: Path
) -> None:
    (meta / "testSet.txt").unlink()
    write(meta / "test_order.txt")
    with pytest.raises(ManifestError, match=r"test_order.txt lists no clip"):
        scan(adapter_of(meta), videos)
