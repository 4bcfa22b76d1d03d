"""Stage II: the head on frozen extractors (paper section 3.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from zoo.data.clip_source import Augment
from zoo.data.frontend import cut_crops
from zoo.data.samples import DrawSource, Item
from zoo.data.sampling import clips_of_step, share_of_rank
from zoo.models.device import autocast
from zoo.models.model import SyncModel, enable_gradient_checkpointing
from zoo.training.checkpoint import load_checkpoint
from zoo.training.compiling import compile_extractors
from zoo.training.engine import Engine, mean_over_workers, sum_over_workers
from zoo.training.goal import Goal, Scores, goal_of
from zoo.training.optimise import build_optimizer, seed_step, take_step
from zoo.training.recipe import Recipe
from zoo.training.runlog import RunLog
from zoo.training.stage1 import report

Batch = tuple[Tensor, Tensor, Tensor]


class Stage2Batches(Dataset[Batch]):
    """Item ``step`` is this worker's share of that step's global batch."""

    def __init__(
        self, source: DrawSource, recipe: Recipe, augment: Augment, rank: int, world_size: int
    ) -> None:
        self.source, self.recipe, self.augment = source, recipe, augment
        self.rank, self.world_size = rank, world_size

    def __getitem__(self, step: int) -> Batch:
        """Return audio and video as `DrawSource.item` does, and classes."""
        recipe, usable = self.recipe, self.source.usable
        chosen = clips_of_step(step, recipe.stage2.batch, len(usable), recipe.seed)
        items = []
        for slot, place in share_of_rank(chosen, self.rank, self.world_size):
            clip = usable[place]
            # Over-fitting checks that a run can learn at all: every clip keeps its one offset.
            key = (2, 0, clip) if recipe.overfit else (2, step, slot)
            items.append(self.source.item(clip, key, self.augment))
        return collate(items)


def collate(items: list[Item]) -> Batch:
    """Stack items to a batch."""
    audio, vision, draws = zip(*items, strict=True)
    targets = torch.tensor([draw.target for draw in draws])
    return torch.stack(audio), torch.stack(vision), targets


class Tokeniser:
    """Brings a batch to the device and, when it was read from files, through the towers."""

    def __init__(self, engine: Engine, recipe: Recipe, model: SyncModel, is_stored: bool) -> None:
        self.engine, self.recipe, self.model, self.is_stored = engine, recipe, model, is_stored

    def move(self, batch: Batch) -> Batch:
        """Return a batch on the device, cut into segments if it was read from files."""
        audio, vision, targets = (t.to(self.engine.device, non_blocking=True) for t in batch)
        if not self.is_stored:
            layout, frontend = self.model.config.layout, self.model.vision_frontend
            vision = cut_crops(vision, layout, frontend)
        return audio, vision, targets

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Return audio tokens, video tokens and classes on the device."""
        audio, vision, targets = self.move(batch)
        if not self.is_stored:
            with autocast(self.engine.device, self.recipe.precision):
                audio = self.model.tokens_of(self.model.audio, audio)
                vision = self.model.tokens_of(self.model.vision, vision)
        return audio.float(), vision.float(), targets


def train_stage2(
    engine: Engine,
    recipe: Recipe,
    model: SyncModel,
    train: DrawSource,
    valid: DrawSource,
    log: RunLog,
    checkpoint: Path | None,
    *,
    is_fresh: bool = True,
) -> dict[str, float]:
    """Train the head of a model in place, or all of it, and leave it with its best weights.

    Args:
        engine: what runs this worker.
        recipe: the run's recipe.
        model: its head is trained; its towers are frozen and in eval mode, unless
            ``stage2.towers`` says ``trained``.
        train: draws to learn from.
        valid: draws to validate on.
        log: where metrics go.
        checkpoint: folder of a stage II checkpoint to go on from.
        is_fresh: whether the head is as drawn, and may look at a batch before it begins.

    Returns:
        The best validation scores.
    """
    config, goal = recipe.stage2, goal_of(model.task, recipe.model.grid)
    augment = Augment() if recipe.overfit else Augment(config.jitter_s, config.flip, 0.0, True)
    if recipe.compile and train.store is None:
        compile_extractors(model)
    tokenise = Tokeniser(engine, recipe, model, train.store is not None)
    trained = _what_is_trained(engine, recipe, model)
    if checkpoint is None and is_fresh:
        assert model.head is not None
        audio, vision, _ = tokenise(Stage2Batches(train, recipe, augment, 0, 1)[0])
        model.head.initialise(audio, vision)
    feed = tokenise if config.is_frozen else tokenise.move
    module = engine.prepare(trained)
    optimizer = build_optimizer(module, config)
    first, best = 0, Best(goal)
    if checkpoint is not None:
        meta, best.weights = load_checkpoint(checkpoint, module, optimizer)
        first, best.scores, best.waited = meta["step"], meta["best"], meta["waited"]
    log.rewind(2, first)
    dataset = Stage2Batches(train, recipe, augment, engine.rank, engine.world_size)
    workers = None if train.store is not None else recipe.data.loader_workers
    loader = engine.load(dataset, range(first, config.steps), workers)
    for step in range(first, config.steps):
        if best.waited >= config.patience:
            break
        started = time.perf_counter()
        audio, vision, targets = feed(next(loader))
        loaded = time.perf_counter()
        seed_step(recipe.seed, 2, step, engine.rank)
        module.train()
        with autocast(engine.device, recipe.precision):
            logits = module(audio, vision).float()
        loss = goal.loss(logits, targets, _sigma(step, recipe))
        norm = take_step(module, optimizer, loss, step, config)
        done, is_last = step + 1, step + 1 == config.steps
        if done % config.log_every == 0 or is_last:
            scores = goal.scores(goal.sums(logits.detach(), targets))
            own = {**scores.as_dict(), "loss": float(loss.detach())}
            values = mean_over_workers(own, engine.device)
            seconds = {"load_s": loaded - started, "step_s": time.perf_counter() - started}
            log.write(2, done, "train", **values, gradient_norm=float(norm), **seconds)
        if done % config.valid_every == 0 or is_last:
            scores = validate(engine, recipe, goal, trained, valid, feed)
            is_left = goal.has_left_plateau(scores)
            best.update(scores, trained, is_left)
            log.write(2, done, "valid", **scores.as_dict(), on_plateau=float(not is_left))
        if done % config.checkpoint_every == 0 and not is_last:
            meta = {"stage": 2, "step": done, "best": best.scores, "waited": best.waited}
            report(engine, module, optimizer, meta, best.weights)
    trained.load_state_dict(best.weights)
    return best.scores


def _what_is_trained(engine: Engine, recipe: Recipe, model: SyncModel) -> nn.Module:
    """Freeze what is not trained; return the head, or the whole model."""
    assert model.head is not None
    model.to(engine.device).requires_grad_(False).eval()
    if recipe.stage2.is_frozen:
        return model.head.requires_grad_(True)
    if recipe.gradient_checkpointing:
        enable_gradient_checkpointing(model)
    return model.requires_grad_(True)


class Best:
    """The best validation so far."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.scores: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}
        self.waited = 0

    def update(self, scores: Scores, module: nn.Module, has_left: bool) -> None:
        """Keep the weights if they are better; the plateau costs no patience."""
        new = scores.as_dict()
        if not self.scores or self.goal.rank(new) > self.goal.rank(self.scores):
            self.scores = new
            self.weights = {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
            self.waited = 0
        elif has_left:
            self.waited += 1


def _sigma(step: int, recipe: Recipe) -> float:
    config = recipe.stage2
    return config.soft_sigma * max(0.0, 1 - step / (config.soft_until * config.steps))


@torch.no_grad()
def validate(
    engine: Engine,
    recipe: Recipe,
    goal: Goal,
    module: nn.Module,
    valid: DrawSource,
    feed: Callable[[Batch], Batch],
) -> Scores:
    """Score fixed draws, the same at every validation, shared out between workers."""
    module.eval()
    sums = [0.0] * goal.num_sums
    for batch in fixed_draws(valid, recipe, engine.rank, engine.world_size):
        audio, vision, targets = feed(batch)
        partial = goal.sums(module(audio, vision).float(), targets)
        sums = [total + value for total, value in zip(sums, partial, strict=True)]
    return goal.scores(sum_over_workers(sums, engine.device))


def fixed_draws(
    source: DrawSource, recipe: Recipe, rank: int = 0, world_size: int = 1, batch: int = 64
) -> Iterator[Batch]:
    """Yield this worker's share of the draws that every validation uses."""
    stage = 2 if recipe.overfit else 3
    wanted = [
        (clip, (stage, 0 if recipe.overfit else number, clip))
        for number in range(recipe.stage2.valid_rounds)
        for clip in source.usable
    ][rank::world_size]
    size = batch if source.store is not None else recipe.stage2.batch
    for first in range(0, len(wanted), size):
        chosen = wanted[first : first + size]
        yield collate([source.item(clip, key, Augment()) for clip, key in chosen])
