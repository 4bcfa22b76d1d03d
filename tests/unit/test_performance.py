"""What is measured against each other computes the same."""

import argparse
import importlib
import json
import sys

import pytest
import torch

from benchmarks import extractor, pretraining, whole_clips
from benchmarks.common import tables
from benchmarks.extractor import gpu_hours
from benchmarks.reference.extracted import extract, read_frame, read_spectrogram
from benchmarks.reference.model import reference_encoders
from benchmarks.reference.reader import read_sample
from plugins.cavmae.config import CavMaeConfig
from zoo.contracts import Frames, LogMel
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import read_segments
from zoo.data.manifest import Manifest
from zoo.media import probe
from zoo.models.model import Model
from zoo.timeline import Sample
from zoo.training.recipe_builder import build_recipe

TINY = build_recipe(extractor="ast_motionformer", preset="tiny").model
NARROW = " ".join(
    f"{part}={value}"
    for part, value in {
        "encoder.width": 16,
        "encoder.heads": 2,
        "encoder.depth": 1,
        "objective.decoder_width": 16,
        "objective.decoder_heads": 2,
        "objective.decoder_depth": 1,
    }.items()
)
TINY_FRAMES = Frames(size=48, short_side=64)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(TINY).eval()


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_the_reference_gives_the_same_tokens_and_gradients(model: Model, modality: str) -> None:
    ours = getattr(model.encoder, modality)
    theirs = dict(zip(("audio", "vision"), reference_encoders(model), strict=True))[modality]
    segments = torch.randn(3, *ours.frontend.segment_shape(ours.segment_s))
    gradients = []
    tokens = []
    for encoder in (ours, theirs):
        model.zero_grad()
        tokens.append(encoder(segments))
        tokens[-1].square().sum().backward()
        gradients.append({n: p.grad for n, p in ours.named_parameters() if p.grad is not None})
    assert torch.allclose(*tokens, atol=1e-4)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        scale = gradient.abs().max()
        assert torch.allclose(gradient, gradients[1][name], atol=1e-4 * float(scale) + 1e-6), name


@pytest.mark.parametrize("name", ["cavmae", "avsiam"])
def test_the_published_pretraining_gives_the_same_gradients(name: str) -> None:
    options = argparse.Namespace(clips=5, set=NARROW.split())
    setting = pretraining.prepare(name, options)  # refuses losses that differ
    losses = pretraining.LOSSES[name](setting)
    gradients = []
    for computed in ([setting.loss], losses):
        setting.trained.zero_grad()
        torch.manual_seed(1)
        sum(loss() for loss in computed).backward()
        named = setting.trained.named_parameters()
        gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        scale = float(gradient.abs().max())
        assert torch.allclose(gradient, gradients[1][key], atol=1e-4 * scale + 1e-7), key


def test_the_extracted_files_hold_what_the_clip_does(clips: Manifest, tmp_path) -> None:
    path, io = clips.clips[0].path, CavMaeConfig().io()
    reader = ClipReader(io.vision.frontend, io.audio.frontend, io=io)
    audio, vision = whole_clips.read(reader, io, path, 2)
    folder = extract(path, tmp_path, reader.vision.size, reader.audio.sample_rate_hz)
    theirs = read_frame(folder, 2, reader.vision)
    assert (vision[0, :, 0] - theirs).abs().mean() < 0.1  # JPEG
    spectrogram = read_spectrogram(folder, reader.audio, io.audio.segment_s)
    heard = int(probe(path).common_s / reader.audio.hop_s) - 3
    assert (audio[0].T - spectrogram)[:heard].abs().median() < 0.01


def test_plain_bf16_attention_on_a_cpu_stays_near_fp32(model: Model) -> None:
    encoder = model.separable.vision
    segments = torch.randn(2, *model.io.vision.segment_shape)
    with torch.no_grad():
        exact = encoder(segments)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = encoder(segments).float()
    assert torch.allclose(exact, rough, atol=0.05 * float(exact.abs().max()))


def test_the_reference_reads_the_same_sample(clips: Manifest) -> None:
    clip, recipe = clips.clips[0], build_recipe(extractor="ast_motionformer", preset="tiny")
    reader = ClipReader(TINY_FRAMES, LogMel())
    sample = Sample(clip=0, vision_start_s=1.28, audio_start_s=2.08, target=14)
    layout = recipe.model.layout
    ours = read_segments(reader, clip, sample, layout)
    theirs = read_sample(clip.path, sample, layout, TINY_FRAMES, LogMel())
    assert torch.allclose(theirs[0], ours.audio[0], atol=1e-4)
    assert torch.allclose(theirs[1], ours.vision[0], atol=1e-5)


@pytest.mark.parametrize(
    "script",
    [
        "extractor",
        pytest.param("loader", marks=pytest.mark.slow),
        pytest.param("stages", marks=pytest.mark.slow),
        pytest.param("growth", marks=pytest.mark.slow),
        pytest.param("ingest", marks=pytest.mark.slow),
        "projection",
        "evidence",
        pytest.param("pretraining", marks=pytest.mark.slow),
        pytest.param("whole_clips", marks=pytest.mark.slow),
        pytest.param("many_clips", marks=pytest.mark.slow),
    ],
)
def test_a_benchmark_runs_and_leaves_its_result(script, tmp_path, monkeypatch) -> None:
    small = {
        "extractor": "--presets tiny --segments 2 --device cpu --compile",
        "loader": "--clips 1",
        "stages": "--clips 1 --batch 2",
        "growth": "--no-paper --lengths 10 --no-workers",
        "ingest": "--clips 1 --items 5",
        "projection": "",
        "evidence": "--models tiny-synthetic --clips 2 --masks 50",
        "pretraining": f"--clips 2 --set {NARROW}",
        "whole_clips": "--clips 1 --real nowhere --sizes 320x240",
        "many_clips": "--clips 40 --settled 20",
    }[script]
    out = tmp_path / f"{script}.json"
    module = importlib.import_module(f"benchmarks.{script}")
    monkeypatch.setattr(module, "CEILING_SIDE", {"cpu": 64}, raising=False)
    monkeypatch.setattr(sys, "argv", [script, *small.split(), "--rounds", "1", "--out", str(out)])
    module.main()
    result = json.loads(out.read_text())
    assert {"processor", "load", "torch", "date"} <= result["machine"].keys()
    assert script not in tables.SECTIONS or tables.SECTIONS[script](result)


def test_what_is_measured_on_a_gpu_alone_runs_on_a_cpu_too(monkeypatch) -> None:
    taken = iter([9e9, 5e9])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(taken))
    cpu, recipe = torch.device("cpu"), build_recipe(extractor="ast_motionformer", preset="tiny")
    model = Model(recipe.model)
    rates = {work: {"segments_per_s": {"bf16": 100.0}} for work in ("forward", "training")}
    inputs = extractor._inputs(model, 2, cpu)
    row = {"preset": "tiny", **extractor._on_gpu(model, recipe, inputs, cpu, rates)}
    assert row["peak_training_bytes"] == {"plain": 9e9, "checkpointed": 5e9}
    assert model.encoder.vision.extractor.gradient_checkpointing
    assert "9.0 GB, with gradient checkpointing 5.0 GB" in tables._gpu(row)


def test_hours_follow_from_the_rates() -> None:
    hours = gpu_hours({"forward": 1000.0, "training": 100.0})
    assert hours["stage1"] == pytest.approx(186_000 * 20 * 14 / 100 / 3600, rel=1e-3)
    assert hours["stage2_online"] == pytest.approx(186_000 * 326 * 14 / 1000 / 3600, rel=1e-3)
    assert hours["stage2_store_at_most"] < hours["stage2_online"] / 10


def test_tables_are_put_between_their_markers(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- loader -->\nold\n<!-- /loader -->\nafter\n")
    tables.insert(page, "loader", "new")
    assert page.read_text() == "before\n<!-- loader -->\nnew\n<!-- /loader -->\nafter\n"


def test_the_page_has_a_place_for_every_table() -> None:
    page = tables.PAGE.read_text()
    for name in tables.SECTIONS:
        assert f"<!-- {name} -->" in page
        assert f"<!-- /{name} -->" in page
