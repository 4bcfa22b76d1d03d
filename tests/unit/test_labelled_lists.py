"""Lists that know the classes of clips, on miniature lists and empty files."""

import json
import logging
import sqlite3
from collections import Counter
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import official_lists as lists
import pytest

from zoo import ClipRecord, testing
from zoo.contracts import DatasetAdapter
from zoo.data.labels import LabelledConfig, read_class_list
from zoo.data.listed import NotListedError
from zoo.data.youtube import FreeNames
from zoo.errors import ManifestError
from zoo.registry.manager import registry

AUDIOSET = {
    "balanced_train_segments.csv": ['--PJHxphWEs, 30.000, 40.000, "/m/0,/m/2"'],
    "unbalanced_train_segments.csv": ['---1_cCGK4M, 0.000, 10.000, "/m/1"'],
    "eval_segments.csv": ['--4gqARaEJE, 0.000, 10.000, "/m/2,/m/1"'],
}
SEGMENTS = ["--PJHxphWEs_30_40.mp4", "---1_cCGK4M_0.mp4", "Y--4gqARaEJE.mp4"]
ENTRIES = [("--4gqARaEJE", "/m/0,/m/2"), ("-0nqfRcnAYE", "/m/1"), ("-1OlgJWehn8", "/m/2")]
EVAL = [("--PJHxphWEs", "/m/1")]


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """Google's lists of AudioSet, and those of VGGSound."""
    folder = tmp_path / "meta"
    lists.write_vggsound(folder)
    for name, rows in AUDIOSET.items():
        lists.write(folder / name, ["# Segments csv", "# YTID, start_seconds, end_seconds", *rows])
    lists.write_classes(folder / "class_labels_indices.csv", {0: "Speech", 1: "Dog", 2: "Rain, x"})
    return folder


@pytest.fixture
def lists_only(tmp_path: Path) -> Path:
    """A folder with lists of CAV-MAE and AVSiam and their class list."""
    folder = tmp_path / "meta"
    folder.mkdir()
    lists.write_classes(folder / "class_labels_indices.csv", {0: "Speech", 1: "Dog", 2: "Rain, x"})
    write_json(folder / "train.json", ENTRIES)
    write_json(folder / "eval.json", EVAL)
    write_sqlite(folder / "train.sqlite.db", ENTRIES)
    return folder


def write_json(path: Path, entries: list[tuple[str, str]]) -> None:
    data = [
        {
            "video_id": name,
            "wav": f"/data/sls/audio/{name}.flac",
            "video_path": "/data/sls/image_mulframe/",
            "labels": labels,
        }
        for name, labels in entries
    ]
    path.write_text(json.dumps({"data": data}))


def write_sqlite(
    path: Path, entries: list[tuple[str, str]], columns: str = "id, clip, note, labels"
) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE annos ({columns})")
        rows = [(number, name, "", labels) for number, (name, labels) in enumerate(entries)]
        places = ",".join("?" * len(columns.split(",")))
        if rows and len(rows[0]) == len(columns.split(",")):
            database.executemany(f"INSERT INTO annos VALUES ({places})", rows)
        database.commit()


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def adapter_of(name: str, meta: Path, **options: Any) -> DatasetAdapter:
    spec = registry().dataset(name)
    return spec.build(spec.config_class(meta=meta, **options))


def scan(adapter: DatasetAdapter, videos: Path) -> dict[str, ClipRecord]:
    return {record.path.name: record for record in adapter.scan(videos)}


def splits(found: dict[str, ClipRecord]) -> Counter[str]:
    return Counter(record.split for record in found.values())


# --- VGGSound and AudioSet ---


def test_vggsound_full_takes_train_and_test_and_classes_from_its_csv(
    meta: Path, tmp_path: Path
) -> None:
    videos = files(tmp_path / "v", *(f"{name}.mp4" for name in lists.LABELS))
    adapter = adapter_of("vggsound_full", meta, valid=0)
    found = scan(adapter, videos)
    assert splits(found) == {"train": 5, "test": 5}
    first = found["YBBBBBBBBBB_30000_40000.mp4"]
    assert first.label == "people sobbing, wailing"
    assert first.labels == ("people sobbing, wailing",)
    assert first.length_s == (0, 15)
    assert adapter.classes() == tuple(sorted(set(lists.LABELS.values())))


def test_vggsound_full_has_the_classes_in_the_order_of_the_class_list(
    meta: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = {0: "playing tennis", 1: "dog barking", 2: "people marching"}
    lists.write_classes(meta / "class_labels_indices_vgg.csv", names, "vgg_")
    adapter = adapter_of("vggsound_full", meta, splits="test")
    with caplog.at_level(logging.WARNING):
        found = scan(adapter, files(tmp_path / "v", *(f"{name}.mp4" for name in lists.LABELS)))
    assert adapter.classes() == tuple(names.values())
    assert found["YBBBBBBBBBB_30000_40000.mp4"].labels is None
    assert "1 labels of 1 clips in" in caplog.text
    assert "left out; the first: people sobbing, wailing" in caplog.text


def test_vggsound_full_refuses_a_csv_without_splits(meta: Path, tmp_path: Path) -> None:
    (meta / "vggsound.csv").write_text("3qesirWAGt4,20,dog barking\n")
    with pytest.raises(ManifestError, match="puts 3qesirWAGt4_20000_30000 into the split ''"):
        scan(adapter_of("vggsound_full", meta), files(tmp_path / "v", "a.mp4"))


@pytest.mark.parametrize(("name", "train"), [("audioset_20k", 0), ("audioset_2m", 1)])
def test_audioset_trains_on_one_list_and_tests_on_eval(
    meta: Path, tmp_path: Path, name: str, train: int
) -> None:
    videos = files(tmp_path / "v", *SEGMENTS)
    adapter = adapter_of(name, meta, valid=0)
    found = scan(adapter, videos)
    assert {file: record.split for file, record in found.items()} == {
        SEGMENTS[train]: "train",
        SEGMENTS[2]: "test",
    }
    assert found[SEGMENTS[2]].labels == ("Rain, x", "Dog")
    assert found[SEGMENTS[train]].labels == [("Speech", "Rain, x"), ("Dog",)][train]
    assert adapter.classes() == ("Speech", "Dog", "Rain, x")


def test_lists_that_hold_no_clip_of_the_splits_are_not_needed(meta: Path, tmp_path: Path) -> None:
    (meta / "unbalanced_train_segments.csv").unlink()
    videos = files(tmp_path / "v", *SEGMENTS)
    assert len(scan(adapter_of("audioset_2m", meta, splits="test"), videos)) == 1
    with pytest.raises(ManifestError, match=r"no unbalanced_train_segments.csv, .*AudioSet's down"):
        scan(adapter_of("audioset_2m", meta), videos)
    (meta / "class_labels_indices.csv").unlink()
    with pytest.raises(ManifestError, match="holds the names and order of the classes"):
        scan(adapter_of("audioset_2m", meta, splits="test"), videos)


# --- CAV-MAE's and AVSiam's lists ---


@pytest.mark.parametrize("file", ["train.json", "train.sqlite.db"])
def test_a_list_names_clips_and_their_classes_and_where_files_lie_is_for_the_user_to_say(
    lists_only: Path, tmp_path: Path, file: str
) -> None:
    videos = files(tmp_path / "v", "a/--4gqARaEJE.mp4", "b/Y-0nqfRcnAYE.mkv", "--PJHxphWEs.mp4")
    adapter = adapter_of("cavmae_list", lists_only, train_list=file, test_list="eval.json", valid=0)
    found = scan(adapter, videos)
    assert splits(found) == {"train": 2, "test": 1}
    assert found["--4gqARaEJE.mp4"].labels == ("Speech", "Rain, x")
    assert found["--4gqARaEJE.mp4"].label is None
    assert adapter.classes() == ("Speech", "Dog", "Rain, x")
    assert [clip.id for clip in adapter.left_out() or []] == ["-1OlgJWehn8"]


def test_a_label_is_the_only_one_where_no_clip_has_several(
    lists_only: Path, tmp_path: Path
) -> None:
    write_json(lists_only / "train.json", ENTRIES[1:])
    adapter = adapter_of("cavmae_list", lists_only, train_list="train.json", valid=0)
    found = scan(adapter, files(tmp_path / "v", "-0nqfRcnAYE.mp4"))
    assert found["-0nqfRcnAYE.mp4"].label == "Dog"


def test_a_clip_is_found_by_the_name_of_the_file_that_the_list_mentions(
    lists_only: Path, tmp_path: Path
) -> None:
    entry = {"video_id": "7", "video_path": "D:\\clips\\walk.mp4", "wav": "/x/w7.wav"}
    (lists_only / "train.json").write_text(json.dumps({"data": [{**entry, "labels": "/m/1"}]}))
    adapter = adapter_of("cavmae_list", lists_only, train_list="train.json", valid=0)
    for name in ("walk.mp4", "w7.mkv", "7.webm"):
        assert set(scan(adapter, files(tmp_path / name, name, "other.mp4"))) == {name}


def test_a_list_without_labels_needs_no_class_list(
    lists_only: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (lists_only / "class_labels_indices.csv").unlink()
    write_json(lists_only / "train.json", [(name, "") for name, _ in ENTRIES])
    adapter = adapter_of("cavmae_list", lists_only, train_list="train.json", valid=0)
    with caplog.at_level(logging.WARNING):
        (record,) = scan(adapter, files(tmp_path / "v", "-1OlgJWehn8.mp4")).values()
    assert record.labels is None
    assert "3 of 3 clips in" in caplog.text
    assert adapter.classes() == ()


def test_doubled_ids_and_unknown_classes_are_counted(
    lists_only: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_json(lists_only / "train.json", [*ENTRIES, ENTRIES[0], ("-2xiZDEuHd8", "/m/9,/m/0")])
    adapter = adapter_of("cavmae_list", lists_only, train_list="train.json", valid=0)
    with caplog.at_level(logging.WARNING):
        found = scan(adapter, files(tmp_path / "v", "-2xiZDEuHd8.mp4"))
    assert found["-2xiZDEuHd8.mp4"].labels == ("Speech",)
    assert "lists 1 ids more than once; the first entry counts, the first such id: --4gqA" in (
        caplog.text
    )
    assert "1 labels of 1 clips in" in caplog.text
    assert "unknown to class_labels_indices.csv and left out; the first: /m/9" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.json", b'{"data": [{"video_id": "a"', "is not a JSON file that can be read"),
        ("train.json", b"\xff\xfe", "is not a JSON file that can be read"),
        ("train.json", b"[]", r'it has no \{"data": \[...\]\}'),
        ("train.json", b'{"data": []}', "lists no clip"),
        ("train.json", b'{"data": [{"labels": "/m/1"}]}', "entry 1 has no video_id"),
        ("train.json", b'{"data": [3]}', "entry 1 has no video_id"),
        ("train.sqlite.db", b"version https://git-lfs", "is not an SQLite file; was the download"),
        ("train.sqlite.db", b"SQLite format 3\x00" + b"x" * 200, "is damaged: "),
    ],
)
def test_a_damaged_list_is_one_clear_sentence(
    lists_only: Path, tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    (lists_only / file).write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        scan(adapter_of("cavmae_list", lists_only, train_list=file), files(tmp_path / "v", "a.mp4"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [("id, clip", "has the columns id, clip; expected id"), ("clip, id, labels", "expected id")],
)
def test_a_table_of_other_columns_is_refused(
    lists_only: Path, tmp_path: Path, columns: str, message: str
) -> None:
    write_sqlite(lists_only / "other.db", [], columns)
    adapter = adapter_of("cavmae_list", lists_only, train_list="other.db")
    with pytest.raises(ManifestError, match=message):
        scan(adapter, files(tmp_path / "v", "a.mp4"))


def test_an_sqlite_file_without_the_table_is_refused(lists_only: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(lists_only / "other.db")) as database:
        database.execute("CREATE TABLE clips (id)")
    adapter = adapter_of("cavmae_list", lists_only, train_list="other.db")
    with pytest.raises(ManifestError, match="it has no table 'annos'"):
        scan(adapter, files(tmp_path / "v", "a.mp4"))


def test_lists_that_do_not_go_together_are_refused(lists_only: Path, tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "--4gqARaEJE.mp4")

    def refuse(message: str, **options: Any) -> None:
        with pytest.raises(ManifestError, match=message):
            scan(adapter_of("cavmae_list", lists_only, **options), videos)

    refuse("has no list to read: give set train_list=FILE")
    refuse("has no nowhere.json, which holds the test clips", test_list="nowhere.json")
    both = {"train_list": "train.json", "test_list": "train.sqlite.db"}
    refuse(
        r"clips of .*train.sqlite.db \(test\) are in the list of another split .*3 in all", **both
    )
    lists.write_classes(lists_only / "vgg.csv", {1: "b"}, "vgg_")
    refuse("vgg.csv knows no label of", train_list="train.json", class_list="vgg.csv")
    lists.write_classes(lists_only / "class_labels_indices_vgg.csv", {1: "b"}, "vgg_")
    refuse("say which one names the labels", train_list="train.json")
    (lists_only / "class_labels_indices.csv").unlink()
    (lists_only / "class_labels_indices_vgg.csv").unlink()
    refuse("has no class_labels_indices.csv, which holds the names", train_list="train.json")


# --- class lists, names and held-out clips ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\n0,a\n", "its first line is 'id,name', expected index,mid,display_name"),
        ("", "its first line is ''"),
        ("index,mid,display_name\n", "no class of index 0"),
        ("index,mid,display_name\n0,/m/a,a\n2,/m/b,b\n", "no class of index 1"),
        ("index,mid,display_name\n1,/m/a,a\n", "no class of index 0"),
        ("index,mid,display_name\n0,/m/a,a\n0,/m/b,b\n", "has the index '0' twice"),
        ("index,mid,display_name\n0,/m/a,a\n1,/m/b,a\n", "has the display_name 'a' twice"),
        ("index,mid,display_name\n0,/m/a,a\n1,/m/a,b\n", "has the mid '/m/a' twice"),
        ("index,mid,display_name\n0,/m/a,\n", "a row without display_name"),
        ("index,mid,display_name\n0,/m/a,Rain, x\n", "must stand in quotes"),
    ],
)
def test_a_class_list_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_class_list(path)


def test_a_class_list_orders_by_index_and_may_have_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('mid,display_name,n,index\n/m/b,"b, c",9,1\n/m/a,a,8,0\n')
    classes = read_class_list(path)
    assert classes.names == ("a", "b, c")
    assert [classes.name_of[key] for key in ("1", "/m/b", "b, c")] == ["b, c"] * 3


@pytest.mark.parametrize(
    ("listed", "file", "answer"),
    [
        ("--4gqARaEJE", "--4gqARaEJE_0_10", True),
        ("--4gqARaEJE", "Y--4gqARaEJE", True),
        ("--4gqARaEJE_30000_40000", "--4gqARaEJE_000030", True),
        ("--4gqARaEJE_000030", "--4gqARaEJE_30_40", True),
        ("--4gqARaEJE_000030", "--4gqARaEJE_0_10", False),
        ("--4gqARaEJE", "--4gqARaEJE_copy", False),
        ("walk", "walk_1", False),
        ("Ywalk", "walk", False),
    ],
)
def test_names_of_youtube_clips_may_differ_in_times(listed: str, file: str, answer: bool) -> None:
    match = FreeNames({listed: listed})
    with nullcontext() if answer else pytest.raises(NotListedError):
        assert match(Path(f"{file}.mp4")) == listed


def test_held_out_clips_follow_from_their_video_only() -> None:
    config = LabelledConfig(valid=0.3)
    names = [f"{number:011}_0_10000" for number in range(400)]
    held = [name for name in names if config.split_of(name, "train") == "valid"]
    assert 90 < len(held) < 150
    assert all(config.split_of(name, "test") == "test" for name in names)
    again = [name for name in names if config.split_of(name[:11] + "_50_60", "train") == "valid"]
    assert again == held
    for other in ("_000050", ""):  # as AVSiam's lists and others write them
        assert held == [n for n in names if config.split_of(n[:11] + other, "train") == "valid"]
    reseeded = LabelledConfig(valid=0.3, seed=1)
    assert held != [n for n in names if reseeded.split_of(n, "train") == "valid"]


def test_all_training_clips_may_be_trained_on_and_test_clips_validated_on() -> None:
    published = LabelledConfig(valid=0.9, validate_on_test=True)
    assert published.split_of("a", "train") == "train"
    assert published.split_of("a", "test") == "valid"
    assert [published.needs(split) for split in ("train", "test")] == [True, True]
    only_test = LabelledConfig(splits=("test",))
    assert [only_test.needs(split) for split in ("train", "test")] == [False, True]
    assert LabelledConfig(valid=0.9, splits=("train", "test")).split_of("a", "train") == "train"


@pytest.mark.parametrize("name", ["vggsound_full", "audioset_20k", "audioset_2m", "cavmae_list"])
def test_an_adapter_keeps_its_promises_on_a_small_example(name: str, meta: Path) -> None:
    write_json(meta / "train.json", ENTRIES)
    write_json(meta / "eval.json", EVAL)
    videos = files(meta.parent / "v", *(f"{name}.mp4" for name in lists.LABELS), *SEGMENTS)
    options: dict[str, Any] = {"meta": meta}
    if name == "cavmae_list":
        options |= {"train_list": "train.json", "test_list": "eval.json"}
    testing.check_dataset(name, videos, options)
