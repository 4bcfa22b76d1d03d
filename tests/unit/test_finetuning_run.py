"""Runs with everything that CAV-MAE, AVSiam and MBT fine-tune with, and averages of readings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from early_stop import StopsEarly
from safetensors.torch import load_file

from plugins.classification import ClassificationConfig
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.catalog.model_folder import save_model
from zoo.data import samples
from zoo.data.augment import Augment, Softening
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource, Cut, move_sample, read_segments
from zoo.data.manifest import Clip, Manifest
from zoo.data.samples import SampleSource
from zoo.errors import ConfigError
from zoo.evaluation import sample_sources
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.report import evaluate_manifest
from zoo.models.config import Component
from zoo.models.model import Model, build_task
from zoo.models.segments import Segments
from zoo.registry.manager import registry
from zoo.timeline import Sample, SegmentLayout
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.recipe_builder import build_recipe

SHORT = (
    "layout.segment_s=4.8 layout.step_s=4.8 layout.num_segments=1 encoder.audio_s=4.8 "
    "encoder.vision_change_gain=null "
    "data.features=online stage2.encoder=trained stage2.steps=8 stage2.batch=4 "
    "stage2.checkpoint_every=2 stage2.log_every=1 stage2.valid_every=3 stage2.valid_rounds=1 "
)
WHOLE = SHORT + (
    "encoder.vision_s=0.08 encoder.depth=1 "
    "stage2.optimizer=adam stage2.schedule=step "
    "stage2.noise=0.1 stage2.roll=1 stage2.mask_bins=48 stage2.mask_frames=90 "
    "stage2.frame_choices=10 stage2.mixup=0.5 stage2.label_smoothing=0.1 stage2.balanced=true "
    "stage2.average_from=3 stage2.average_every=2"
)
MBT = SHORT + (
    "encoder.vision_s=0.32 encoder.depth=2 encoder.fusion_layer=1 encoder.stochastic_depth=0.3 "
    "stage2.optimizer=sgd stage2.lr=0.05 stage2.warmup_steps=2 stage2.warmup_from=zero "
    "stage2.layer_decay=0.75 stage2.roll=1 stage2.mask_bins=36 stage2.mask_bins_times=2 "
    "stage2.mask_fill=zero stage2.scale_jitter=[0.9,1.33] stage2.colour_jitter=0.8 "
    "stage2.grey=0.1 stage2.mixup=1 stage2.mixup_by=batch stage2.mixup_alpha=0.5 "
    "stage2.mixup_frames=own stage2.label_smoothing=0.3 stage2.sampling=wrapped"
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Sixteen labelled clips of 5 s."""
    folder = tmp_path_factory.mktemp("labelled") / "clips"
    shares = {"train": 0.5, "valid": 0.25, "test": 0.25}
    config = SyntheticConfig(kind="labelled", seed=5, seconds=5.0)
    return render_folder(folder, config, 16, shares, workers=1)


@pytest.mark.parametrize(
    ("extractor", "head", "settings"),
    [("cavmae", "linear", WHOLE), ("mbt", "linear_shared", MBT)],
    ids=["cavmae", "mbt"],
)
def test_a_run_with_all_of_it_may_stop_at_any_checkpoint(
    labelled: Manifest, tmp_path: Path, extractor: str, head: str, settings: str
) -> None:
    full = build_recipe(
        extractor=extractor,
        task="classification",
        head=head,
        preset="tiny",
        overrides=[*settings.split(), "stage2.rates={head: 10}"],
    )
    data = labelled.folder / "manifest.parquet"
    names = full.task.fit(full.model.task_config(), labelled.select("train").clips)  # type: ignore[misc]
    task = Component.of(full.task, names)
    full = full.model_copy(update={"model": full.model.model_copy(update={"task": task})})
    outcomes = []
    for name, stops in (("whole", 0), ("broken", 2)):
        job = Job(full, data, tmp_path / name, (2,))
        job.run.mkdir()
        for _ in range(stops):
            with pytest.raises(KeyboardInterrupt):
                run_job(StopsEarly(tmp_path / f"{name}-checkpoints"), job)
        run_job(LocalEngine(tmp_path / f"{name}-checkpoints"), job)
        outcomes.append(load_file(job.run / "model.safetensors"))
    assert all(torch.equal(value, outcomes[1][name]) for name, value in outcomes[0].items())


def test_frames_of_a_clip_are_taken_at_ten_times(labelled: Manifest) -> None:
    layout = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)
    io = build_recipe(extractor="cavmae", preset="paper").model.encoder_config().io()
    reader = ClipReader(io.vision.frontend, io.audio.frontend, io=io)  # type: ignore[arg-type]
    clip = Sample(0, 0.0, 0.0, 0)
    rng, augment = np.random.default_rng(0), Augment(frame_choices=10)
    starts = [
        move_sample(clip, reader, layout, 8.0, augment, rng, choice).vision_start_s + 5.08
        for choice in range(10)
    ]
    assert starts == pytest.approx([0.8 * k for k in range(10)], abs=0.021)
    drawn = {move_sample(clip, reader, layout, 8.0, augment, rng).vision_start_s for _ in range(99)}
    assert len(drawn) == 10
    assert move_sample(clip, reader, layout, 8.0, Augment(), rng) == clip


@pytest.fixture
def names_classes(labelled: Manifest, tmp_path: Path) -> Path:
    """An untrained model that names the classes of the clips."""
    settings = [*WHOLE.split(), "task.classes=[a,b,c,d,e,f,g,h]"]
    found = build_recipe(
        extractor="cavmae", task="classification", preset="tiny", overrides=settings
    )
    classes = sorted({name for clip in labelled.clips for name in clip.all_labels})
    config = ClassificationConfig(classes=tuple(classes), multi_label=False)
    task = Component.of(registry().task("classification"), config)
    torch.manual_seed(0)
    save_model(tmp_path / "model", Model(found.model.model_copy(update={"task": task})))
    return tmp_path / "model"


def evaluated(model: Path, labelled: Manifest, **options: Any) -> dict[str, Any]:
    data = labelled.folder / "manifest.parquet"
    return evaluate_manifest(Request(model=str(model), data=data, split="valid", **options))


def test_an_evaluation_averages_over_frames(labelled: Manifest, names_classes: Path) -> None:
    reports = [evaluated(names_classes, labelled, rounds=1, frames=frames) for frames in (1, 5)]
    assert [report["frames"] for report in reports] == [1, 5]
    assert [report["pooled"]["num"] for report in reports] == [8, 8]
    assert reports[0]["pooled"]["cross_entropy"] != reports[1]["pooled"]["cross_entropy"]
    assert set(reports[1]["controls"]) == set(reports[0]["controls"])


def test_an_evaluation_averages_over_views(
    labelled: Manifest, names_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Audio and video go from the start of a clip to its end, each by itself."""
    seen: list[tuple[float, float]] = []

    def read(reader: ClipReader, clip: Clip, sample: Sample, layout: SegmentLayout) -> Segments:
        starts_s = [reader.read_part(m, layout).start_s for m in ("vision", "audio")]  # type: ignore[arg-type]
        seen.append((sample.vision_start_s + starts_s[0], sample.audio_start_s + starts_s[1]))
        return read_segments(reader, clip, sample, layout)

    monkeypatch.setattr(sample_sources, "read_segments", read)
    report = evaluated(names_classes, labelled, views=4)
    assert (report["views"], report["rounds"], report["pooled"]["num"]) == (4, 1, 8)
    assert len(seen) == 4 * 8
    times_s = sorted({round(start_s, 6) for start_s, _ in seen})
    assert times_s == pytest.approx([0, 1.64, 3.28, 4.92], abs=0.021)  # a frame of 5 s
    assert sorted({round(start_s, 6) for _, start_s in seen}) == pytest.approx(
        [0, 0.06, 0.13, 0.2], abs=1e-6
    )
    assert evaluated(names_classes, labelled, views=4, seed=7)["pooled"] == report["pooled"]


def test_views_are_refused_where_they_say_nothing(
    labelled: Manifest, names_classes: Path, model_folder: Path
) -> None:
    with pytest.raises(ConfigError, match="whose answer is the same all over a clip"):
        evaluated(model_folder, labelled, views=4)
    with pytest.raises(ConfigError, match="the same stretches of a clip in every round"):
        evaluated(names_classes, labelled, views=4, rounds=2)
    with pytest.raises(ConfigError, match="compares whole clips"):
        evaluated(names_classes, labelled, views=4, protocol="retrieval")


def test_frames_are_refused_where_video_is_as_long_as_audio(
    model_folder: Path, clips: Manifest
) -> None:
    data = clips.folder / "manifest.parquet"
    with pytest.raises(ConfigError, match="reads as much video as audio"):
        evaluate_manifest(Request(model=str(model_folder), data=data, frames=10))


def test_clips_beyond_the_share_are_not_mixed_in(
    labelled: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = list(labelled.select("train").clips)
    classes = tuple(sorted({name for clip in clips for name in clip.all_labels}))
    task = build_task(
        Component.of(registry().task("classification"), ClassificationConfig(classes=classes))
    )
    io = build_recipe(extractor="cavmae", preset="tiny").model.encoder_config().io()
    reader = ClipReader(io.vision.frontend, io.audio.frontend, io=io)  # type: ignore[arg-type]
    layout = SegmentLayout(num_segments=1, segment_s=0.64, step_s=0.64)
    source = SampleSource(ClipSource(clips, reader), layout, task, 1, "train", share=0.25)
    read = []

    def read_cut(reader: ClipReader, clip: Clip, *_: object) -> Cut:
        read.append(clips.index(clip))
        return Cut(np.zeros(10_240, np.float32), np.zeros((8, 48, 48, 3), np.uint8))

    monkeypatch.setattr(samples, "read_cut", read_cut)
    for step in range(20):
        source.item(source.usable[0], (2, step, 0), Augment(), Softening(mixup=1.0))
    assert len(source.usable) == 2
    assert set(read) == set(source.usable)
