"""``make chaos``: trainings that lose workers, drivers, machines or disks end as if they had not.

Every scenario prints a row of a table.  ZOO_CHAOS_SEED chooses the moments.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from machinery import (
    NAMES,
    SIGNALS,
    SmallDisk,
    Struck,
    can_mount,
    finish,
    has_logged,
    is_storing,
    steps_of,
    train_words,
    weights_of,
)

from zoo.data.manifest import Manifest

SEED = int(os.environ.get("ZOO_CHAOS_SEED", "0"))
pytestmark = pytest.mark.timeout(3600)
CASES = [
    (phase, who, how)
    for phase in ("stage I", "store", "stage II")
    for who, how in (
        ("worker", "kill"),
        ("driver", "kill"),
        ("raylet", "kill"),
        ("driver", "terminate"),
    )
]


@pytest.fixture(scope="module")
def whole(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(train_words(manifest, folder / "run"), folder / "log") == 0
    return folder / "run"


@pytest.fixture
def struck(manifest: Path, tmp_path: Path) -> Struck:
    out = tmp_path / "run"
    return Struck(train_words(manifest, out), out, tmp_path / "log")


def require_same(struck: Struck, whole: Path, row: list[str]) -> None:
    """The same weights, nothing repeated, nothing left."""
    assert weights_of(struck.run) == weights_of(whole)
    assert steps_of(struck.run) == steps_of(whole)
    assert struck.leftovers() == []
    assert len(list(struck.run.glob("ray/checkpoint_*/"))) == 2
    row += ["same weights, nothing repeated, nothing left"]


@pytest.mark.parametrize(("phase", "who", "how"), CASES, ids=map("-".join, CASES))
def test_a_lost_process_changes_nothing(
    phase: str, who: str, how: str, struck: Struck, whole: Path, row: list[str]
) -> None:
    conditions = {
        "stage I": has_logged(struck.run, 1, 3),
        "store": is_storing(struck.run),
        "stage II": has_logged(struck.run, 2, 6),
    }
    seed = SEED + CASES.index((phase, who, how))
    code = struck.strike(conditions[phase], NAMES[who], SIGNALS[how], seed)
    row += [phase, f"{how} {who}", f"exit code {code}"]
    for _ in range(3):
        if code == 0:
            break
        code = struck.resume()
    assert code == 0, struck.log.read_text()
    require_same(struck, whole, row)


@pytest.mark.skipif(not can_mount(), reason="only root can make a small disk")
@pytest.mark.parametrize(("phase", "num_mb"), [("store", 12), ("checkpoint", 6)])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    phase: str, num_mb: int, manifest: Path, whole: Path, tmp_path: Path, row: list[str]
) -> None:
    disk = SmallDisk(tmp_path / "disk", num_mb * 2**20)
    try:
        out, log = disk.folder / "run", tmp_path / "log"
        struck = Struck(train_words(manifest, out), out, log)
        code = finish(struck.words, log)
        said = [line for line in log.read_text().splitlines() if "error:" in line]
        row += [phase, f"a disk of {num_mb} MB", f"exit code {code}: {said[-1] if said else ''}"]
        assert code == 2, log.read_text()
        assert "No space left on device" in said[-1]
        assert "Traceback" not in log.read_text()
        disk.grow(2**30)
        assert struck.resume() == 0, log.read_text()
        require_same(struck, whole, row)
    finally:
        disk.remove()


def test_a_half_written_checkpoint_is_passed_over_and_said(
    struck: Struck, whole: Path, row: list[str]
) -> None:
    code = struck.strike(has_logged(struck.run, 2, 10), NAMES["driver"], SIGNALS["kill"], SEED)
    struck.leftovers()  # Ray goes on for a while without its driver
    reported = (struck.run / "ray" / "checkpoint_manager_snapshot.json").read_text()
    checkpoints = sorted(struck.run.glob("ray/checkpoint_*/state.safetensors"))
    newest = [file for file in checkpoints if file.parent.name in reported][-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    row += ["stage II", "half a checkpoint", f"exit code {code}"]
    assert struck.resume() == 0, struck.log.read_text()
    said = " ".join(struck.log.read_text().split())
    assert "the last checkpoint is damaged; goes on from the one before" in said
    require_same(struck, whole, row)


def test_a_manifest_that_was_edited_is_refused_until_it_is_put_back(
    struck: Struck, manifest: Path, whole: Path, row: list[str]
) -> None:
    code = struck.strike(has_logged(struck.run, 1, 3), NAMES["driver"], SIGNALS["terminate"], SEED)
    row += ["stage I", "manifest edited", f"exit code {code}"]
    before, clips = manifest.read_bytes(), Manifest.read(manifest)
    try:
        Manifest(clips.clips[1:], clips.folder).write(manifest)
        assert struck.resume() == 2
        assert "has changed since the run in" in " ".join(struck.log.read_text().split())
    finally:
        manifest.write_bytes(before)
    assert struck.resume() == 0, struck.log.read_text()
    require_same(struck, whole, row)


def test_a_long_folder_of_temporary_files_will_do(
    struck: Struck, whole: Path, tmp_path: Path, row: list[str]
) -> None:
    folder = tmp_path / ("t" * (89 - len(str(tmp_path))))
    folder.mkdir()
    code = finish(struck.words, struck.log, TMPDIR=str(folder))
    row += ["all", f"TMPDIR of {len(str(folder))} characters", f"exit code {code}"]
    assert code == 0, struck.log.read_text()
    require_same(struck, whole, row)
    assert not list(folder.glob("zoo-*"))


@pytest.mark.skipif(not can_mount(), reason="only root can make /dev/shm small")
def test_a_small_shared_memory_will_do(struck: Struck, whole: Path, row: list[str]) -> None:
    words = " ".join([sys.executable, "-m", "zoo.cli", *struck.words])
    inside = f"mount -t tmpfs -o size=64m none /dev/shm && OMP_NUM_THREADS=1 exec {words}"
    with struck.log.open("ab") as log:
        command = ["unshare", "--mount", "sh", "-c", inside]
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    row += ["all", "/dev/shm of 64 MB", f"exit code {done.returncode}"]
    assert done.returncode == 0, struck.log.read_text()
    require_same(struck, whole, row)
