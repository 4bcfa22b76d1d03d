"""Evaluating a model on a manifest: the whole report."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model, read_description
from zoo.contracts import LogMel, Task
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Clip, Manifest
from zoo.data.samples import SampleSource
from zoo.data.store import FeatureStore, store_config
from zoo.data.store_build import build_store
from zoo.errors import ConfigError
from zoo.evaluation.evaluation_request import Request, check_task, choose_features
from zoo.evaluation.protocol import Protocol, find_protocol
from zoo.evaluation.rounds import Member, Outcome, Progress, run_rounds
from zoo.evaluation.sample_sources import Draws, FixedDraws, PublishedDraws, RandomDraws
from zoo.evaluation.scoring import (
    control_scores,
    offset_scores,
    synchronizability_scores,
    tiers,
)
from zoo.evaluation.sliding import sliding_check
from zoo.models.device import find_device
from zoo.models.model import Model
from zoo.timeline import SegmentLayout


def evaluate_manifest(request: Request, progress: Progress | None = None) -> dict[str, Any]:
    """Evaluate a model on a split of a manifest.

    Args:
        request: what and how.
        progress: is told what is done and what there is in all.

    Returns:
        Scores, counts, the clips left out with the reason for each, and all that it takes to do
        the same again.

    Raises:
        ZooError: if the model, the manifest or the list of offsets cannot be used, or the options
            contradict each other.
    """
    protocol = find_protocol(request.protocol)
    is_fixed = protocol.is_fixed or request.offsets is not None
    device = find_device(request.device)
    folder = resolve(request.model)
    model = load_model(folder).to(device)
    features = choose_features(request, model, is_fixed)
    if model.head is None:
        raise ConfigError(f"'{request.model}' has no head yet: train stage 2 before evaluating")
    trusted = None if request.trust is None else load_model(resolve(request.trust)).to(device)
    task = check_task(request, model, trusted, is_fixed)
    split = request.split or protocol.split
    rounds = request.rounds or (1 if is_fixed else protocol.rounds)
    manifest = Manifest.read(request.data)
    clips = list(manifest.select(split).clips)
    with tempfile.TemporaryDirectory() as temporary:
        member = Member(model, is_half=request.as_published)
        judge = None
        if trusted is not None:
            is_twin = model.has_same_towers(trusted)
            judge = Member(trusted, is_half=request.as_published, is_twin=is_twin)
        if features == "store":
            _build_stores(Path(temporary), clips, member, judge, progress)
        source = _open_draws(request, protocol, clips, member, judge, task, is_fixed)
        outcome = run_rounds(
            source,
            rounds,
            member,
            judge,
            with_controls=request.with_controls,
            progress=progress,
        )
        scores = _score(request, outcome, source, model, task)
        if member.store is not None and task == "offset":
            scores["sliding"] = sliding_check(model, member.store)
    facts = {
        **_settings(request, is_fixed),
        "task": task,
        "features": features,
        "split": split,
        "rounds": rounds,
        "model_sha256": read_description(folder).get("sha256"),
        "manifest_sha256": manifest.sha256,
        "offset_classes_s": list(model.config.grid.offsets_s),
        "num_clips": len(set(outcome.clips.tolist())),
        "num_clips_of_split": len(clips),
        "notes": _notes(request, model, clips),
    }
    left_out = {str(clips[i].path): why for i, why in sorted(source.left_out.items())}
    return {**facts, **scores, "left_out": left_out}


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
        "trust": request.trust,
    }


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


def _build_stores(
    folder: Path,
    clips: list[Clip],
    member: Member,
    judge: Member | None,
    progress: Progress | None,
) -> None:
    """Encode all clips for both models, once where they share their towers."""
    member.store = _build_store(folder / "model", clips, member.model, progress)
    if judge is None:
        return
    if judge.is_twin:
        judge.store = member.store
    else:
        judge.store = _build_store(folder / "trust", clips, judge.model, progress)


def _build_store(
    folder: Path, clips: list[Clip], model: Model, progress: Progress | None
) -> FeatureStore:
    reader = ClipReader(model.vision_frontend, model.audio_frontend)
    config = store_config(model, "float16")
    for done in build_store(folder, model, reader, clips, config, model.device):
        if progress is not None:
            progress(done, len(clips))
    return FeatureStore(folder, clips, config)


def _open_draws(
    request: Request,
    protocol: Protocol,
    clips: list[Clip],
    member: Member,
    judge: Member | None,
    task: Task,
    is_fixed: bool,
) -> Draws:
    config = member.model.config
    vision, audio = member.model.vision_frontend, member.model.audio_frontend
    layout = _layout_of_draws(request, config.layout, judge, task)
    fixed, left_out = request.find_fixed(clips) if is_fixed else (None, {})
    if request.as_published:
        if not isinstance(audio, LogMel):
            raise ConfigError(
                f"--as-published repeats how Synchformer reads clips, and '{request.model}' takes "
                "another spectrogram: leave it out"
            )
        return PublishedDraws(
            clips,
            layout,
            config.grid,
            vision,
            audio,
            task,
            request.seed,
            fixed,
            protocol.end_s,
            request.audio_shift_s,
            left_out,
        )
    reader = ClipReader(vision, audio)
    if fixed is not None:
        return FixedDraws(clips, reader, layout, config.grid, fixed, left_out)
    split = request.split or protocol.split
    source = ClipSource(clips, reader)
    return RandomDraws(
        SampleSource(source, layout, config.grid, request.seed, split, member.store, task)
    )


def _layout_of_draws(
    request: Request, own: SegmentLayout, judge: Member | None, task: Task
) -> SegmentLayout:
    """Return the layout of the crops: the longer of two models'.

    As published, a synchronizability model sees the first 13 of 14 segments.
    """
    num = own.num_segments
    if judge is not None:
        num = max(num, judge.model.config.layout.num_segments)
    elif request.as_published and task == "synchronizability":
        num += 1
    return own.model_copy(update={"num_segments": num})


def _score(
    request: Request, outcome: Outcome, source: Draws, model: Model, task: Task
) -> dict[str, Any]:
    grid, seed = model.config.grid, request.seed
    if task == "offset":
        return offset_scores(outcome, source, grid, seed)
    kinds = set(outcome.targets.tolist())
    if len(kinds) < 2:
        raise ConfigError(
            f"every one of the {len(outcome.draws)} draws {'can' if 1 in kinds else 'cannot'} be "
            "synchronized, so there is nothing to tell apart: ask for more --rounds"
        )
    if not outcome.trust:
        logits = torch.cat(outcome.logits[""])
        scores = synchronizability_scores(logits, outcome, seed)
        return {**scores, "controls": control_scores(outcome)}
    judged = torch.cat(outcome.trust)
    return {
        **offset_scores(outcome.synchronizable(grid), source, grid, seed),
        "synchronizability": synchronizability_scores(judged, outcome, seed),
        "tiers": tiers(torch.cat(outcome.logits[""]), judged, outcome, grid, seed),
    }
