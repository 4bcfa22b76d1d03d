"""What all tests share: one thread, a few rendered clips, a small untrained model."""

from __future__ import annotations

import os
import signal
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from zoo.catalog.model_folder import save_model
from zoo.data.clip_reader import ClipReader
from zoo.data.manifest import Manifest
from zoo.models.model import Model
from zoo.registry.manager import registry
from zoo.training.job import Job, run_job
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would the programs that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own catalog and plugins out of the tests, and the tests out of them."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("ZOO_PLUGINS", raising=False)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Six sparse clips of 9 s, 64 pixels wide."""
    from plugins.synthetic.clip_folder import render_folder
    from plugins.synthetic.config import SyntheticConfig

    folder = tmp_path_factory.mktemp("clips") / "sparse"
    shares = {"train": 0.5, "valid": 0.25, "test": 0.25}
    return render_folder(folder, SyntheticConfig(seed=11), 6, shares, workers=1)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """The tiny preset with the correlation head."""
    return build_recipe(extractor="ast_motionformer", head="correlation", preset="tiny")


@pytest.fixture(scope="session")
def model(recipe: Recipe) -> Model:
    """A small untrained model; do not change it."""
    torch.manual_seed(0)
    return Model(recipe.model).eval()


@pytest.fixture(scope="session")
def model_folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a folder; do not change it."""
    folder = tmp_path_factory.mktemp("models") / "untrained"
    save_model(folder, model, scores={"nothing": {"accuracy": 0.05}})
    return folder


@pytest.fixture(scope="session")
def reader(model: Model) -> ClipReader:
    """Reads clips as the small model wants them."""
    return ClipReader(model.vision_frontend, model.audio_frontend)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let ``zoo train`` run its job in this process, without the 20 s that Ray takes to start."""
    from orchestration import driver
    from zoo.training.engine import LocalEngine

    def fit(job: Job, _resources: object, refresh: Callable[[], None]) -> None:
        run_job(LocalEngine(tmp_path_factory.mktemp("checkpoints")), job)
        refresh()

    monkeypatch.setattr(driver, "connected", lambda _resources: nullcontext())
    monkeypatch.setattr(driver, "fit", fit)


@pytest.fixture(autouse=True)
def _fresh_registry() -> None:
    """Forget the plugins that another test brought."""
    if len(registry().failures):
        registry.cache_clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With ``-v``, show how far this project is from the arrays of the published code."""
    golden = sys.modules.get("golden")
    if golden is None or not golden.DIFFERENCES or terminalreporter.verbosity < 1:
        return
    terminalreporter.section("largest absolute differences from the published code")
    for name, (difference, tolerance) in sorted(golden.DIFFERENCES.items()):
        terminalreporter.write_line(f"{name:42} {difference:8.1e}  (tolerance {tolerance:g})")
