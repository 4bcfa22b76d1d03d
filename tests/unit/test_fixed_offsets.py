from pathlib import Path

import pytest

from zoo.data.fixed_offsets import FixedOffset, fixed_for, read_fixed_offsets
from zoo.errors import ManifestError

HEADER = "path,offset_sec,vstart_sec\n"
CLEAN = "dataset_name,video_id,vstart_sec,offset_sec,is_sync\n"


def write(folder: Path, text: str, name: str = "offsets.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_both_published_headers_are_read(tmp_path: Path) -> None:
    usual = write(tmp_path, HEADER + "-7tYmeOmsRg_58000_68000,-1.0,4.64\n")
    assert read_fixed_offsets(usual) == {"-7tYmeOmsRg_58000_68000": FixedOffset(-1.0, 4.64)}
    clean = write(
        tmp_path,
        CLEAN + "vggsound_sparse,a_b-c_d-e_f_0_10000,2.0,-0.8,1\nvggsound_sparse,b,0.0,2.0,0\n",
    )
    assert read_fixed_offsets(clean) == {
        "a_b-c_d-e_f_0_10000": FixedOffset(-0.8, 2.0, is_sync=True),
        "b": FixedOffset(2.0, 0.0, is_sync=False),
    }


def test_lists_are_merged_and_repeated_clips_must_agree(tmp_path: Path) -> None:
    valid = write(tmp_path, HEADER + "a,0.2,1.0\nb,-2.0,4.0\n", "valid.csv")
    test = write(tmp_path, HEADER + "b,-2.0,4.0\nc,0.0,0.0\n", "test.csv")
    assert list(read_fixed_offsets(valid, test)) == ["a", "b", "c"]
    other = write(tmp_path, HEADER + "b,-1.8,4.0\n", "other.csv")
    with pytest.raises(ManifestError, match=r"'b'.*offset -2 s at 4 s and offset -1.8 s at 4 s"):
        read_fixed_offsets(valid, other)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("set/3qesirWAGt4_20000_30000.mp4", "3qesirWAGt4_20000_30000"),
        ("set/class/3qesirWAGt4_20000_30000.mkv", "3qesirWAGt4_20000_30000"),
        ("set/pretrain/C8zY0oAdQrs/00018.mp4", "pretrain/C8zY0oAdQrs/00018"),
        ("set/eval_segments/--4gqARaEJE_0_10000.mp4", "eval/--4gqARaEJE_0_10000"),
        ("eval/--4gqARaEJE_0_10000.mp4", "eval/--4gqARaEJE_0_10000"),
        ("set/pretrain/C8zY0oAdQrs/00019.mp4", None),
        ("set/trainval/C8zY0oAdQrs/00018.mp4", None),
        ("3qesirWAGt4_20000.mp4", None),
    ],
)
def test_a_clip_is_found_by_the_longest_tail_of_its_path(path: str, name: str | None) -> None:
    names = [
        "3qesirWAGt4_20000_30000",
        "pretrain/C8zY0oAdQrs/00018",
        "eval/--4gqARaEJE_0_10000",
    ]
    offsets = {name: FixedOffset(0.2 * index, 1.0) for index, name in enumerate(names)}
    assert fixed_for(Path("/data") / path, offsets) == (offsets[name] if name else None)


def test_a_longer_tail_wins() -> None:
    offsets = {"00018": FixedOffset(0, 0), "C8zY0oAdQrs/00018": FixedOffset(0.2, 1)}
    assert fixed_for(Path("pretrain/C8zY0oAdQrs/00018.mp4"), offsets) == FixedOffset(0.2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it lacks path, offset_sec, vstart_sec"),
        ("path,offset\na,1\n", "it lacks offset_sec, vstart_sec"),
        (HEADER, "holds no fixed offset"),
        (HEADER + "a,early,1.0\n", "line 2: offset_sec and vstart_sec must be numbers"),
        (HEADER + "a,0.2\n", "must be numbers"),
        (HEADER + "a,0.2,-1\n", "no times within a clip"),
        (HEADER + "a,nan,1\n", "no times within a clip"),
    ],
)
def test_what_is_no_list_of_offsets_is_one_clear_error(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        read_fixed_offsets(write(tmp_path, text))


def test_a_missing_or_binary_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read the fixed offsets"):
        read_fixed_offsets(tmp_path / "missing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ManifestError, match="not a CSV file"):
        read_fixed_offsets(tmp_path / "binary.csv")
