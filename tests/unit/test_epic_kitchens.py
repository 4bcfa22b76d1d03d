"""EPIC-KITCHENS-100, on miniature lists and empty files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import official_lists as lists
import pytest

from zoo import ClipRecord, testing
from zoo.contracts import DatasetAdapter
from zoo.errors import ManifestError
from zoo.registry.manager import registry

HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
TRAIN = [
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,"
    "\"['door']\",[3]",
    "P01_01_1,P01,P01_01,00:00:02.629,00:00:04.37,00:00:06.17,262,370,turn on light,turn-on,6,"
    "light,114,\"['light', 'switch']\",\"[114, 5]\"",
    "P02_101_10,P02,P02_101,00:01:23.1,00:01:22.30,00:01:52.86,4938,6771,close drawer,close,4,"
    "drawer,8,['drawer'],[8]",
]
VALID = [
    "P01_11_0,P01,P01_11,01:00:00.560,01:00:00.00,01:00:01.89,1,113,take plate,take,0,"
    "plate,2,['plate'],[2]",
]
FILES = ["P01_01_0.MP4", "P01/P01_01_1.mp4", "deep/er/P02_101_10.mkv", "P01_11_0.mp4"]


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """The four lists, with some of the classes that the published ones have."""
    folder = tmp_path / "meta"
    lists.write(folder / "EPIC_100_train.csv", [HEADER, *TRAIN])
    lists.write(folder / "EPIC_100_validation.csv", [HEADER, *VALID])
    verbs = ["take", "put", "wash", "open", "close", "insert", "turn-on"]
    nouns = [f"noun {i}" for i in range(120)]
    nouns[2:4], nouns[8], nouns[114] = ["plate", "board:chopping"], "drawer", "light"
    rows = [f"{i},{name},\"['{name}', 'x']\",manipulate" for i, name in enumerate(verbs)]
    lists.write(folder / "EPIC_100_verb_classes.csv", ["id,key,instances,category", *rows])
    rows = [f"{i},{name},\"['{name}']\",kitchen" for i, name in enumerate(nouns)]
    lists.write(folder / "EPIC_100_noun_classes.csv", ["id,key,instances,category", *rows[::-1]])
    return folder


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def adapter_of(meta: Path, **options: Any) -> DatasetAdapter:
    spec = registry().dataset("epic_kitchens")
    return spec.build(spec.config_class(meta=meta, **options))


def scan(adapter: DatasetAdapter, videos: Path) -> dict[str, ClipRecord]:
    return {record.path.stem: record for record in adapter.scan(videos)}


def test_a_clip_has_its_verb_and_its_noun(meta: Path, tmp_path: Path) -> None:
    adapter = adapter_of(meta, valid=0)
    found = scan(adapter, files(tmp_path / "v", *FILES))
    assert Counter(record.split for record in found.values()) == {"train": 3, "test": 1}
    assert found["P01_01_0"].labels == ("verb:open", "noun:board:chopping")
    assert found["P01_01_1"].labels == ("verb:turn-on", "noun:light")
    assert found["P01_11_0"].labels == ("verb:take", "noun:plate")
    assert found["P02_101_10"].length_s == pytest.approx((0, 30.56 + 5))
    classes = adapter.classes()
    assert (len(classes), classes[0], classes[6:8]) == (
        127,
        "verb:take",
        ("verb:turn-on", "noun:noun 0"),
    )
    assert classes[7 + 114] == "noun:light"
    assert adapter.left_out() == []


def test_clips_of_one_video_are_held_out_together(meta: Path, tmp_path: Path) -> None:
    rows = [
        f"P{v:02}_{v:02}_{i},P,P{v:02}_{v:02},0,00:00:00.0,00:00:01.0,1,2,n,v,0,n,0,[],[]"
        for v in range(30)
        for i in range(100, 104)  # with two digits of a video, ids as long as those of YouTube
    ]
    lists.write(meta / "EPIC_100_train.csv", [HEADER, *rows])
    videos = files(tmp_path / "v", *(f"{row.split(',')[0]}.mp4" for row in rows))
    found = scan(adapter_of(meta, valid=0.3, splits="train,valid"), videos)
    held_out = {name[:6] for name, record in found.items() if record.split == "valid"}
    trained = {name[:6] for name, record in found.items() if record.split == "train"}
    assert held_out
    assert trained
    assert not held_out & trained


def test_whole_videos_are_explained(meta: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError,
        match=r"one file per action, cut beforehand .* P01_01.MP4: a whole video: cut it into its "
        r"actions, such as ffmpeg -ss 00:00:00.14 -to 00:00:03.37 -i P01_01.MP4 P01_01_0.mp4$",
    ):
        scan(adapter_of(meta), files(tmp_path / "v", "P01_01.MP4", "P02_101.MP4"))
    adapter = adapter_of(meta, valid=0)
    scan(adapter, files(tmp_path / "v", "P01_01_0.mp4", "holiday.mp4"))
    told = {(c.path.name if c.path else c.id): c.reason for c in adapter.left_out() or []}
    assert told["holiday.mp4"] == "in none of the lists"
    assert told["P02_101.MP4"].startswith("a whole video: ")
    assert told["P01_01_1"] == "there is no file"


def test_the_published_validation_clips_may_be_validated_on(meta: Path, tmp_path: Path) -> None:
    found = scan(adapter_of(meta, validate_on_test=True), files(tmp_path / "v", *FILES))
    assert found["P01_11_0"].split == "valid"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train", None, "has no EPIC_100_train.csv, which holds the train clips; copy it from the"),
        ("verb_classes", None, "EPIC_100_verb_classes.csv, which holds the names of the verbs"),
        ("train", ["id,key", "0,take"], "its first line has no 'narration_id'"),
        ("train", [], "its first line has no 'narration_id'"),
        ("train", [HEADER, "P01_01_0,P01"], "has the row 'P01_01_0,P01' of 2 columns, expected 15"),
        (
            "train",
            [HEADER, TRAIN[0].replace("00:00:00.14", "0.14 s")],
            "P01_01_0 has the time '0.14 s'",
        ),
        ("train", [HEADER, TRAIN[0].replace("00:00:00.14", "00:00:09")], "ends before it starts"),
        (
            "train",
            [HEADER, VALID[0]],
            "are in the list of another split as well, the first: P01_11_0",
        ),
        (
            "noun_classes",
            ["id,key", "0,tap", "2,pan"],
            "does not number its nouns from 0, each once",
        ),
        (
            "noun_classes",
            ["id,key", "0,tap", "0,pan"],
            "does not number its nouns from 0, each once",
        ),
        ("noun_classes", ["id,key", "0,tap", "1,tap"], "names a noun twice"),
        ("verb_classes", ["id,key", "first,take"], "the class number 'first', expected a whole"),
        ("verb_classes", ["id,key"], "does not number its verbs from 0"),
    ],
)
def test_lists_that_cannot_be_used_are_one_sentence(
    meta: Path, tmp_path: Path, file: str, content: list[str] | None, message: str
) -> None:
    path = meta / f"EPIC_100_{file}.csv"
    if content is None:
        path.unlink()
    else:
        lists.write(path, content)
    with pytest.raises(ManifestError, match=message) as raised:
        scan(adapter_of(meta), files(tmp_path / "v", *FILES))
    assert len(str(raised.value).splitlines()) == 1


def test_a_class_that_the_lists_do_not_name_is_left_out(
    meta: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists.write(meta / "EPIC_100_noun_classes.csv", ["id,key", *(f"{i},n{i}" for i in range(10))])
    found = scan(adapter_of(meta, valid=0), files(tmp_path / "v", *FILES))
    assert found["P01_01_1"].labels == ("verb:turn-on",)
    assert "1 labels of 1 clips" in caplog.text


def test_the_adapter_keeps_its_promises(meta: Path, tmp_path: Path) -> None:
    videos = files(tmp_path / "v", *FILES)
    testing.check_dataset("epic_kitchens", videos, {"meta": meta})
