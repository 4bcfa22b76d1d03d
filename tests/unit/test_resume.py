"""What makes a resumed run end where an uninterrupted one does, without Ray."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from early_stop import StopsEarly
from safetensors.torch import load_file

from zoo.contracts import Frames, LogMel
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Clip, Manifest
from zoo.data.sampling import slot_rng
from zoo.errors import MediaError, TrainingError
from zoo.files import append_line
from zoo.training.checkpoint import find_whole, save_checkpoint
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, clips_of, run_job
from zoo.training.overrides import override
from zoo.training.recipe import Recipe
from zoo.training.request import TrainRequest
from zoo.training.run_folder import Run
from zoo.training.runlog import (
    METRICS,
    QUARANTINE,
    RunLog,
    quarantine,
    read_metrics,
    read_quarantine,
)
from zoo.training.watch import MetricsTail, RunState


def source(num: int) -> ClipSource:
    clips = [Clip(Path(f"{i}.mp4"), "train", 9.0, 25, 64, 64, 16_000, 1) for i in range(num)]
    return ClipSource(clips, ClipReader(Frames(), LogMel()))


def test_rewinding_forgets_what_came_after_a_checkpoint_and_the_end(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for stage, step, kind in ((1, 5, "train"), (2, 0, "sliding"), (2, 4, "train"), (2, 8, "train")):
        log.write(stage, step, kind, loss=1.0)
    log.write(2, 0, "done")
    log.rewind(2, 4)
    assert [(r["stage"], r["step"]) for r in read_metrics(tmp_path)] == [(1, 5), (2, 0), (2, 4)]
    log.rewind(1, 9)
    assert [r["step"] for r in read_metrics(tmp_path)] == [5]
    log.close()


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(json.dumps({"stage": 1}) + '\n{"sta')
    assert read_metrics(tmp_path) == [{"stage": 1}]


def test_a_clip_is_quarantined_once(tmp_path: Path) -> None:
    for _ in range(2):
        quarantine(tmp_path, Path("a.mp4"), "cut short")
    assert len((tmp_path / QUARANTINE).read_text().splitlines()) == 1
    assert read_quarantine(tmp_path) == {"a.mp4": "cut short"}


def test_a_resumed_run_replaces_a_broken_clip_by_the_same_one() -> None:
    def read(clip: int, rng: np.random.Generator) -> tuple[int, float]:
        value = float(rng.random())
        if clip % 3 == 0:
            raise MediaError("broken")
        return clip, value

    def sample(clips: ClipSource, step: int) -> tuple[int, float]:
        rng = slot_rng(1, 1, step, 0)
        return clips.first_readable(step % 7, rng, lambda i: read(i, rng))

    whole, resumed = source(7), source(7)
    expected = [sample(whole, step) for step in range(20)]
    assert [sample(resumed, step) for step in range(9, 20)] == expected[9:]
    assert set(whole.broken) == {0, 3, 6}


def test_when_all_clips_are_broken_the_reason_is_given() -> None:
    def read(clip: int) -> None:
        raise MediaError(f"clip {clip} is cut short")

    clips = source(3)
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"not one clip could be read.*is cut short"):
            clips.first_readable(0, slot_rng(1, 1, 0, 0), read)


SMALL = (
    "stage1.steps=4 stage1.clips=2 stage1.num_segments=8 stage1.checkpoint_every=2 "
    "stage1.log_every=1 stage2.steps=9 stage2.batch=4 stage2.checkpoint_every=3 "
    "stage2.log_every=1 stage2.valid_every=2 stage2.valid_rounds=1"
)


def test_a_run_may_stop_at_any_checkpoint(clips: Manifest, recipe: Recipe, tmp_path: Path) -> None:
    small = override(recipe, SMALL.split())
    data = clips.folder / "manifest.parquet"
    outcomes = []
    for name, stops in (("whole", ()), ("broken", (1, 1, 1))):
        job = Job(small, data, tmp_path / name, (1, 2))
        job.run.mkdir()
        for num in stops:
            with pytest.raises(KeyboardInterrupt):
                run_job(StopsEarly(tmp_path / f"{name}-checkpoints", num), job)
        run_job(LocalEngine(tmp_path / f"{name}-checkpoints"), job)
        weights = load_file(job.run / "model.safetensors")
        records = [
            (r["stage"], r["step"], r["kind"], r.get("split"), r.get("loss"))
            for r in read_metrics(job.run)
        ]
        outcomes.append(({k: v.numpy().tobytes() for k, v in weights.items()}, records))
    assert outcomes[0][0] == outcomes[1][0]
    assert outcomes[0][1] == outcomes[1][1]


def test_stage_2_starts_from_the_encoder_of_another_run(
    clips: Manifest, recipe: Recipe, model_folder: Path, tmp_path: Path
) -> None:
    small = override(recipe, SMALL.split())
    job = Job(small, clips.folder / "manifest.parquet", tmp_path, (2,), init=model_folder)
    run_job(LocalEngine(tmp_path / "checkpoints"), job)
    before, after = (load_file(f / "model.safetensors") for f in (model_folder, tmp_path))
    for name in before:
        is_same = torch.equal(before[name], after[name])
        assert is_same or name.startswith("head."), name
    assert {r["stage"] for r in read_metrics(tmp_path)} == {2}


def test_stages_trained_apart_come_to_the_same_and_share_features(
    clips: Manifest, recipe: Recipe, tmp_path: Path
) -> None:
    small = override(recipe, SMALL.split())
    data = clips.folder / "manifest.parquet"
    whole, encoder, head = (tmp_path / name for name in ("whole", "encoder", "head"))
    for job in (
        Job(small, data, whole, (1, 2)),
        Job(small, data, encoder, (1,)),
        Job(small, data, head, (2,), init=encoder),
    ):
        run_job(LocalEngine(tmp_path / f"{job.run.name}-checkpoints"), job)
    together, apart = (load_file(run / "model.safetensors") for run in (whole, head))
    assert all(torch.equal(together[name], apart[name]) for name in together)
    assert len(list((encoder / "features").iterdir())) == 2  # train and valid
    assert not (head / "features").exists()
    kinds = [record["kind"] for record in read_metrics(encoder)]
    assert kinds.count("features") == 2
    assert "sliding" in kinds
    assert (kinds[-1], read_metrics(encoder)[-1]["stage"]) == ("done", 1)


def test_the_newest_checkpoint_that_is_whole_is_taken(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    folders = [tmp_path / name for name in ("new", "middle", "old", "older")]
    for folder in folders:
        folder.mkdir()
        save_checkpoint(folder, module, [], {"stage": 1, "step": 1})
    weights = folders[0] / "state.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    (folders[1] / "state.json").write_text('{"stage": 1, "st')
    assert find_whole(iter(folders)) == (folders[2], 2)
    assert find_whole(folders[:2]) == (None, 2)
    assert find_whole([]) == (None, 0)


def test_a_run_whose_checkpoint_is_damaged_ends_alike_and_says_so(
    clips: Manifest, recipe: Recipe, tmp_path: Path
) -> None:
    small = override(recipe, SMALL.split())
    weights = []
    for name in ("whole", "damaged"):
        run, checkpoints = tmp_path / name, tmp_path / f"{name}-checkpoints"
        job = Job(small, clips.folder / "manifest.parquet", run, (1, 2))
        run.mkdir()
        if name == "damaged":
            with pytest.raises(KeyboardInterrupt):
                run_job(StopsEarly(checkpoints, 1), job)
            (checkpoints / "latest" / "state.safetensors").write_bytes(b"half of it")
        run_job(LocalEngine(checkpoints), job)
        weights.append((run / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    told = RunState(small, tmp_path / "damaged", (1, 2)).follow(MetricsTail(tmp_path / "damaged"))
    assert "the last checkpoint is damaged, and there is none before: the stage begins anew" in told


def test_a_run_does_not_go_on_with_another_manifest(
    clips: Manifest, recipe: Recipe, tmp_path: Path
) -> None:
    data = tmp_path / "manifest.parquet"
    Manifest(clips.clips, tmp_path).write(data)
    job = Job(recipe, data, tmp_path / "run", (1, 2))
    job.run.mkdir()
    Run(job, TrainRequest(data=str(data))).write()
    before = clips_of(job)
    Manifest(clips.clips[:-1], tmp_path).write(data)
    with pytest.raises(TrainingError, match=r"has changed since the run .* put it back, or begin"):
        clips_of(job)
    Manifest(clips.clips, tmp_path).write(data)
    assert clips_of(job) == before


def test_a_record_cut_short_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    tail = MetricsTail(tmp_path)
    (tmp_path / METRICS).write_text(json.dumps({"stage": 1}) + '\n{"stage": 1, "st')
    append_line(tmp_path / METRICS, json.dumps({"stage": 2}))
    assert read_metrics(tmp_path) == tail.read() == [{"stage": 1}, {"stage": 2}]
