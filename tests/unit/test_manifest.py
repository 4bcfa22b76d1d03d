import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zoo.contracts import ClipRecord, DatasetAdapter
from zoo.data.manifest import Clip, Event, Manifest, build_manifest, common_classes
from zoo.data.prepare import prepare
from zoo.errors import ManifestError
from zoo.media import encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two clips, one without audio and one that is no clip."""
    folder = tmp_path / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (25, 32, 48, 3), np.uint8)
    samples = rng.normal(0, 0.1, 16_000).astype(np.float32)
    encode(folder / "a.mp4", frames, samples)
    encode(folder / "b.mkv", frames, samples)
    encode(folder / "mute.mp4", frames, None)
    (folder / "text.mp4").write_text("not a clip")
    return folder


def records(folder: Path) -> list[ClipRecord]:
    return [
        ClipRecord(path=folder / "a.mp4", split="train", label="drum", events_s=(0.25, 0.5)),
        ClipRecord(path=folder / "b.mkv", split="valid"),
        ClipRecord(path=folder / "mute.mp4"),
        ClipRecord(path=folder / "text.mp4"),
    ]


def test_built_manifest_reads_back_equal_and_names_what_was_left_out(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    manifest, rejected = build_manifest(
        records(folder), folder / "m.parquet", lambda done, total: seen.append((done, total))
    )
    again = Manifest.read(folder / "m.parquet")
    assert again == manifest
    first = again.clips[0]
    assert (first.width, first.height, first.video_fps) == (48, 32, 25)
    assert (first.sample_rate_hz, first.channels, first.label) == (16_000, 1, "drum")
    assert first.duration_s == pytest.approx(1, abs=0.05)
    assert first.events_s == (0.25, 0.5)
    assert again.clips[1].events_s is None
    assert [path.name for path, _ in rejected] == ["mute.mp4", "text.mp4"]
    assert "no audio" in rejected[0][1]
    assert seen[-1] == (4, 4)


def test_splits_are_selected_and_a_missing_one_is_named(folder: Path) -> None:
    manifest, _ = build_manifest(records(folder), folder / "m.parquet")
    assert [clip.path.name for clip in manifest.select("valid").clips] == ["b.mkv"]
    with pytest.raises(ManifestError, match=r"split 'test' \(it has train, valid\)"):
        manifest.select("test")


def test_manifest_and_hash_survive_a_move_of_the_folder(folder: Path) -> None:
    manifest, _ = build_manifest(records(folder), folder / "m.parquet")
    before = manifest.sha256
    moved = folder.parent / "elsewhere"
    shutil.move(folder, moved)
    again = Manifest.read(moved / "m.parquet")
    assert again.clips[0].path == moved / "a.mp4"
    assert again.sha256 == before


def test_hash_changes_with_rows_and_with_files(folder: Path) -> None:
    manifest, _ = build_manifest(records(folder), folder / "m.parquet")
    first, *others = manifest.clips
    relabelled = Manifest((replace(first, label="bell"), *others), manifest.folder)
    assert relabelled.sha256 != manifest.sha256
    before = manifest.sha256
    with (folder / "a.mp4").open("ab") as file:
        file.write(b"more")
    assert Manifest.read(folder / "m.parquet").sha256 != before


def test_fixed_draws_are_kept_and_older_manifests_read_without_them(folder: Path) -> None:
    first, *others = records(folder)
    fixed = first.model_copy(update={"fixed_offset_s": 0.4, "fixed_start_s": 1.16})
    path = folder / "m.parquet"
    build_manifest([fixed, *others], path)
    assert [(c.fixed_offset_s, c.fixed_start_s) for c in Manifest.read(path).clips] == [
        (0.4, 1.16),
        (None, None),
    ]
    pq.write_table(pq.read_table(path).drop_columns(["fixed_offset_s", "fixed_start_s"]), path)
    assert Manifest.read(path).clips[0].fixed_offset_s is None


def test_hash_counts_fixed_draws_only_where_there_are_any(tmp_path: Path) -> None:
    clip = Clip(Path("a.mp4"), "train", 9.0, 25.0, 64, 64, 16_000, 1, "drum", (0.5,))
    row = ["a.mp4", "train", 9.0, 25.0, 64, 64, 16_000, 1, "drum", (0.5,), None]
    as_before = hashlib.sha256(json.dumps(row).encode()).hexdigest()
    assert Manifest((clip,), tmp_path).sha256 == as_before
    fixed = replace(clip, fixed_offset_s=0.2, fixed_start_s=1.0)
    assert Manifest((fixed,), tmp_path).sha256 != as_before


def test_clips_outside_the_folder_keep_their_absolute_path(folder: Path) -> None:
    out = folder.parent / "manifests" / "m.parquet"
    build_manifest(records(folder), out)
    assert pq.read_table(out)["path"][0].as_py() == str(folder / "a.mp4")
    assert Manifest.read(out).clips[0].path == folder / "a.mp4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no manifest"),
        (lambda path: path.write_text("hello"), "not a Parquet file"),
        (lambda path: path.mkdir(), "there is no manifest"),
        (lambda path: pq.write_table(pa.table({"path": ["a"]}), path), "lacks the columns"),
        (lambda path: Manifest((), path.parent).write(path), "holds no clip"),
    ],
)
def test_what_is_no_manifest_is_one_clear_error(tmp_path: Path, make, message: str) -> None:
    path = tmp_path / "m.parquet"
    make(path)
    with pytest.raises(ManifestError, match=message):
        Manifest.read(path)


def _row(path: Path) -> Clip:
    return Clip(path, "train", 9.0, 25.0, 64, 64, 16_000, 1)


def test_a_manifest_whose_clips_are_all_gone_is_refused(tmp_path: Path) -> None:
    Manifest((_row(tmp_path / "a.mp4"),), tmp_path).write(tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="none of the 1 clips"):
        Manifest.read(tmp_path / "m.parquet")


def test_some_clips_gone_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.mp4").touch()
    clips = (_row(tmp_path / "a.mp4"), _row(tmp_path / "b.mp4"))
    Manifest(clips, tmp_path).write(tmp_path / "m.parquet")
    assert len(Manifest.read(tmp_path / "m.parquet").clips) == 2
    assert "1 of 2 clips" in caplog.text


def test_a_row_with_an_unknown_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    path = tmp_path / "m.parquet"
    Manifest((replace(_row(tmp_path / "a.mp4"), split="dev"),), tmp_path).write(path)  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match="without path, split or duration"):
        Manifest.read(path)


@pytest.mark.parametrize(
    ("length_s", "words"),
    [((9.0, 15.0), "too short: 1.0"), ((0.0, 0.5), "too long: 1.0"), ((1.0, 1.1), None)],
)
def test_a_clip_of_the_wrong_length_is_rejected(
    folder: Path, length_s: tuple[float, float], words: str | None
) -> None:
    first, other, *_ = records(folder)
    limited = first.model_copy(update={"length_s": length_s})
    _, rejected = build_manifest([limited, other], folder / "m.parquet")
    assert [path.name for path, _ in rejected] == (["a.mp4"] if words else [])
    assert all(str(words) in why for _, why in rejected)


def test_nothing_usable_and_nowhere_to_write_are_errors(folder: Path) -> None:
    with pytest.raises(ManifestError, match="no clips to put"):
        build_manifest([], folder / "m.parquet")
    with pytest.raises(ManifestError, match=r"none of the 2 clips can be used; the first, .*audio"):
        build_manifest(records(folder)[2:], folder / "m.parquet")
    with pytest.raises(ManifestError, match="it is a folder"):
        build_manifest(records(folder), folder)
    with pytest.raises(ManifestError, match="cannot write the manifest"):
        build_manifest(records(folder), folder / "text.mp4" / "m.parquet")


def labelled(folder: Path) -> list[ClipRecord]:
    first, second, *_ = records(folder)
    events = ((0.25, 0.4, "drum"), (0.5, 1.0, "bell"))
    return [first.model_copy(update={"labels": ("drum", "bell"), "events": events}), second]


def test_labels_and_events_are_kept_and_older_manifests_read_without_them(folder: Path) -> None:
    path = folder / "m.parquet"
    manifest, _ = build_manifest(labelled(folder), path)
    assert Manifest.read(path) == manifest
    first, second = Manifest.read(path).clips
    assert (first.label, first.labels) == ("drum", ("drum", "bell"))
    assert first.events == (Event(0.25, 0.4, "drum"), Event(0.5, 1.0, "bell"))
    assert (second.labels, second.events) == (None, None)
    pq.write_table(pq.read_table(path).drop_columns(["labels", "events"]), path)
    assert Manifest.read(path).clips[0].labels is None


def test_all_labels_are_the_labels_or_the_one_label(tmp_path: Path) -> None:
    clip = _row(tmp_path / "a.mp4")
    assert clip.all_labels == ()
    assert replace(clip, label="drum").all_labels == ("drum",)
    assert replace(clip, label="drum", labels=("drum", "bell")).all_labels == ("drum", "bell")
    assert replace(clip, label="drum", labels=()).all_labels == ()


def test_hash_counts_labels_and_events_only_where_they_say_more(tmp_path: Path) -> None:
    clip = replace(_row(Path("a.mp4")), label="drum")
    before = Manifest((clip,), tmp_path).sha256
    assert Manifest((replace(clip, labels=("drum",)),), tmp_path).sha256 == before
    events = (Event(0.0, 1.0, "drum"),)
    others = [
        replace(clip, labels=("drum", "bell")),
        replace(clip, events=events),
        replace(clip, labels=("drum", "bell"), events=events),
        replace(clip, fixed_offset_s=0.2, fixed_start_s=1.0, events=events),
    ]
    assert len({before, *(Manifest((each,), tmp_path).sha256 for each in others)}) == 5


WRONG = [
    ({"events": ((-0.1, 0.5, "drum"),)}, "must start at 0 or later"),
    ({"events": ((0.5, 0.5, "drum"),)}, "end after its start"),
    ({"events": ((0.5, float("nan"), "drum"),)}, "end after its start"),
    ({"events": ((0.5, 2.0, "drum"),)}, "'drum' from 0.5 to 2 s ends after the clip"),
    ({"events": ((9.0, 12.0, "drum"),)}, "'drum' starts at 9 s, after the clip"),
    ({"events": ((9.0, float("inf"), "drum"),)}, "'drum' starts at 9 s, after the clip"),
    ({"events": ((0.2, 0.5, " "),)}, "has no label"),
    ({"labels": ("drum", "")}, "has an empty label"),
]


@pytest.mark.parametrize(("changed", "words"), [*WRONG, ({"events_s": (3.0,)}, "3 s is outside")])
def test_a_clip_with_a_wrong_event_or_label_is_rejected(
    folder: Path, changed: dict[str, Any], words: str
) -> None:
    first, second, *_ = records(folder)
    wrong = first.model_copy(update=changed)
    _, rejected = build_manifest([wrong, second], folder / "m.parquet")
    assert [path.name for path, _ in rejected] == ["a.mp4"]
    assert words in rejected[0][1]


@pytest.mark.parametrize(("changed", "words"), WRONG)
def test_a_manifest_with_a_wrong_event_or_label_is_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    (tmp_path / "a.mp4").touch()
    if "events" in changed:
        changed = {"events": tuple(Event(*event) for event in changed["events"])}
    clip = replace(_row(tmp_path / "a.mp4"), duration_s=1.0, **changed)
    Manifest((clip,), tmp_path).write(tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match=words):
        Manifest.read(tmp_path / "m.parquet")


def test_an_event_may_end_a_frame_after_the_clip(folder: Path) -> None:
    first, *_ = records(folder)
    late = first.model_copy(update={"events": ((0.5, 1.03, "drum"),)})
    manifest, rejected = build_manifest([late], folder / "m.parquet")
    assert not rejected
    assert Manifest.read(folder / "m.parquet") == manifest


def test_a_file_listed_twice_is_refused_with_its_splits(folder: Path) -> None:
    first, *_ = records(folder)
    again = first.model_copy(update={"split": "test", "path": folder / "." / "a.mp4"})
    thrice = [first, again, first.model_copy(update={"split": "valid"})]
    with pytest.raises(ManifestError, match=r"a.mp4 is listed 3 times \(in train, test, valid\)"):
        build_manifest(thrice, folder / "m.parquet")
    assert not (folder / "m.parquet").exists()


def test_prepare_refuses_a_file_listed_twice_before_it_reencodes(folder: Path) -> None:
    class Twice(DatasetAdapter):
        def scan(self, videos: Path) -> Iterator[ClipRecord]:
            yield ClipRecord(path=videos / "a.mp4", split="train")
            yield ClipRecord(path=videos / "a.mp4", split="test")

    with pytest.raises(ManifestError, match=r"listed 2 times \(in train, test\)"):
        prepare(
            Twice(),
            folder,
            folder / "m.parquet",
            bar=lambda _: nullcontext(lambda done, total: None),
            reencode_to=folder / "out",
        )
    assert not (folder / "out").exists()


def test_classes_and_their_order_are_kept_beside_the_rows(folder: Path) -> None:
    path = folder / "m.parquet"
    plain, _ = build_manifest(records(folder), path)
    ordered, _ = build_manifest(records(folder), path, classes=("Rain, x", "drum"))
    again = Manifest.read(path)
    assert again == ordered
    assert again.select("train").classes == ("Rain, x", "drum")
    assert again.sha256 == plain.sha256
    schema = pq.read_schema(path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({"classes": "[1"}), path)
    with pytest.raises(ManifestError, match="its list of classes cannot be read"):
        Manifest.read(path)
    assert b"classes" in schema.metadata


def test_merged_manifests_keep_classes_that_are_the_same(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, _ = build_manifest(records(folder), folder / "m.parquet", classes=("drum", "dog"))
    bare = replace(manifest, clips=(manifest.clips[1],), classes=())  # without a label
    assert common_classes([manifest, bare, manifest]) == ("drum", "dog")
    assert common_classes([bare]) == ()
    with caplog.at_level("WARNING"):
        assert common_classes([manifest, replace(manifest, classes=("dog", "drum"))]) == ()
    assert "do not list the same classes (2, 2)" in caplog.text
