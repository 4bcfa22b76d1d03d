"""Evaluating a model on a manifest: the whole report."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model, read_description
from zoo.contracts import LogMel
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Clip, Manifest
from zoo.data.samples import SampleSource
from zoo.data.store import FeatureStore, store_config
from zoo.data.store_build import build_store
from zoo.errors import ConfigError, option
from zoo.evaluation.evaluation_request import Request, check_columns, choose_features, choose_task
from zoo.evaluation.members import Member, member_of, reader_of
from zoo.evaluation.protocol import Protocol, find_protocol
from zoo.evaluation.retrieval import evaluate_retrieval
from zoo.evaluation.rounds import Outcome, Progress, average_readings, run_rounds
from zoo.evaluation.sample_sources import (
    FixedSamples,
    PublishedSamples,
    RandomSamples,
    Samples,
    ViewSamples,
)
from zoo.evaluation.scoring import score_task
from zoo.evaluation.sync_bench import evaluate_pairs
from zoo.evaluation.views import Evaluation, TaskView
from zoo.models.device import find_device
from zoo.models.model import Model
from zoo.models.task import Task
from zoo.timeline import SegmentLayout

WITHOUT_SAMPLES = {"retrieval": evaluate_retrieval, "av-syncbench": evaluate_pairs}
"""Protocols that do not sample a task's questions."""


def evaluate_manifest(request: Request, progress: Progress | None = None) -> dict[str, Any]:
    """Evaluate a model on a split of a manifest and return the report; see `evaluate`."""
    return evaluate(request, progress).report


def evaluate(request: Request, progress: Progress | None = None) -> Evaluation:
    """Evaluate a model on a split of a manifest.

    Args:
        request: what and how.
        progress: is told what is done and what there is in all.

    Raises:
        ZooError: if the model, the manifest or the list of offsets cannot be used, or the options
            contradict each other.
    """
    protocol = find_protocol(request.protocol)
    if request.subset is not None and protocol.needs_head:
        raise ConfigError(f"{option('subset')} is for {option('protocol')} retrieval")
    if request.protocol in WITHOUT_SAMPLES:
        return WITHOUT_SAMPLES[request.protocol](request, protocol, progress)
    is_fixed = protocol.is_fixed or request.offsets is not None
    device = find_device(request.device)
    folder = resolve(request.model)
    model = load_model(folder).to(device)
    named = request.synchronizability
    second = None if named is None else load_model(resolve(named)).to(device)
    features = choose_features(request, [m for m in (model, second) if m is not None], is_fixed)
    task = choose_task(request, model, second, is_fixed)
    split = request.split or protocol.split
    rounds = request.rounds or (1 if is_fixed or request.views > 1 else protocol.rounds)
    manifest = Manifest.read(request.data)
    clips = list(manifest.select(split).clips)
    check_columns(task, clips, split)
    members = _members(request, model, second)
    with tempfile.TemporaryDirectory() as temporary:
        if features == "store":
            _build_stores(Path(temporary), clips, members, progress)
        source = _open_samples(request, protocol, clips, members, task, is_fixed)
        passes, controls = rounds * request.frames * request.views, request.with_controls
        outcome = run_rounds(source, passes, *members, with_controls=controls, progress=progress)
        if request.frames > 1:
            outcome = average_readings(outcome, request.frames, task.average)
        if request.views > 1:  # their outputs, not what they mean
            outcome = average_readings(outcome, request.views, lambda outputs: outputs.mean(0))
        scores = _score(task, outcome, source, request.seed, is_joint=second is not None)
    facts = {
        **_settings(request, is_fixed),
        "task": task.spec.name,
        "features": features,
        "split": split,
        "rounds": rounds,
        "frames": request.frames,
        "views": request.views,
        "model_sha256": read_description(folder).get("sha256"),
        "manifest_sha256": manifest.sha256,
        **_grid_of(model),
        "num_clips": len(set(outcome.clips.tolist())),
        "num_clips_of_split": len(clips),
        "notes": _notes(request, model, clips),
    }
    left_out = {str(clips[i].path): why for i, why in sorted(source.left_out.items())}
    return Evaluation({**facts, **scores, "left_out": left_out}, TaskView(task))


def _settings(request: Request, is_fixed: bool) -> dict[str, Any]:
    return {
        "model": request.model,
        "protocol": "fixed" if is_fixed and request.protocol == "random" else request.protocol,
        "reading": "published" if request.as_published else "default",
        "audio_shift_s": request.audio_shift_s,
        "is_fixed": is_fixed,
        "offsets": request.offsets_name if is_fixed else None,
        "offsets_sha256": request.offsets_sha256,
        "seed": request.seed,
        "trust": request.synchronizability,
    }


def _grid_of(model: Model) -> dict[str, Any]:
    grid = None if model.task is None else model.task.grid
    return {} if grid is None else {"offset_classes_s": list(grid.offsets_s)}


def _notes(request: Request, model: Model, clips: list[Clip]) -> list[str]:
    """Say what may make numbers differ from those one expects."""
    side = model.vision_frontend.short_side
    others = sum(min(clip.width, clip.height) != side for clip in clips)
    if not request.as_published or not others:
        return []
    return [
        f"{others} of {len(clips)} clips have another short side than the {side} pixels the model "
        "was trained on, and the published code does not resize"
    ]


def _members(request: Request, model: Model, second: Model | None) -> list[Member]:
    members = [member_of(model, is_half=request.as_published)]
    if second is not None:
        members.append(member_of(second, is_half=request.as_published))
        members[1].is_twin = model.has_same_encoder(second)
    return members


def _build_stores(
    folder: Path, clips: list[Clip], members: list[Member], progress: Progress | None
) -> None:
    """Encode all clips for every model, once where they share their encoder."""
    for number, member in enumerate(members):
        if member.is_twin:
            member.store = members[0].store
        else:
            member.store = build_store_of(folder / str(number), clips, member.model, progress)


def build_store_of(
    folder: Path, clips: list[Clip], model: Model, progress: Progress | None
) -> FeatureStore:
    """Encode all clips for a model that reads each modality by itself."""
    config = store_config(model, "float16")
    for done in build_store(folder, model, reader_of(model), clips, config, model.device):
        if progress is not None:
            progress(done, len(clips))
    return FeatureStore(folder, clips, config)


def _open_samples(
    request: Request,
    protocol: Protocol,
    clips: list[Clip],
    members: list[Member],
    task: Task,
    is_fixed: bool,
) -> Samples:
    model = members[0].model
    layout = _layout_of_samples(request, members, task)
    fixed, left_out = request.find_fixed(clips) if is_fixed else (None, {})
    if request.as_published:
        if not isinstance(model.audio_frontend, LogMel):
            raise ConfigError(
                f"{option('as_published')} repeats how Synchformer reads clips, and "
                f"'{request.model}' takes another spectrogram",
                "leave it out",
            )
        return PublishedSamples(
            clips,
            layout,
            task,
            model.vision_frontend,
            model.audio_frontend,
            request.seed,
            fixed,
            protocol.end_s,
            request.audio_shift_s,
            left_out,
        )
    reader = reader_of(model)
    if fixed is not None:
        assert task.grid is not None
        return FixedSamples(clips, reader, layout, task.grid, fixed, left_out)
    split, store = request.split or protocol.split, members[0].store
    samples = SampleSource(ClipSource(clips, reader), layout, task, request.seed, split, store)
    if request.views > 1:
        return ViewSamples(samples, request.views)
    return RandomSamples(samples, request.frames)


def _layout_of_samples(request: Request, members: list[Member], task: Task) -> SegmentLayout:
    """Return the layout of the crops: the longer of two models', or what was published."""
    num = max(member.num_segments for member in members)
    if request.as_published and len(members) == 1:
        num += task.published_extra_segments
    return members[0].model.config.layout.model_copy(update={"num_segments": num})


def _score(
    task: Task, outcome: Outcome, source: Samples, seed: int, *, is_joint: bool
) -> dict[str, Any]:
    if is_joint:
        return task.report(outcome, source, seed)
    return score_task(task, outcome, source, seed)
