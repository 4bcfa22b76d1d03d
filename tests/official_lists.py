"""Miniature copies of the official lists, in the layout of the authors' data folder."""

from collections.abc import Iterable
from pathlib import Path

FIXED = "size21_crop5_min-2.00_max2.00.csv"

# Ids may begin with - or _ and hold both; two clips of one video have different classes.
TRAIN = ["---g-f_I2yQ_1000_11000", "3qesirWAGt4_20000_30000", "AAAAAAAAAAA_0_10000"]
VALID = ["_0_B2YnBAz3_220000_230000", "-KqXcm-I2zY_87000_97000"]
TEST = [
    "-7tYmeOmsRg_58000_68000",
    "-7tYmeOmsRg_180000_190000",
    "0Zzt2Tf_0Os_139000_149000",
    "1DrrBnFlylU_0_10000",
    "YBBBBBBBBBB_30000_40000",
]
FILTERED = "1DrrBnFlylU_0_10000"
LABELS = {
    "---g-f_I2yQ_1000_11000": "people marching",
    "3qesirWAGt4_20000_30000": "dog barking",
    "AAAAAAAAAAA_0_10000": "people marching",
    "_0_B2YnBAz3_220000_230000": "dog barking",
    "-KqXcm-I2zY_87000_97000": "people marching",
    "-7tYmeOmsRg_58000_68000": "dog barking",
    "-7tYmeOmsRg_180000_190000": "dog barking",
    "0Zzt2Tf_0Os_139000_149000": "playing tennis",
    "1DrrBnFlylU_0_10000": "playing tennis",
    "YBBBBBBBBBB_30000_40000": "people sobbing, wailing",
}
LRS3 = {
    "train": ["pretrain/00j9bKdiOjk/00001", "pretrain/00j9bKdiOjk/00002"],
    "valid": ["pretrain/-MTRxRO5SRA/00002"],
    "test": ["pretrain/C8zY0oAdQrs/00018"],
}
AUDIOSET = [
    ("unbalanced/---1_cCGK4M", 0, 10, '"137,4"', "train"),
    ("unbalanced/--0PQM4-hqg", 30, 40, "137", "train"),
    ("unbalanced/8b42Q-KKntM", 0, 6, "5", "train"),
    ("balanced/--PJHxphWEs", 30, 40, '"0,5"', "train"),
    ("eval/--4gqARaEJE", 0, 10, '"1,2"', "test"),
]


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_vggsound(meta: Path) -> Path:
    """Write everything that the three VGGSound adapters read."""
    for split, ids in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        write(meta / f"vggsound_{split}.txt", ids)
    rows = []
    for name, label in LABELS.items():
        quoted = f'"{label}"' if "," in label else label
        start_s = int(name[12:].split("_")[0]) // 1000
        rows.append(f"{name[:11]},{start_s},{quoted},{'test' if name in TEST else 'train'}")
    write(meta / "vggsound.csv", rows)
    filters = meta / "filtered_examples_vggsound"
    write(filters / "less_than_9s.txt", [FILTERED])
    write(filters / "filtered_broken.txt", ["CCCCCCCCCCC_0_10000.mp4"])
    write(
        meta / "filtered_examples_vggsound_extra" / "test_failed_manual_inspection.txt", TEST[2:3]
    )
    classes = [
        "dog barking\ty",
        "playing tennis\ty",
        "people marching\tn",
        "people sobbing, wailing",
    ]
    write(meta / "picked_sparse_classes.csv", classes)
    kept = {"valid": VALID, "test": [name for name in TEST if name != FILTERED]}
    write_fixed(meta, "vggsound", kept)
    clean = [
        f"vggsound_sparse,{TEST[0]},4.64,-1.0,1",
        f"vggsound_sparse,{TEST[1]},0.12,1.2,0",
        f"vggsound_sparse,{TEST[2]},2.56,-0.6,1",
        f"vggsound_sparse,{FILTERED},2.0,-0.8,1",
    ]
    write(
        meta / "vggsound_sparse_clean_fixed_offsets.csv",
        ["dataset_name,video_id,vstart_sec,offset_sec,is_sync", *clean],
    )
    return meta


def write_lrs3(meta: Path) -> Path:
    """Write everything that the LRS3 adapter reads."""
    for split, ids in LRS3.items():
        write(meta / f"lrs3_{split}.txt", ids)
    write_fixed(meta, "lrs3", {split: LRS3[split] for split in ("valid", "test")})
    return meta


def write_audioset(meta: Path) -> Path:
    """Write everything that the AudioSet adapter reads."""
    write(meta / "audioset.csv", (",".join(map(str, row)) for row in AUDIOSET))
    write(
        meta / "filtered_examples_audioset" / "less_than_9s_in_frames.txt",
        ["unbalanced_train_segments/8b42Q-KKntM_0_6000"],
    )
    fixed = {"valid": ["balanced/--PJHxphWEs_30000_40000"], "test": ["eval/--4gqARaEJE_0_10000"]}
    write_fixed(meta, "audioset", fixed)
    return meta


def write_fixed(meta: Path, name: str, ids: dict[str, list[str]]) -> None:
    """Write fixed offsets: the n-th clip of a split starts at n * 0.04 s, offset -0.2 s * n."""
    for split, names in ids.items():
        rows = [f"{n},{-0.2 * i:.1f},{0.04 * i:.2f}" for i, n in enumerate(names, start=1)]
        path = meta / f"fixed_offsets_{name}" / f"{split}_{FIXED}"
        write(path, ["path,offset_sec,vstart_sec", *rows])


def write_classes(path: Path, names: dict[int, str], prefix: str = "/m/") -> Path:
    """Write a class list up to the largest index; the machine id of class 4 is ``/m/4``."""
    rows = [f'{i},{prefix}{i},"{names.get(i, f"class {i}")}"' for i in range(max(names) + 1)]
    write(path, ["index,mid,display_name", *rows])
    return path
