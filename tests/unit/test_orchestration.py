"""``zoo train`` up to the moment Ray starts, and what it says while Ray runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestration.cluster import connected, has_token, noticing_loss, require_running
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError, ZooError
from zoo.models.upgrade import read_model_config
from zoo.timeline import OffsetGrid
from zoo.training.job import Job
from zoo.training.recipe import Recipe
from zoo.training.request import TrainRequest, check_shares, first_difference, recipe_of
from zoo.training.resources import Resources, check_machine, count_cpus
from zoo.training.run_display import next_command, opening, summary
from zoo.training.run_folder import open_run, write_environment
from zoo.training.run_plots import plot_run
from zoo.training.runlog import METRICS, RunLog, quarantine
from zoo.training.watch import MetricsTail, RunState

TINY = TrainRequest(extractor="ast_motionformer", data="clips.parquet")


@pytest.fixture
def manifest(clips: Manifest) -> Path:
    return clips.folder / "manifest.parquet"


def train(out: Path, manifest: Path, *more: str) -> int:
    given = ["train", "--extractor", "ast_motionformer", "--data", str(manifest)]
    return run([*given, "--out", str(out), *more])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--extractor", "ast_motionformr"), "did you mean 'ast_motionformer'"),
        (("--head", "corelation"), "did you mean 'correlation'"),
        (("--task", "synchronizability"), "no head to train from scratch unless one is named"),
        (("--task", "offset", "--head", "synchronizability"), "answers another question"),
        (("--set", "stage1.stps=3"), "unknown key 'stage1.stps'; did you mean 'steps'"),
        (("--set", "stage1.steps=many"), "'stage1.steps'"),
        (("--set", "stage1.clips=3", "--workers", "2"), "stage1.clips=3 cannot be shared out"),
        (("--stage", "2"), "--stage 2 needs the encoder of stage 1: --init"),
        (("--init", "nowhere"), "no such file or folder, and no such model"),
        (("--data", "nowhere.parquet"), "nowhere.parquet"),
        (("--workers", "64", "--set", "stage1.clips=64"), "64 workers of 1 CPU need 64 CPUs"),
        (("--gpus-per-worker", "64"), "need 64 GPUs, but this machine has"),
        (("--resume",), "there is no run to resume"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_run(
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    sentence: str,
) -> None:
    out = tmp_path / "run"
    assert train(out, manifest, *more) == 2
    shown = said(capsys)
    assert sentence in shown
    assert shown.startswith("error: ")
    assert "Traceback" not in shown
    assert not out.exists() or not any(out.iterdir())


def test_an_output_that_cannot_be_used_is_refused(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert train(tmp_path / "file" / "run", manifest) == 2
    assert "cannot write to" in said(capsys)
    assert train(tmp_path, manifest) == 2
    assert "exists and is not empty; take another --out, or go on with --resume" in said(capsys)


def test_the_command_is_light_to_load() -> None:
    code = "import orchestration, sys; sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def begin(tmp_path: Path, request: TrainRequest = TINY) -> Path:
    out = tmp_path / "run"
    open_run(request, out, 0, resume=False).write()
    return out


def test_a_resumed_run_keeps_what_it_was_asked_for(tmp_path: Path) -> None:
    settings = {"stage2.lr": 0.01}
    out = begin(tmp_path, TINY.model_copy(update={"head": "sync", "set": settings}))
    job = open_run(TrainRequest(), out, 0, resume=True).job
    assert job.recipe.stage2.lr == 0.01
    assert job.recipe.model.head is not None
    assert job.recipe.model.head.name == "sync"
    again = open_run(TrainRequest(set=settings), out, 0, resume=True).job
    assert again == job


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (TrainRequest(set={"stage2.lr": 0.5}), r"stage2\.lr is .* there, 0\.5 here"),
        (TrainRequest(head="sync"), "model.head.name is correlation there, sync here"),
        (TrainRequest(seed=7), "seed is 1337 there, 7 here"),
        (TrainRequest(data="other.parquet"), "data is clips.parquet there, other.parquet here"),
    ],
)
def test_a_resumed_run_refuses_other_settings(
    tmp_path: Path, changed: TrainRequest, sentence: str
) -> None:
    out = begin(tmp_path)
    with pytest.raises(ConfigError, match=sentence):
        open_run(changed, out, 0, resume=True)


def test_a_run_of_stage_1_can_go_on_to_stage_2(tmp_path: Path) -> None:
    out = begin(tmp_path, TINY.model_copy(update={"stage": "1"}))
    with pytest.raises(ConfigError, match="needs the encoder"):
        open_run(TrainRequest(stage="2"), out, 0, resume=True)
    (out / "stage1").mkdir()
    (out / "stage1" / "model.json").write_text("{}")
    assert open_run(TrainRequest(stage="2"), out, 0, resume=True).job.stages == (1, 2)


def test_stage_2_takes_its_encoder_from_the_model_it_starts_from(model_folder: Path) -> None:
    description = json.loads((model_folder / "model.json").read_text())
    config = read_model_config(description, "model.json").model_dump(mode="json")
    start = (str(model_folder),)
    asked = TrainRequest(data="x", init=start, stage="2", head="sync", preset="paper")
    recipe = recipe_of(asked, 0)
    made = recipe.model.model_dump(mode="json")
    for part in ("encoder", "layout"):
        assert made[part] == config[part]
    assert made["head"]["name"] == "sync"
    with pytest.raises(ConfigError, match="does not fit init"):
        recipe_of(asked.model_copy(update={"aggregator": "mean"}), 0)


def test_gpus_train_in_bf16_unless_told_otherwise() -> None:
    assert recipe_of(TINY, 1).precision == "bf16"
    assert recipe_of(TINY, 0).precision == "fp32"
    told = TINY.model_copy(update={"set": {"precision": "fp32"}})
    assert recipe_of(told, 1).precision == "fp32"


def test_only_the_stages_that_are_trained_must_share_out(recipe: Recipe) -> None:
    check_shares(recipe, (2,), recipe.stage2.batch)
    with pytest.raises(ConfigError, match="cannot be shared out"):
        check_shares(recipe, (1, 2), recipe.stage2.batch)


def test_differences_are_named_in_full() -> None:
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 1}}) is None
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b is 1 there, 2 here"
    assert first_difference({}, {"c": 1}) == "c is None there, 1 here"


def test_threads_are_shared_out_and_the_environment_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Resources(workers=1).threads == count_cpus()
    assert Resources(workers=1, address="auto").threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Resources(workers=1).threads == 3
    with pytest.raises(TrainingError, match="1 workers of 99 CPU need 99 CPUs"):
        check_machine(Resources(cpus_per_worker=99))
    assert Resources(ingest="ray").cpus == 1
    with pytest.raises(TrainingError, match="ingest ray decodes on processors beside"):
        check_machine(Resources(workers=count_cpus(), ingest="ray"))


def test_a_token_in_the_home_directory_is_used_to_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert not has_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert has_token()


def test_every_start_is_written_down(tmp_path: Path) -> None:
    write_environment(tmp_path, {"workers": 1})
    write_environment(tmp_path, {"workers": 2})
    starts = json.loads((tmp_path / "environment.json").read_text())["starts"]
    assert [start["workers"] for start in starts] == [1, 2]
    assert {"torch", "ray"} <= starts[0]["packages"].keys()


def test_a_mistake_in_a_worker_is_told_from_a_crash() -> None:
    from ray.train import ControllerError, WorkerGroupError

    from orchestration.failures import StopOnInputError, explain_failure, input_error

    mistake = ConfigError("the clip is too short")
    assert input_error(WorkerGroupError("...", {1: mistake})) == mistake
    assert input_error(ControllerError(mistake)) == mistake
    reason, details = explain_failure(WorkerGroupError("...", {0: RuntimeError("no memory")}))
    assert reason == "no memory"
    assert "no memory" in details
    with pytest.raises(ZooError, match="too short"):
        StopOnInputError().after_exception(None, {0: RuntimeError("lost a peer"), 1: mistake})
    StopOnInputError().after_exception(None, {0: RuntimeError("lost a peer")})


def test_a_worker_that_ran_out_of_memory_is_one_sentence() -> None:
    from orchestration.failures import explain_failure

    told = "3 worker(s) were killed due to the node running low on memory.\nEviction Stats: ...\n"
    reason, details = explain_failure(RuntimeError(f"{told}Refer to the documentation on OOM."))
    assert reason.startswith("a machine ran out of memory")
    assert "\n" not in reason
    assert "Eviction Stats" in details


def scores(loss: float, accuracy: float) -> dict[str, float]:
    errors = {"within_one": accuracy, "mean_abs_error_s": 0.5, "num": 80}
    return {"accuracy": accuracy, "cross_entropy": loss, **errors}


def write_run(out: Path, recipe: Recipe) -> None:
    """Leave what a small run would leave."""
    out.mkdir()
    (out / "recipe.json").write_text(recipe.model_dump_json())
    log = RunLog(out, 0)
    for step in range(10, 110, 10):
        log.write(1, step, "train", loss=4.2 - step / 50, segment_accuracy=step / 200)
    log.write(1, 100, "valid", precision=0.7, chance=0.2)
    for split in ("train", "valid"):
        log.write(2, 0, "features", split=split, clips=8, total=8)
        log.write(2, 0, "clips", split=split, usable=8, short=int(split == "train"), needed_s=7.12)
    log.write(2, 0, "sliding", **scores(2.9, 0.3))
    for step, loss, accuracy in ((100, 3.04, 0.05), (200, 1.0, 0.8), (300, 1.1, 0.7)):
        log.write(2, step, "train", loss=loss, **scores(loss, accuracy))
        log.write(2, step, "valid", on_plateau=float(loss > 3), **scores(loss, accuracy))
    log.close()


def watch(out: Path, recipe: Recipe) -> tuple[RunState, list[str]]:
    state = RunState(recipe, out, (1, 2))
    return state, state.follow(MetricsTail(out))


def test_progress_says_what_happens(tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "run"
    write_run(out, recipe)
    quarantine(out, Path("a.mp4"), "a.mp4 is cut short")
    state, lines = watch(out, recipe)
    text = "\n".join(lines)
    assert "stage 1 is better than chance from step" in text
    assert "stage 2, step 100" in text
    assert text.count("still at chance (loss ~ ln 21 = 3.04") == 1
    assert "stage 2 is better than chance from step 200 on" in text
    assert "1 clip of split train is shorter than the 7.12 s" in text
    assert "split valid is shorter" not in text
    assert "1 clip left out; the first: a.mp4 is cut short" in text
    assert state.valid is not None
    assert state.valid["step"] == 200
    assert state.steps["stage 2"] == 300
    assert not state.is_done_with((1, 2))


def test_a_rewound_file_is_read_again_but_not_told_again(tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "run"
    write_run(out, recipe)
    state, tail = RunState(recipe, out, (1, 2)), MetricsTail(out)
    assert state.follow(tail)
    log = RunLog(out, 0)
    log.rewind(2, 100)
    assert state.follow(tail) == []
    assert state.steps["stage 2"] == 100
    with (out / METRICS).open("a") as stream:
        stream.write('{"stage": 2, "st')
    assert tail.read() == []
    with (out / METRICS).open("a") as stream:
        stream.write('ep": 0, "kind": "done"}\n')
    assert tail.read() == [{"stage": 2, "step": 0, "kind": "done"}]
    log.close()


def test_a_file_written_anew_in_the_same_place_is_read_again(tmp_path: Path) -> None:
    """A file system may give the number of a file that is gone to the next one."""
    file, tail = tmp_path / METRICS, MetricsTail(tmp_path)
    first = [{"step": step, "time": 0.5 + step} for step in range(3)]
    file.write_text("".join(json.dumps(record) + "\n" for record in first))
    assert tail.read() == first
    anew = [first[0], *({"step": step, "time": 1000.25 + step} for step in range(1, 4))]
    file.write_text("".join(json.dumps(record) + "\n" for record in anew))  # longer than before
    assert tail.read() == anew
    assert tail.is_rewound
    assert tail.read() == []
    assert not tail.is_rewound


def test_a_file_may_be_rewound_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, tail = RunLog(tmp_path, 0), MetricsTail(tmp_path)
    for step in range(3):
        log.write(1, step, "train", loss=1.0)
    opened = Path.open

    def open_late(path: Path, *given: Any) -> Any:
        stream = opened(path, *given)
        if path.name == METRICS and given == ("rb",):
            monkeypatch.undo()
            log.rewind(1, 0)
        return stream

    monkeypatch.setattr(Path, "open", open_late)
    assert [record["step"] for record in tail.read()] == [0, 1, 2]
    for step in (1, 2, 3, 4):
        log.write(1, step, "train", loss=1.0)
    assert [record["step"] for record in tail.read()] == [0, 1, 2, 3, 4]
    assert tail.is_rewound
    log.close()


def test_the_end_shows_scores_files_and_the_next_command(tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "run"
    write_run(out, recipe)
    quarantine(out, Path("a.mp4"), "a.mp4 is cut short")
    job = Job(recipe, Path("clips.parquet"), out, (1, 2))
    state, _ = watch(out, recipe)
    console = Console(record=True, width=200)
    console.print(summary(job, state, [out / "plots" / "curves.png"], 90.0))
    text = console.export_text()
    for part in ("80.0%", "30.0%", "4.8%", "13.8%", "1 clip that could not", "curves.png"):
        assert part in text
    assert f"zoo evaluate {out} --data clips.parquet" in text
    bare = Job(recipe, Path("clips.parquet"), out, (1,))
    assert "--stage 2 --init" in next_command(bare)
    assert any("ln 21 = 3.04" in line for line in opening(job, 2, 1, state))


def findings(recipe: Recipe) -> dict[str, Any]:
    grid, s = OffsetGrid(), recipe.model.layout.num_segments
    k = grid.num_classes
    matrix = [[1.0 if i == j else 0.0 for j in range(s)] for i in range(s)]
    example = {"clip": "a.mp4", "offset_s": 0.4, "similarity": matrix, "curve": [0.0, 1.0, 0.5]}
    return {
        "offsets_s": list(grid.offsets_s),
        "segment_starts_s": recipe.model.layout.starts_s,
        "confusion": [[2 if i == j else 0 for j in range(k)] for i in range(k)],
        "examples": [example, example],
    }


def test_plots_are_made_from_what_a_run_left(tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "run"
    write_run(out, recipe)
    assert [path.name for path in plot_run(out)] == ["curves.png"]
    (out / "findings.json").write_text(json.dumps(findings(recipe)))
    names = [path.name for path in plot_run(out)]
    assert names == ["curves.png", "confusion.png", "similarity.png", "correlation.png"]
    assert all(path.stat().st_size > 5000 for path in (out / "plots").iterdir())


def test_a_resumed_run_takes_over_workers_and_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Resources] = []
    monkeypatch.setattr(
        "orchestration.driver.launch",
        lambda _request, _out, resources, resume: asked.append(resources) or 0,
    )
    first = Resources(workers=2, cpus_per_worker=3, gpus_per_worker=0.5, ingest="ray")
    write_environment(tmp_path, first.facts)
    command = ["train", "--out", str(tmp_path), "--resume"]
    assert run([*command, "--address", "auto"]) == 0
    assert run([*command, "--workers", "1", "--ingest", "loader"]) == 0
    assert run(["train", "--out", str(tmp_path)]) == 0
    assert asked == [
        replace(first, address="auto"),
        replace(first, workers=1, ingest="loader"),
        Resources(),
    ]


def test_a_ray_that_does_not_start_is_tried_again_and_then_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[object] = []

    def init(**options: object) -> None:
        tries.append(options)
        raise Exception("The current node timed out during startup.\nMore.")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    expected = r"Ray did not start on this machine: The current node timed out during startup; try"
    with pytest.raises(TrainingError, match=expected), connected(Resources()):
        pass
    assert len(tries) == 2


def test_other_workers_or_threads_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first = Resources(workers=2, cpus_per_worker=3)
    assert first.differs_from(first.facts) == ""
    assert first.differs_from({}) == ""
    other = Resources(workers=1, cpus_per_worker=2)
    assert other.differs_from(first.facts) == "workers 1 instead of 2, threads 2 instead of 3"


def test_checkpoints_that_ray_does_not_know_are_removed(tmp_path: Path) -> None:
    from orchestration.driver import SNAPSHOT, remove_unknown_checkpoints

    for name in ("checkpoint_1", "checkpoint_2", "checkpoint_3"):
        (tmp_path / name).mkdir()
    remove_unknown_checkpoints(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    known = [{"checkpoint_dir_name": name} for name in ("checkpoint_2", "checkpoint_3")]
    (tmp_path / SNAPSHOT).write_text(json.dumps({"checkpoint_results": known}))
    remove_unknown_checkpoints(tmp_path)
    left = {path.name for path in tmp_path.glob("checkpoint_*")}
    assert left == {"checkpoint_2", "checkpoint_3"} | {SNAPSHOT}


@pytest.mark.parametrize(
    ("kind", "code", "how"), [("raylet", -9, "SIGKILL"), ("gcs_server", 1, "exit code 1")]
)
def test_a_cluster_that_loses_a_vital_part_is_one_sentence(
    kind: str, code: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import worker

    ended = [("dashboard", SimpleNamespace(returncode=1))]
    node = SimpleNamespace(dead_processes=lambda: ended)
    monkeypatch.setattr(worker, "_global_node", node)
    require_running()
    ended.append((kind, SimpleNamespace(returncode=code)))
    with pytest.raises(TrainingError, match=rf"broke off: .*'{kind}' .*ended \({how}\)"):
        require_running()
    with pytest.raises(TrainingError, match=rf"'{kind}' .*ended"), noticing_loss():
        time.sleep(30)
