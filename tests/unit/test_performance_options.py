"""Settings that make training cheaper: bf16, gradient checkpointing, torch.compile."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zoo.data.manifest import Manifest
from zoo.errors import TrainingError
from zoo.models.model import Model
from zoo.training.compiling import compile_extractors
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.overrides import override
from zoo.training.recipe import Recipe
from zoo.training.runlog import read_metrics

SMALL = (
    "stage1.steps=4 stage1.clips=2 stage1.num_segments=6 stage1.log_every=1 stage1.valid_clips=2 "
    "stage1.checkpoint_every=2 stage2.steps=4 stage2.batch=2 stage2.log_every=1 "
    "stage2.valid_every=4 stage2.valid_rounds=1 stage2.checkpoint_every=2 data.features=online"
)


class StopsOnce(LocalEngine):
    """Breaks off after the first checkpoint."""

    def report(self, metrics, checkpoint) -> None:
        super().report(metrics, checkpoint)
        if len(self.reports) == 1:
            raise KeyboardInterrupt


def train(
    recipe: Recipe, clips: Manifest, run: Path, *settings: str, stages: tuple[int, ...] = (1, 2)
) -> list[float]:
    """Train in this process and return the losses of all steps."""
    run.mkdir()
    chosen = override(recipe, [*SMALL.split(), *settings])
    job = Job(chosen, clips.folder / "manifest.parquet", run, stages)
    run_job(LocalEngine(run / "checkpoints"), job)
    return losses(run)


def losses(run: Path) -> list[float]:
    return [r["loss"] for r in read_metrics(run) if r["kind"] == "train"]


@pytest.fixture(scope="module")
def plain(recipe: Recipe, clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return train(recipe, clips, tmp_path_factory.mktemp("options") / "plain")


def test_gradient_checkpointing_changes_no_loss(recipe, clips, plain, tmp_path) -> None:
    saved = train(recipe, clips, tmp_path / "run", "gradient_checkpointing=true")
    assert len(saved) == 8
    assert saved == pytest.approx(plain, abs=1e-5)


def test_losses_in_bf16_stay_within_2_percent(recipe, clips, plain, tmp_path) -> None:
    rough = train(recipe, clips, tmp_path / "run", "precision=bf16")
    assert rough != plain
    assert rough == pytest.approx(plain, rel=0.02)


def test_a_run_in_bf16_resumes_bit_for_bit(recipe, clips, tmp_path) -> None:
    settings = ("precision=bf16", "gradient_checkpointing=true")
    train(recipe, clips, tmp_path / "whole", *settings)
    run = tmp_path / "broken"
    run.mkdir()
    chosen = override(recipe, [*SMALL.split(), *settings])
    job = Job(chosen, clips.folder / "manifest.parquet", run, (1, 2))
    with pytest.raises(KeyboardInterrupt):
        run_job(StopsOnce(run / "checkpoints"), job)
    run_job(LocalEngine(run / "checkpoints"), job)
    whole, broken = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_without_a_compiler_compiling_is_refused_in_one_sentence(recipe, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    model = Model(recipe.model)
    with pytest.raises(TrainingError, match=r"compile=true needs a C\+\+ compiler.*no-such"):
        compile_extractors(model)


# In a process of its own: the checks of shapes that tests run under cannot be compiled.
COMPILED_RUN = """
import sys
from pathlib import Path
from zoo.training.engine import LocalEngine
from zoo.training.recipe import read_recipe
from zoo.training.job import Job, run_job
recipe, manifest, run = (Path(name) for name in sys.argv[1:])
run_job(LocalEngine(run / "checkpoints"), Job(read_recipe(recipe), manifest, run, (1, 2)))
"""


@pytest.mark.slow
def test_compiled_extractors_learn_the_same_under_the_same_names(
    recipe, clips, plain, tmp_path
) -> None:
    chosen = override(recipe, [*SMALL.split(), "compile=true"])
    file, run = tmp_path / "recipe.json", tmp_path / "run"
    file.write_text(chosen.model_dump_json())
    run.mkdir()
    command = [sys.executable, "-c", COMPILED_RUN, file, clips.folder / "manifest.parquet", run]
    subprocess.run(command, check=True)
    assert losses(run) == pytest.approx(plain, abs=1e-3)
    names = load_file(run / "model.safetensors").keys()
    assert names == Model(recipe.model).state_dict().keys()


FAULTS = """
import resource, torch
from zoo.models.device import keep_memory
keep_memory()
for _ in range(3):  # they may take two places, each of which is fetched once
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc here")
def test_memory_that_is_kept_is_not_fetched_anew() -> None:
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pages_of_one = (64 << 20) // 4096
    assert int(done.stdout) < 2 * pages_of_one  # otherwise those of all ten
