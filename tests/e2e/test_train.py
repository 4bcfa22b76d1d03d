"""``zoo train`` under Ray: two workers, one worker, and every way of being interrupted."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from published_weights import published_ast, published_motionformer
from safetensors.torch import load_file

from orchestration.cluster import connected
from zoo.cli.app import run
from zoo.registry.manager import registry
from zoo.training.resources import Resources
from zoo.training.runlog import read_metrics, read_quarantine

PLUGIN = Path(__file__).with_name("interruptible.py")
# fmt: off
SETTINGS = {
    "stage1.objective.name": "interruptible", "stage1.steps": 6, "stage1.clips": 2,
    "stage1.num_segments": 9, "stage1.log_every": 1, "stage1.valid_every": 6,
    "stage1.checkpoint_every": 2, "stage2.steps": 20, "stage2.batch": 8, "stage2.log_every": 2,
    "stage2.valid_every": 10, "stage2.checkpoint_every": 4,
}
INTERRUPTIONS = [
    {"stage": 1, "call": 4, "rank": 1, "who": "worker", "signal": "SIGKILL"},
    {"stage": 2, "call": 7, "rank": 0, "who": "driver", "signal": "SIGINT"},
    {"stage": 2, "call": 7, "rank": 0, "who": "driver", "signal": "SIGKILL"},
]
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """One thread per worker, and the plugins of this process as they were."""
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)
    registry.cache_clear()


@pytest.fixture(scope="module")
def cluster(environment: None) -> Iterator[None]:
    """One Ray for all runs of this module that do not bring it down."""
    with connected(Resources()):
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, two of which can no longer be read."""
    out = tmp_path_factory.mktemp("clips") / "clips"
    made = ["--clips", "12", "--seconds", "7.4", "--size", "48", "--seed", "5", "--workers", "1"]
    assert run(["data", "synth", str(out), *made, "--split", "train=0.7,valid=0.3"]) == 0
    (out / "clips" / "000001.mp4").write_text("not a clip")
    whole = (out / "clips" / "000002.mp4").read_bytes()
    (out / "clips" / "000002.mp4").write_bytes(whole[: len(whole) // 2])
    return out / "manifest.parquet"


def command(manifest: Path, out: Path, workers: int = 2, *more: str) -> list[str]:
    chosen = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    given = ["--extractor", "ast_motionformer", "--head", "interruptible", *chosen]
    paths = ["--data", str(manifest), "--out", str(out), "--workers", str(workers)]
    return ["--plugin", str(PLUGIN), "train", *given, *paths, *more]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.fixture(scope="module")
def whole(cluster: None, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two workers."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(command(manifest, out)) == 0
    return out


def steps_of(out: Path) -> list[tuple[object, ...]]:
    keys = ("stage", "step", "kind", "split")
    return [tuple(record.get(key) for key in keys) for record in read_metrics(out)]


def test_a_run_leaves_a_model_metrics_and_plots(whole: Path) -> None:
    for name in ("model.safetensors", "model.json", "recipe.json", "environment.json"):
        assert (whole / name).exists(), name
    start = json.loads((whole / "environment.json").read_text())["starts"][0]
    assert start["workers"] == 2
    assert "torch" in start["packages"]
    plots = {path.name for path in (whole / "plots").iterdir()}
    assert plots == {"curves.png", "confusion.png", "similarity.png", "correlation.png"}
    assert list((whole / "tensorboard").iterdir())
    steps = steps_of(whole)
    assert len(set(steps)) == len(steps)
    assert steps[-1][2] == "done"


def test_clips_that_cannot_be_read_are_left_out_and_counted(whole: Path) -> None:
    left_out = read_quarantine(whole)
    assert sorted(Path(path).name for path in left_out) == ["000001.mp4", "000002.mp4"]
    assert "not a media file" in " ".join(left_out.values())


@pytest.mark.slow
def test_one_worker_fed_by_ray_data_ends_where_two_do(
    whole: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(manifest, tmp_path / "run", 1, "--ingest", "ray")) == 0
    assert read_quarantine(tmp_path / "run").keys() == read_quarantine(whole).keys()
    shown = said(capsys)
    for part in ("ln 21 = 3.04", "left out: 2 clips", "head on valid", "next: zoo evaluate"):
        assert part in shown
    one, two = (load_file(path / "model.safetensors") for path in (tmp_path / "run", whole))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=1e-3, msg=name)


@pytest.mark.parametrize("times", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_bit_for_bit_where_a_whole_one_does(
    whole: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    """A worker is killed, then Ctrl-C, and then, among the slow tests, the driver is killed."""
    plan, out = tmp_path / "plan.json", tmp_path / "run"
    plan.write_text(json.dumps(INTERRUPTIONS[:times]))
    code, text = start_and_break_off(command(manifest, out), plan)
    assert code == 130, text
    assert f"go on with: zoo train --out {out} --resume" in text
    assert len(json.loads(plan.read_text())) == times - 2, "the killed worker did not come back"
    resume = ["--plugin", str(PLUGIN), "train", "--out", str(out), "--workers", "2", "--resume"]
    if times > 2:
        code, text = start_and_break_off(resume, plan)
        assert code == -9, text
    assert run(resume) == 0
    assert load_bytes(out) == load_bytes(whole)
    assert steps_of(out) == steps_of(whole)
    capsys.readouterr()
    assert run(resume) == 0  # a run that has ended only shows its result again
    assert "head on valid" in said(capsys)


def load_bytes(out: Path) -> dict[str, bytes]:
    weights = load_file(out / "model.safetensors")
    return {name: value.numpy().tobytes() for name, value in weights.items()}


@pytest.mark.usefixtures("in_process")
def test_a_run_starts_from_published_weights_and_says_so(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = {name: spec.presets["tiny"] for name, spec in registry().extractors.items()}
    audio, vision = tmp_path / "pytorch_model.bin", tmp_path / "ssv2.pyth"
    theirs = published_ast(presets["ast"], prefix="audio_spectrogram_transformer.")
    torch.save(theirs, audio)
    torch.save({"model_state": published_motionformer(presets["motionformer"])}, vision)
    starts = ["--init", str(audio), "--init", str(vision), "--stage", "1"]
    few = ["--set", "stage1.steps=1", "--set", "stage1.valid_every=1"]
    assert run(command(manifest, tmp_path / "run", 1, *starts, *few)) == 0
    shown = said(capsys)
    assert f"the audio extractor ast from {audio} (huggingface-ast, sha256 " in shown
    assert f"the vision extractor motionformer from {vision} (motionformer, sha256 " in shown
    trained = load_file(tmp_path / "run" / "model.safetensors")
    token = theirs["audio_spectrogram_transformer.embeddings.distillation_token"]
    weight = theirs["audio_spectrogram_transformer.embeddings.patch_embeddings.projection.weight"]
    near = {"rtol": 0, "atol": 1e-3}  # one step of warm-up
    torch.testing.assert_close(trained["encoder.audio.extractor.vit.dist_token"], token, **near)
    torch.testing.assert_close(
        trained["encoder.audio.extractor.vit.patch_embed.proj.weight"], weight, **near
    )


def start_and_break_off(arguments: list[str], plan: Path) -> tuple[int, str]:
    """Start the command line as a process that its own workers may signal."""
    launcher = (
        "import os, sys; os.environ['ZOO_TEST_DRIVER'] = str(os.getpid()); "
        "from zoo.cli import main; main()"
    )
    environment = {**os.environ, "ZOO_TEST_INTERRUPTIONS": str(plan)}
    done = subprocess.run(
        [sys.executable, "-c", launcher, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.slow
def test_a_run_without_one_readable_clip_says_why(
    cluster: None, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    moved = manifest.rename(tmp_path / "manifest.parquet")
    for clip in (manifest.parent / "clips").iterdir():
        (clips / clip.name).write_text("not a clip")
    assert run(command(moved, tmp_path / "run", 1)) == 2
    moved.rename(manifest)
    shown = said(capsys)
    assert "error: not one clip could be read; the last because:" in shown
    assert "not a media file" in shown
    assert "Traceback" not in shown
