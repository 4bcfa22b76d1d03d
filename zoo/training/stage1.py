"""Stage I: contrastive pre-training of both towers on segments (paper section 3.2)."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.data.clip_source import Augment, ClipSource
from zoo.data.frontend import cut_crops
from zoo.data.sampling import slot_rng
from zoo.models.device import autocast
from zoo.models.model import SyncModel, build_component, enable_gradient_checkpointing
from zoo.models.modules import Objective, SegmentBatch
from zoo.registry.manager import registry
from zoo.timeline import SegmentLayout
from zoo.training.checkpoint import load_checkpoint, save_checkpoint
from zoo.training.compiling import compile_extractors
from zoo.training.engine import Engine, gather, mean_over_workers, sum_over_workers
from zoo.training.loader import Stage1Batches
from zoo.training.optimise import build_optimizer, seed_step, take_step
from zoo.training.recipe import Recipe
from zoo.training.runlog import RunLog

SHIFT_WINDOW = 8  # segments per window of the zero-shot validation (Source: Synchformer)


class Stage1(nn.Module):
    """Both towers and the objective, as one module that a distributed wrapper can hold."""

    def __init__(self, model: SyncModel, objective: Objective) -> None:
        super().__init__()
        self.audio, self.vision, self.objective = model.audio, model.vision, objective

    def forward(self, batch: SegmentBatch) -> dict[str, Tensor]:
        """Return the objective's scalars."""
        return self.objective(self.audio, self.vision, batch, gather)


def train_stage1(
    engine: Engine,
    recipe: Recipe,
    model: SyncModel,
    train: ClipSource,
    valid: ClipSource,
    log: RunLog,
    checkpoint: Path | None,
) -> None:
    """Train the towers of a model in place.

    Args:
        engine: what runs this worker.
        recipe: the run's recipe.
        model: its towers are trained; its head is not touched.
        train: clips to learn from.
        valid: clips of the zero-shot validation.
        log: where metrics go.
        checkpoint: folder of a stage I checkpoint to go on from.
    """
    config = recipe.stage1
    spec = registry().objective(config.objective.name)
    stage = Stage1(model, build_component("objective", spec, config.objective.parse(spec)))
    if recipe.gradient_checkpointing:
        enable_gradient_checkpointing(model)
    if recipe.compile:
        compile_extractors(model)
    augment = Augment(config.jitter_s, config.flip, config.gain_db, random_crop=True)
    layout = recipe.stage1_layout
    if checkpoint is None:
        first_batch = Stage1Batches(train, layout, config.clips, augment, recipe.seed)[0]
        centre_projections(model, to_segments(first_batch, model, layout))
    module = engine.prepare(stage)
    optimizer = build_optimizer(module, config)
    first = 0
    if checkpoint is not None:
        meta, _ = load_checkpoint(checkpoint, module, optimizer)
        first = meta["step"]
    log.rewind(1, first)
    dataset = Stage1Batches(
        train, layout, config.clips, augment, recipe.seed, engine.rank, engine.world_size
    )
    loader = engine.load(dataset, range(first, config.steps), recipe.data.loader_workers)
    for step in range(first, config.steps):
        started = time.perf_counter()
        batch = to_segments(next(loader), model, layout)
        loaded = time.perf_counter()
        seed_step(recipe.seed, 1, step, engine.rank)
        module.train()
        with autocast(engine.device, recipe.precision):
            scalars = module(batch)
        norm = take_step(module, optimizer, scalars["loss"], step, config)
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            own = {name: float(value.detach()) for name, value in scalars.items()}
            values = mean_over_workers(own, engine.device)
            seconds = {"load_s": loaded - started, "step_s": time.perf_counter() - started}
            log.write(1, done, "train", **values, gradient_norm=float(norm), **seconds)
        if done % config.valid_every == 0 or done == config.steps:
            metrics = zero_shot(engine, recipe, model, valid)
            log.write(1, done, "valid", **metrics)
        if done % config.checkpoint_every == 0 and done != config.steps:
            report(engine, module, optimizer, {"stage": 1, "step": done})


def to_segments(
    sample: tuple[Tensor, Tensor], model: SyncModel, layout: SegmentLayout
) -> SegmentBatch:
    """Bring an item of `Stage1Batches` to where a model is, and cut it into segments."""
    audio, frames = (tensor.to(model.device, non_blocking=True) for tensor in sample)
    return SegmentBatch(audio, cut_crops(frames, layout, model.vision_frontend))


@torch.no_grad()
def centre_projections(model: SyncModel, segments: SegmentBatch) -> None:
    """Set the projections' biases so that embeddings start centred.

    An untrained extractor maps all segments to nearly the same vector; without this the first
    hundreds of steps are spent on removing what they share.
    """
    for tower, part in ((model.audio, segments.audio), (model.vision, segments.vision)):
        if isinstance(tower.projection, nn.Linear):
            tokens = tower.encode(part.flatten(0, 1))  # (N, T, D)
            tower.projection.bias.sub_(tokens.mean(dim=(0, 1)))


def report(
    engine: Engine,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    meta: dict[str, Any],
    best: dict[str, Tensor] | None = None,
) -> None:
    """Hand a checkpoint to the engine; all ranks call this alike."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        if engine.rank == 0:
            save_checkpoint(path, module, optimizer, meta, best)
        engine.report(
            {"stage": meta["stage"], "step": meta["step"]}, path if engine.rank == 0 else None
        )


@torch.no_grad()
def zero_shot(
    engine: Engine, recipe: Recipe, model: SyncModel, valid: ClipSource
) -> dict[str, float]:
    """Validate by shifted windows: which audio window belongs to a video window, and back."""
    model.eval()
    layout = recipe.stage1_layout
    num = min(recipe.stage1.valid_clips, len(valid.clips))
    dataset = Stage1Batches(valid, layout, 1, Augment(), recipe.seed)
    hits, count = 0.0, 0.0
    for index in range(engine.rank, num, engine.world_size):
        rng = slot_rng(recipe.seed, 1, 0, index)
        audio, frames = valid.first_readable(index, rng, partial(dataset.read, rng=rng))
        segments = to_segments((audio[None], frames[None]), model, layout)
        hits += shifted_window_precision(
            model.audio.embed(model.audio.encode(segments.audio[0])),
            model.vision.embed(model.vision.encode(segments.vision[0])),
        )
        count += 1
    hits, count = sum_over_workers([hits, count], engine.device)
    windows = max(1, layout.num_segments - SHIFT_WINDOW + 1)
    return {"precision": hits / max(1, count), "chance": 1 / windows}


def shifted_window_precision(
    audio: Float[Tensor, "S D"], vision: Float[Tensor, "S D"], window: int = SHIFT_WINDOW
) -> float:
    """Return how often a window of segments finds its other modality among all shifts.

    Source: Synchformer's zero-shot validation; chance is one over the number of windows.
    """
    window = min(window, len(audio))
    a, v = (x.unfold(0, window, 1).flatten(1) for x in (audio, vision))  # (M, D*W)
    similarity = a @ v.T  # (M, M)
    truth = torch.arange(len(a), device=a.device)
    by_video = (similarity.argmax(0) == truth).float().mean()
    by_audio = (similarity.argmax(1) == truth).float().mean()
    return float(by_video + by_audio) / 2
