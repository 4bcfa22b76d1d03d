"""Adapters of published data sets, on miniature lists and empty files: they go by names only."""

import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import official_lists as lists
import pytest

from zoo import ClipRecord, testing
from zoo.contracts import DatasetAdapter
from zoo.data.fixed_offsets import read_fixed_offsets
from zoo.errors import ManifestError
from zoo.registry.manager import registry

WRITERS = {
    "vggsound": lists.write_vggsound,
    "vggsound_sparse": lists.write_vggsound,
    "vggsound_sparse_clean": lists.write_vggsound,
    "lrs3": lists.write_lrs3,
    "audioset": lists.write_audioset,
}
MILLISECONDS = [f"{name}.mp4" for name in [*lists.TRAIN, *lists.VALID, *lists.TEST]]


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """A folder with the lists of all data sets."""
    for writer in (lists.write_vggsound, lists.write_lrs3, lists.write_audioset):
        writer(tmp_path / "meta")
    return tmp_path / "meta"


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def adapter_of(name: str, meta: Path, **options: Any) -> DatasetAdapter:
    spec = registry().dataset(name)
    return spec.build(spec.config_class(meta=meta, **options))


def scan(name: str, meta: Path, videos: Path, **options: Any) -> dict[str, ClipRecord]:
    """Return the records by file name."""
    records = adapter_of(name, meta, **options).scan(videos)
    return {record.path.relative_to(videos).as_posix(): record for record in records}


def refuse(name: str, meta: Path, videos: Path, message: str, **options: Any) -> None:
    with pytest.raises(ManifestError, match=message):
        list(adapter_of(name, meta, **options).scan(videos))


def reasons(adapter: DatasetAdapter) -> dict[str, str]:
    return {clip.id or clip.path.name: clip.reason for clip in adapter.left_out() or []}


# --- VGGSound ---


def test_vggsound_follows_splits_filter_labels_and_fixed_offsets(
    meta: Path, tmp_path: Path
) -> None:
    videos = files(tmp_path / "v", *MILLISECONDS)
    found = scan("vggsound", meta, videos)
    assert Counter(record.split for record in found.values()) == {"train": 3, "valid": 2, "test": 4}
    assert lists.FILTERED + ".mp4" not in found
    assert found["YBBBBBBBBBB_30000_40000.mp4"].label == "people sobbing, wailing"
    assert found["YBBBBBBBBBB_30000_40000.mp4"].labels == ("people sobbing, wailing",)
    train, valid = found[f"{lists.TRAIN[0]}.mp4"], found[f"{lists.VALID[1]}.mp4"]
    assert (train.fixed_offset_s, train.fixed_start_s) == (None, None)
    assert (valid.fixed_offset_s, valid.fixed_start_s) == (-0.4, 0.08)
    assert valid.length_s == (9, 15)


@pytest.mark.parametrize(
    "names",
    [
        ["-7tYmeOmsRg_58000_68000.mp4", "-7tYmeOmsRg_180000_190000.mp4"],
        ["-7tYmeOmsRg_58_68.mp4", "-7tYmeOmsRg_180_190.mp4"],
        ["-7tYmeOmsRg_58.000_68.000.mkv", "-7tYmeOmsRg_180.0_190.0.webm"],
        ["-7tYmeOmsRg_000058.mp4", "-7tYmeOmsRg_000180.mp4"],
        ["-7tYmeOmsRg_58.mp4", "-7tYmeOmsRg_180.MP4"],
        ["-7tYmeOmsRg_58000.mp4", "-7tYmeOmsRg-180-190.mp4"],
        ["dog barking/-7tYmeOmsRg_58_68.mp4", "dog barking/-7tYmeOmsRg_180_190.mp4"],
        ["test/-7tYmeOmsRg_000058.avi", "test/Y-7tYmeOmsRg_000180.mov"],
    ],
)
def test_every_naming_scheme_in_use_is_understood(
    meta: Path, tmp_path: Path, names: list[str]
) -> None:
    videos = files(tmp_path / "v", *names)
    found = scan("vggsound", meta, videos)
    assert list(found) == names
    assert [record.fixed_start_s for record in found.values()] == [0.04, 0.08]


def test_a_bare_video_id_will_do_where_one_clip_of_it_is_listed(meta: Path, tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "_0_B2YnBAz3.mp4", "YBBBBBBBBBB.mp4", "-7tYmeOmsRg.mp4")
    adapter = adapter_of("vggsound", meta)
    found = {record.path.stem for record in adapter.scan(videos)}
    assert found == {"_0_B2YnBAz3", "YBBBBBBBBBB"}
    assert "several clips of this video are listed" in reasons(adapter)["-7tYmeOmsRg.mp4"]


def test_missing_clips_and_useless_files_are_accounted_for(meta: Path, tmp_path: Path) -> None:
    videos = files(
        tmp_path / "v",
        "a/3qesirWAGt4_20_30.mp4",
        "b/3qesirWAGt4_20000_30000.mp4",
        "1DrrBnFlylU_0_10.mp4",
        "3qesirWAGt4_40_50.mp4",
        "zzzzzzzzzzz_0_10.mp4",
        "CCCCCCCCCCC_000000.mp4",
        "holiday.mp4",
    )
    adapter = adapter_of("vggsound", meta)
    (record,) = adapter.scan(videos)
    assert record.path == videos / "a" / "3qesirWAGt4_20_30.mp4"
    left_out = adapter.left_out()
    assert left_out is not None
    missing = [clip for clip in left_out if clip.path is None]
    assert Counter(clip.split for clip in missing) == {"train": 2, "valid": 2, "test": 4}
    why = reasons(adapter)
    assert why[lists.TRAIN[0]] == "there is no file"
    assert why["3qesirWAGt4_20000_30000.mp4"] == "another file of the same clip is used"
    assert why["1DrrBnFlylU_0_10.mp4"] == (
        "left out by the authors (filtered_examples_vggsound/less_than_9s.txt)"
    )
    assert why["3qesirWAGt4_40_50.mp4"] == "another part of a listed video"
    assert why["zzzzzzzzzzz_0_10.mp4"] == "a video that is in none of the lists"
    assert "filtered_broken.txt" in why["CCCCCCCCCCC_000000.mp4"]
    assert "not named like a clip" in why["holiday.mp4"]


def test_options_take_splits_apply_other_filters_and_switch_the_filter_off(
    meta: Path, tmp_path: Path
) -> None:
    videos = files(tmp_path / "v", *MILLISECONDS)
    assert len(scan("vggsound", meta, videos, splits="test")) == 4
    assert len(scan("vggsound", meta, videos, splits="valid,test")) == 6
    assert len(scan("vggsound", meta, videos, splits="test", filtered=False)) == 5
    extra = "filtered_examples_vggsound_extra"
    assert len(scan("vggsound", meta, videos, splits="test", also_filter=extra)) == 3
    record = next(iter(scan("vggsound", meta, videos, min_seconds=9.5).values()))
    assert record.length_s == (9.5, 15)


def test_clips_that_are_not_annotated_are_left_out(meta: Path, tmp_path: Path) -> None:
    csv = meta / "vggsound.csv"
    csv.write_text("id,start,label,split\n" + csv.read_text().partition("\n")[2])
    videos = files(tmp_path / "v", *MILLISECONDS)
    adapter = adapter_of("vggsound", meta)
    assert len(list(adapter.scan(videos))) == 8
    assert reasons(adapter)[f"{lists.TRAIN[0]}.mp4"] == "not in vggsound.csv"


def test_without_annotation_or_fixed_offsets_there_is_a_warning_and_the_same_clips(
    meta: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (meta / "vggsound.csv").unlink()
    (meta / "fixed_offsets_vggsound" / f"valid_{lists.FIXED}").unlink()
    videos = files(tmp_path / "v", *MILLISECONDS)
    with caplog.at_level(logging.WARNING):
        found = scan("vggsound", meta, videos)
    assert len(found) == 9
    assert all(record.label is None for record in found.values())
    assert "no labels" in caplog.text
    assert "vggsound.csv" in caplog.text
    assert "no fixed offsets for valid" in caplog.text
    assert "the data/ folder of the authors' repository" in caplog.text
    assert found[f"{lists.TEST[0]}.mp4"].fixed_offset_s is not None
    assert found[f"{lists.VALID[0]}.mp4"].fixed_offset_s is None
    assert "2 clips have no fixed offset; the first: _0_B2YnBAz3_220000_230000" in caplog.text


def test_sparse_keeps_the_marked_classes(meta: Path, tmp_path: Path) -> None:
    videos = files(tmp_path / "v", *MILLISECONDS)
    adapter = adapter_of("vggsound_sparse", meta)
    found = list(adapter.scan(videos))
    assert {record.label for record in found} == {"dog barking", "playing tennis"}
    assert Counter(record.split for record in found) == {"train": 1, "valid": 1, "test": 3}
    assert reasons(adapter)["AAAAAAAAAAA_0_10000.mp4"] == "not of a class with sparse events"
    assert {record.fixed_offset_s is None for record in found if record.split != "train"} == {False}


def test_the_class_of_a_sparse_clip_is_that_of_its_video_as_published(
    meta: Path, tmp_path: Path
) -> None:
    """The published loader keys classes by the video, so that its last row decides."""
    csv = meta / "vggsound.csv"
    csv.write_text(csv.read_text().replace("-7tYmeOmsRg,180,dog barking", "-7tYmeOmsRg,180,other"))
    videos = files(tmp_path / "v", *MILLISECONDS)
    assert not [name for name in scan("vggsound_sparse", meta, videos) if "-7tY" in name]
    (meta / "filtered_examples_vggsound" / "more.txt").write_text(lists.TEST[1] + "\n")
    found = scan("vggsound_sparse", meta, videos)
    assert found[f"{lists.TEST[0]}.mp4"].label == "dog barking"


def test_clean_keeps_what_was_found_in_sync_and_its_own_offsets(meta: Path, tmp_path: Path) -> None:
    videos = files(tmp_path / "v", *MILLISECONDS)
    adapter = adapter_of("vggsound_sparse_clean", meta)
    found = {record.path.stem: record for record in adapter.scan(videos)}
    assert list(found) == [lists.TEST[0], lists.TEST[2]]
    first = found[lists.TEST[0]]
    assert (first.split, first.fixed_offset_s, first.fixed_start_s) == ("test", -1.0, 4.64)
    why = reasons(adapter)
    assert "is_sync" in why[f"{lists.TEST[1]}.mp4"]
    assert "left out by the authors" in why[f"{lists.FILTERED}.mp4"]
    assert "not in vggsound_sparse_clean" in why["YBBBBBBBBBB_30000_40000.mp4"]


# --- LRS3 ---


@pytest.mark.parametrize("part", ["h264_uncropped_25fps/pretrain", "pretrain", "."])
def test_lrs3_goes_by_video_and_clip(meta: Path, tmp_path: Path, part: str) -> None:
    names = [name.removeprefix("pretrain/") for ids in lists.LRS3.values() for name in ids]
    videos = files(tmp_path / "v", *(f"{part}/{name}.mp4" for name in names))
    found = scan("lrs3", meta, videos)
    assert Counter(record.split for record in found.values()) == {"train": 2, "valid": 1, "test": 1}
    record = next(record for record in found.values() if record.split == "test")
    assert (record.fixed_offset_s, record.fixed_start_s) == (-0.2, 0.04)
    assert record.length_s == (9, float("inf"))


def test_lrs3_refuses_the_same_numbers_of_other_parts(meta: Path, tmp_path: Path) -> None:
    videos = files(
        tmp_path / "v",
        "pretrain/C8zY0oAdQrs/00018.mp4",
        "trainval/00j9bKdiOjk/00001.mp4",
        "pretrain/C8zY0oAdQrs/00019.mp4",
    )
    adapter = adapter_of("lrs3", meta)
    assert len(list(adapter.scan(videos))) == 1
    assert reasons(adapter)["00001.mp4"] == "not of the pretrain part"
    assert reasons(adapter)["00019.mp4"] == "in none of the lists"
    assert reasons(adapter)["pretrain/00j9bKdiOjk/00001"] == "there is no file"


# --- AudioSet ---

SEGMENTS = [
    "unbalanced_train_segments/---1_cCGK4M_0_10000.mp4",
    "unbalanced_train_segments/--0PQM4-hqg_30000_40000.mp4",
    "unbalanced_train_segments/8b42Q-KKntM_0_6000.mp4",
    "balanced_train_segments/--PJHxphWEs_30000_40000.mp4",
    "eval_segments/--4gqARaEJE_0_10000.mp4",
]


def test_audioset_splits_by_folder_of_the_list_and_filters(meta: Path, tmp_path: Path) -> None:
    videos = files(tmp_path / "v", *SEGMENTS)
    adapter = adapter_of("audioset", meta)
    found = {record.path.stem: record for record in adapter.scan(videos)}
    assert [record.split for record in found.values()] == ["train", "train", "valid", "test"]
    assert found["--4gqARaEJE_0_10000"].fixed_offset_s == -0.2
    assert found["--PJHxphWEs_30000_40000"].label is None
    assert "less_than_9s_in_frames.txt" in reasons(adapter)["8b42Q-KKntM_0_6000.mp4"]


def test_audioset_files_may_lie_anywhere_and_have_other_names(meta: Path, tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "Y--4gqARaEJE.mp4", "x/--PJHxphWEs_30.000_40.000.mkv")
    found = scan("audioset", meta, videos)
    assert {name: record.split for name, record in found.items()} == {
        "x/--PJHxphWEs_30.000_40.000.mkv": "valid",
        "Y--4gqARaEJE.mp4": "test",
    }


def test_audioset_reads_googles_lists_where_the_authors_is_missing(
    meta: Path, tmp_path: Path
) -> None:
    (meta / "audioset.csv").unlink()
    header = ["# Segments csv created", "# num_ytids=1", "# YTID, start_seconds, end_seconds"]
    row = '--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"'
    lists.write(meta / "eval_segments.csv", [*header, row])
    videos = files(tmp_path / "v", *SEGMENTS)
    assert list(scan("audioset", meta, videos, splits="test")) == [SEGMENTS[-1]]
    refuse("audioset", meta, videos, r"no audioset.csv.*Google's unbalanced_train_segments.csv")
    (record,) = scan("audioset", meta, videos, splits="test").values()
    assert record.labels == ("/m/068hy", "/m/07q6cd_")


def test_audioset_gives_every_label_of_a_clip_by_name_where_names_are_listed(
    meta: Path, tmp_path: Path
) -> None:
    videos = files(tmp_path / "v", *SEGMENTS)
    found = scan("audioset", meta, videos)
    assert found[SEGMENTS[0]].labels == ("137", "4")
    lists.write_classes(
        meta / "class_labels_indices.csv", {4: "Child speech, kid speaking", 137: "Music"}
    )
    named = scan("audioset", meta, videos)
    assert named[SEGMENTS[0]].labels == ("Music", "Child speech, kid speaking")
    assert named[SEGMENTS[3]].labels == ("class 0", "class 5")


# --- what is missing or wrong ---


@pytest.mark.parametrize("name", WRITERS)
def test_an_adapter_keeps_its_promises_on_a_small_example(name: str, tmp_path: Path) -> None:
    meta = WRITERS[name](tmp_path / "meta")
    lrs3 = [f"{clip}.mp4" for ids in lists.LRS3.values() for clip in ids]
    videos = files(tmp_path / "v", *MILLISECONDS, *lrs3, *SEGMENTS)
    testing.check_dataset(name, videos, {"meta": meta})


@pytest.mark.parametrize(
    ("name", "gone", "what"),
    [
        ("vggsound", "vggsound_valid.txt", "the valid clips"),
        ("vggsound", "filtered_examples_vggsound", "the clips that the authors left out"),
        ("vggsound_sparse", "vggsound.csv", "the class of every clip; copy it from the VGGSound"),
        ("vggsound_sparse", "picked_sparse_classes.csv", "the classes with sparse events"),
        (
            "vggsound_sparse_clean",
            "vggsound_sparse_clean_fixed_offsets.csv",
            "the offsets annotated by hand",
        ),
        ("lrs3", "lrs3_test.txt", "the test clips"),
        ("audioset", "audioset.csv", "the segments"),
        ("audioset", "filtered_examples_audioset", "the clips that the authors left out"),
    ],
)
def test_a_missing_list_is_named_with_its_place(
    meta: Path, tmp_path: Path, name: str, gone: str, what: str
) -> None:
    path = meta / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    videos = files(tmp_path / "v", "a.mp4")
    refuse(name, meta, videos, rf"has no {gone}, which holds {what}")
    if "vggsound.csv" not in gone:
        refuse(name, meta, videos, r"the data/ folder of the authors' repository")


def test_the_root_of_the_authors_repository_will_do_as_meta(meta: Path, tmp_path: Path) -> None:
    shutil.move(meta, tmp_path / "Synchformer" / "data")
    videos = files(tmp_path / "v", *MILLISECONDS)
    assert len(scan("vggsound", tmp_path / "Synchformer", videos)) == 9


def test_no_meta_a_wrong_meta_and_a_foreign_folder_are_clear_errors(
    meta: Path, tmp_path: Path
) -> None:
    videos = files(tmp_path / "v", "holiday.mp4")
    refuse("vggsound", meta / "missing", videos, "is not a folder")
    refuse(
        "vggsound", meta, videos, r"none of the 1 videos in .*v is a clip of 'vggsound': files are"
    )
    refuse("lrs3", meta, videos, r"pretrain/<video id>/<5 digits>; the first, holiday.mp4")
    refuse("vggsound", meta, tmp_path / "nowhere", "does not exist")
    spec = registry().dataset("lrs3")
    with pytest.raises(ManifestError, match=r"give their folder with meta"):
        list(spec.build(spec.config_class()).scan(videos))


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("vggsound", "vggsound.csv", "what,is,this\n", "is not VGGSound's list"),
        ("vggsound_sparse", "picked_sparse_classes.csv", "dog barking,y\n", "marks no class"),
        ("audioset", "audioset.csv", "eval/--4gqARaEJE,0,10,1,test\n", "no segment of unbalanced"),
        ("audioset", "audioset.csv", "unbalanced/a,0,1\nunbalanced/b,x,1\n", "row without times"),
    ],
)
def test_a_list_that_is_not_what_it_should_be_is_named(
    meta: Path, tmp_path: Path, name: str, file: str, text: str, message: str
) -> None:
    (meta / file).write_text(text)
    refuse(name, meta, files(tmp_path / "v", *MILLISECONDS), message)


def test_a_list_may_have_a_byte_order_mark_blank_lines_and_doubles(
    meta: Path, tmp_path: Path
) -> None:
    path = meta / "vggsound_test.txt"
    path.write_text("\ufeff" + path.read_text() + "\n\n" + path.read_text())
    videos = files(tmp_path / "v", *MILLISECONDS)
    assert len(scan("vggsound", meta, videos, splits="test")) == 4


def test_the_miniature_lists_are_of_the_published_formats(meta: Path) -> None:
    for path in [*meta.rglob(f"*_{lists.FIXED}"), meta / "vggsound_sparse_clean_fixed_offsets.csv"]:
        assert read_fixed_offsets(path)
