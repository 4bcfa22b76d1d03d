"""Plugins that nobody installed: they reach Ray workers, and their models say what they lack."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.cluster import connected
from zoo import testing
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.registry.manager import add_plugin_file, registry
from zoo.scaffold import write_plugin
from zoo.training.resources import Resources

EXAMPLE = Path(__file__).parents[2] / "examples" / "timm_frames.py"
SETTINGS = {
    "stage1.steps": 2,
    "stage1.clips": 2,
    "stage1.num_segments": 9,
    "stage1.valid_every": 2,
    "stage2.steps": 4,
    "stage2.batch": 4,
    "stage2.valid_rounds": 1,
}


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """One thread per worker, and the plugins of this process as they were."""
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)
    registry.cache_clear()


def forget_plugins() -> None:
    os.environ["ZOO_PLUGINS"] = ""
    registry.cache_clear()


@pytest.fixture(scope="module")
def trained(environment: None, clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an audio extractor from a package and a video extractor from a single file.

    Ray is started before anything of them is known, and both are named relative to a folder that
    is gone when the run is used.
    """
    before = Path.cwd()
    home = tmp_path_factory.mktemp("plugins")
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    manifest = clips.clips[0].path.parents[1] / "manifest.parquet"
    chosen = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    forget_plugins()
    with connected(Resources()):
        os.chdir(elsewhere)
        try:
            new = ["plugin", "new", "ear", "--kind", "extractor", "--modality", "audio"]
            assert run([*new, "-o", "ear"]) == 0
            shutil.copy(EXAMPLE, "frames.py")
            given = ["--plugin", "ear/src/zoo_ear", "--plugin", "../elsewhere/frames.py"]
            options = ["--extractor", "ear+timm_frames", "--data", str(manifest)]
            assert run(["train", *given, *options, "--out", "../run", *chosen]) == 0
        finally:
            os.chdir(before)
    shutil.rmtree(elsewhere)
    forget_plugins()
    return home / "run"


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    error = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in error
    assert error.count("error:") == 1
    return error.split("error: ")[1]


@pytest.mark.slow
def test_a_run_keeps_the_plugins_it_was_made_with(trained: Path) -> None:
    kept = {str(path.relative_to(trained / "plugins")) for path in trained.glob("plugins/**/*.py")}
    assert kept == {
        "frames.py",
        "zoo_ear/__init__.py",
        "zoo_ear/config.py",
        "zoo_ear/model.py",
    }


@pytest.mark.slow
def test_a_model_without_its_plugin_says_which_one_and_where_it_is(
    trained: Path, clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(clips.clips[0].path)
    kept = [f"--plugin {trained / 'plugins' / name}" for name in ("frames.py", "zoo_ear")]
    for folder in (trained, trained / "stage1"):
        assert run(["predict", str(folder), clip]) == 2
        said = sentence(capsys)
        assert "unknown extractor 'ear'" in said
        assert "it was made with the plugin file 'zoo_ear'" in said
        assert f"load the copy that the run kept: zoo {' '.join(kept)} ..." in said
    assert run(["train", "--out", str(trained), "--resume"]) == 2
    assert f"the copy that the run kept: zoo {' '.join(kept)}" in sentence(capsys)
    for name in ("model.json", "model.safetensors"):
        shutil.copy(trained / name, tmp_path)
    assert run(["predict", str(tmp_path), clip]) == 2
    said = sentence(capsys)
    assert said.endswith("made with the plugin file 'zoo_ear'; load it with: zoo --plugin FILE ...")


@pytest.mark.slow
def test_the_copies_are_all_that_a_model_needs(
    trained: Path, clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--plugin={path}" for path in (trained / "plugins").iterdir()]
    try:
        assert run(["predict", str(trained), str(clips.clips[0].path), *given]) == 0
        assert "offset" in capsys.readouterr().out
        assert run(["train", "--out", str(trained), "--resume", *given]) == 0
        assert "head on valid" in capsys.readouterr().out
    finally:
        forget_plugins()


def test_the_example_passes_its_check_and_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80
    add_plugin_file(EXAMPLE)
    try:
        testing.check_extractor("timm_frames")
        spec = registry().extractor("timm_frames")
        paper = spec.presets["paper"].feature_map()
        assert (paper.steps, paper.positions, paper.dim) == (8, 196, 192)
        for model in ("resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"):
            config = spec.presets["paper"].model_copy(update={"model": model})
            assert config.feature_map().positions == 49
    finally:
        forget_plugins()


def test_a_model_that_timm_lacks_is_one_sentence(
    clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = str(clips.clips[0].path.parents[1] / "manifest.parquet")
    options = ["--extractor", "ast+timm_frames", "--data", manifest, "--out", str(tmp_path / "r")]
    for model, words in (
        ("vit_tinny", "'vit_tinny' cannot read frames of 48 pixels: Unknown model"),
        ("eva02_tiny_patch14_224", "(48) doesn't match model (224)"),
    ):
        chosen = ["--set", f"vision.model={model}", "--plugin", str(EXAMPLE)]
        try:
            assert run(["train", *options, *chosen]) == 2
        finally:
            forget_plugins()
        assert words in sentence(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "aggregator", "head", "objective", "task"])
def test_what_is_written_trains_by_the_commands_of_its_readme(
    kind: str, tmp_path: Path, clips: Manifest
) -> None:
    """With fewer steps and clips than the README says."""
    write_plugin(f"my_{kind}", kind, None, tmp_path / kind)  # type: ignore[arg-type]
    readme = (tmp_path / kind / "README.md").read_text()
    (line,) = [line for line in readme.splitlines() if line.startswith("zoo train")]
    words = line.split()[1:]
    manifest = clips.clips[0].path.parents[1] / "manifest.parquet"
    words[words.index("--data") + 1] = str(manifest)
    words[words.index("--out") + 1] = str(tmp_path / "run")
    chosen = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    package = tmp_path / kind / "src" / f"zoo_my_{kind}"
    for command in (words + chosen, ["predict", str(tmp_path / "run"), str(clips.clips[0].path)]):
        done = subprocess.run(
            [sys.executable, "-m", "zoo.cli", *command],
            env={**os.environ, "ZOO_PLUGINS": str(package)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
