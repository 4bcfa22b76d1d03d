"""Where nothing can be written every command says so in one sentence, and leaves nothing half."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from orchestration.failures import input_error
from zoo.cli.app import run
from zoo.data import store_build
from zoo.data.growing_array import GrowingArray
from zoo.data.manifest import Manifest
from zoo.data.store import StoreConfig
from zoo.errors import ManifestError, ZooError, from_system
from zoo.files import append_line, save_tensors, write_whole, written_by_torch

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
COMMANDS = [
    "data shift CLIP --delay 0.3 -o OUT/s.mp4",
    "data synth OUT/synth --clips 1 --workers 1",
    "data prepare folder --videos CLIPS -o OUT/m.parquet",
    "data prepare folder --videos CLIPS --reencode OUT/new -o OUT/m.parquet",
    "data merge DATA -o OUT/m.parquet",
    "data subset DATA -o OUT/ids.json",
    "fix MODEL CLIP -o OUT/f.mp4",
    "attribute MODEL CLIP -o OUT/a.png",
    "reconstruct MODEL CLIP -o OUT/r.png",
    "predict MODEL CLIP --plot OUT/p.png",
    "predict MODEL CLIP --csv OUT/t.csv",
    "evaluate MODEL --data DATA -o OUT/report",
    "evaluate MODEL --data DATA -o OUT/report.json",
    "desync MODEL --videos CLIPS -o OUT/scores",
    "retrieve MODEL CLIP --in CLIPS --index OUT/index",
    "features MODEL CLIP -o OUT/tokens",
    "export MODEL -o OUT/m.pt2",
    "convert MODEL --to published -o OUT/m.pt",
    "train --extractor ast_motionformer --data DATA --out OUT/run",
    "ablate ablations/localization.yaml --out OUT/table",
    "tune segment-length --extractor ast_motionformer --data DATA --out OUT/search",
    "plugin new mine --kind head -o OUT/mine",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_written_is_one_sentence(
    command: str,
    clips: Manifest,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocked = tmp_path / "blocked"  # a file where a folder should be stops even root
    blocked.write_text("in the way")
    stands_for = {
        "MODEL": str(model_folder),
        "CLIP": str(clips.clips[0].path),
        "CLIPS": str(clips.clips[0].path.parent),
        "DATA": str(clips.folder / "manifest.parquet"),
        "ablations/localization.yaml": str(
            Path(__file__).parents[2] / "ablations" / "localization.yaml"
        ),
    }
    words = [stands_for.get(word, word.replace("OUT", str(blocked))) for word in command.split()]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1, said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["blocked"]
    assert blocked.read_text() == "in the way"


def test_what_the_system_refuses_is_said_with_the_file_and_what_to_do() -> None:
    refused = OSError(errno.EROFS, os.strerror(errno.EROFS), "/films/a.mp4")
    said = str(from_system(refused))
    assert said == "/films/a.mp4: Read-only file system; write to another place"
    assert str(from_system(FULL)).startswith("No space left on device; free some space")
    assert str(from_system(OSError("odd\nerror"))) == "odd error"


def test_an_error_that_nobody_expected_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/films/a.csv")

    monkeypatch.setattr("zoo.data.manifest.Manifest.read", fail)
    assert run(["data", "merge", "a.parquet", "-o", "b.parquet"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: /films/a.csv: Disk quota exceeded; free some of your quota")
    with pytest.raises(OSError, match="quota"):
        run(["--debug", "data", "merge", "a.parquet", "-o", "b.parquet"])


# -- a full disk: /dev/full says so whatever is written


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@needs_dev_full
def test_a_text_is_written_whole_or_the_old_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text("old")
    (tmp_path / ".run.json.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as full:
        write_whole(file, "new")
    assert full.value.filename == str(file)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@needs_dev_full
def test_a_log_a_checkpoint_and_an_export_say_that_the_disk_is_full(tmp_path: Path) -> None:
    import torch

    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        append_line(tmp_path / "full", "{}")
    with pytest.raises(OSError, match="No space left"), written_by_torch(tmp_path / "full") as out:
        torch.save({"weights": torch.zeros(1000)}, out)
    with pytest.raises(OSError, match="No such file") as missing:
        save_tensors({"weights": torch.zeros(3)}, tmp_path / "no" / "file.safetensors")
    assert missing.value.errno == errno.ENOENT


def test_a_shard_that_cannot_be_written_leaves_nothing(
    clips: Manifest, model: Any, reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(*_: Any) -> None:
        raise FULL

    (tmp_path / ".shard-00000.1").mkdir()  # of a worker that was killed
    monkeypatch.setattr(GrowingArray, "write", full)
    config = StoreConfig(segment_s=0.64, vision_hop_s=0.32, audio_hop_s=0.04)
    build = store_build.build_store(
        tmp_path, model, reader, list(clips.clips[:1]), config, torch.device("cpu")
    )
    with pytest.raises(OSError, match="No space left"):
        list(build)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_a_reencoding_instead_of_rejecting_the_clips(
    clips: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.data import reencode as module
    from zoo.media.encode import cannot_write

    def full(_source: Path, out: Path, _seconds: float) -> None:
        raise cannot_write(out, FULL) from FULL

    monkeypatch.setattr(module, "reencode", full)
    record = clips.clips[0]
    job = module.Job(module.ClipRecord(path=record.path), tmp_path / "new.mp4")
    with pytest.raises(ManifestError, match=r"new\.mp4 cannot be written to .*No space left"):
        module.run_job(job)


def test_a_full_disk_ends_a_training_and_is_not_tried_again() -> None:
    from ray.train import WorkerGroupError

    found = input_error(WorkerGroupError("failed", {0: FULL}))
    assert isinstance(found, ZooError)
    assert "No space left on device; free some space" in str(found)
    assert input_error(WorkerGroupError("failed", {0: OSError(errno.EIO, "odd")})) is None
