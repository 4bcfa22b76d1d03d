"""What only a GPU shows: the numbers of a processor, steps in bf16, runs that resume there."""

from pathlib import Path

import pytest
import torch
from early_stop import StopsEarly
from safetensors.torch import load_file

from zoo.data.manifest import Manifest
from zoo.errors import ConfigError
from zoo.inference.load import load_offsets
from zoo.models.device import autocast
from zoo.models.segments import Segments
from zoo.registry.manager import registry
from zoo.testing.fakes import encoder_config, fake_clip_segments, tiny_encoder
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.overrides import override
from zoo.training.recipe import Recipe

GPU = torch.device("cuda")
SMALL = (
    "precision=bf16 stage1.steps=4 stage1.clips=2 stage1.num_segments=8 stage1.checkpoint_every=2 "
    "stage2.steps=6 stage2.batch=4 stage2.checkpoint_every=3 stage2.valid_every=3 "
    "stage2.valid_rounds=1"
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


@pytest.fixture(autouse=True)
def _plain_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def on_gpu(segments: Segments) -> Segments:
    return Segments(segments.audio.to(GPU), segments.vision.to(GPU))


@pytest.mark.parametrize("name", registry().encoders)
def test_an_encoder_gives_the_tokens_that_it_gives_on_a_cpu(name: str) -> None:
    torch.manual_seed(0)
    spec = registry().encoders[name]
    encoder = tiny_encoder(spec).eval()
    segments = fake_clip_segments(encoder.io, 2, encoder_config(spec).layout.num_segments)
    with torch.no_grad():
        expected = encoder.encode(segments)
        found = encoder.to(GPU).encode(on_gpu(segments))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.values.cpu(), theirs.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", registry().objectives)
def test_an_objective_takes_a_step_in_bf16(name: str) -> None:
    torch.manual_seed(0)
    spec = registry().objective(name)
    for encoder_spec in registry().encoders.values():
        encoder = tiny_encoder(encoder_spec).to(GPU)
        segments = on_gpu(fake_clip_segments(encoder.io, 3, 2))
        losses = []
        try:
            objective = spec.build(spec.presets["tiny"], encoder).to(GPU)
            for precision in ("fp32", "bf16"):
                torch.manual_seed(1)
                with autocast(GPU, precision):
                    losses.append(objective(encoder, segments, lambda tensor: tensor)["loss"])
                losses[-1].backward()
        except ConfigError:  # not an encoder for this objective
            continue
        assert torch.allclose(*losses, rtol=0.05), encoder_spec.name
        gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
        assert gradients, encoder_spec.name
        assert all(bool(g.isfinite().all()) for g in gradients), encoder_spec.name


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    clips: Manifest, recipe: Recipe, tmp_path: Path
) -> None:
    small, data = override(recipe, SMALL.split()), clips.folder / "manifest.parquet"
    outcomes = []
    for name, stops in (("whole", ()), ("again", ()), ("broken", (1, 1))):
        job = Job(small, data, tmp_path / name, (1, 2))
        job.run.mkdir()
        for num in stops:
            engine = StopsEarly(tmp_path / f"{name}-checkpoints", num)
            engine.device = GPU
            with pytest.raises(KeyboardInterrupt):
                run_job(engine, job)
        engine = LocalEngine(tmp_path / f"{name}-checkpoints")
        engine.device = GPU
        run_job(engine, job)
        outcomes.append(load_file(job.run / "model.safetensors"))
    whole, again, broken = outcomes
    repeats = max(float((whole[key] - again[key]).abs().max()) for key in whole)
    resumes = max(float((whole[key] - broken[key]).abs().max()) for key in whole)
    assert resumes <= max(1e-6, 2 * repeats), f"repeated {repeats}, resumed {resumes}"


@pytest.mark.parametrize("name", ["tiny-synthetic", "tiny-synthetic-sync"])
def test_a_prediction_is_that_of_a_cpu(name: str, clips: Manifest) -> None:
    path = clips.clips[0].path
    here, there = (load_offsets(name, device).predict(path) for device in ("cpu", "cuda"))
    assert here.offset_s == there.offset_s
    assert here.confidence == pytest.approx(there.confidence, abs=1e-3)
