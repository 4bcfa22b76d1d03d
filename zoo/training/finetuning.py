"""Stage II: a head is trained for a task, on a frozen encoder or along with it (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from zoo.data.augment import Augment
from zoo.data.frontend import cut_crops
from zoo.data.samples import Item, SampleSource
from zoo.data.sampling import ClipOrder, share_of_rank
from zoo.models.device import autocast
from zoo.models.model import Model
from zoo.models.segments import Segments, Tokens
from zoo.models.task import Task
from zoo.training.compiling import compile_extractors
from zoo.training.engine import Engine, sum_over_workers
from zoo.training.fit import Stage
from zoo.training.kept_weights import Average, Best
from zoo.training.mixing import (
    draw_shares,
    mean_loss,
    mix_segments,
    require_answers,
    soften_batch,
)
from zoo.training.recipe import Recipe, Stage2Config

Read = tuple[Tensor, ...]
"""Audio, video and targets: tokens ``(B, S, T*P, D)`` of a store, or what was read from files.

Where batches are mixed, or their labels smoothed, in training also the shares (`draw_shares`)."""


@dataclass(frozen=True)
class Fed:
    """A batch on the device: tokens for a head, or segments for a whole model."""

    given: tuple[Tokens, Tokens] | tuple[Tensor, Tensor]
    targets: Tensor


class Stage2Batches(Dataset[Read]):
    """Item ``step`` is this worker's share of that step's global batch."""

    def __init__(
        self, source: SampleSource, recipe: Recipe, augment: Augment, rank: int, world_size: int
    ) -> None:
        self.source, self.recipe, self.augment = source, recipe, augment
        self.rank, self.world_size = rank, world_size
        config, clips, weights = recipe.stage2, source.clips.clips, None
        if config.balanced:
            weights = source.task.clip_weights([clips[i] for i in source.usable])
        self.order = ClipOrder(len(source.usable), recipe.seed, weights)
        self.softening = config if config.softens and not config.softens_batches else None

    def __getitem__(self, step: int) -> Read:
        """Return audio and video as `SampleSource.item` does, targets, and shares if it must."""
        recipe, usable = self.recipe, self.source.usable
        chosen = self.order.of_step(step, recipe.stage2.batch)
        items = []
        for slot, place in share_of_rank(chosen, self.rank, self.world_size):
            clip = usable[place]
            # Over-fitting checks that a run can learn at all: every clip keeps its one sample.
            key = (2, 0, clip) if recipe.overfit else (2, step, slot)
            items.append(self.source.item(clip, key, self.augment, self.softening))
        read = collate(items, self.source.task)
        if not recipe.stage2.softens_batches:
            return read
        number = 0 if recipe.overfit else step
        return *read, draw_shares(recipe.stage2, recipe.seed, number, self.rank)


def collate(items: list[Item], task: Task) -> Read:
    """Stack items to a batch."""
    audio, vision, samples = zip(*items, strict=True)
    targets = task.collate([sample.target for sample in samples])
    return torch.stack(audio), torch.stack(vision), targets


class Feeder:
    """Brings a batch to the device and, when it was read from files, through the encoder."""

    def __init__(
        self, device: torch.device, recipe: Recipe, model: Model, source: SampleSource
    ) -> None:
        self.device, self.recipe, self.model, self.source = device, recipe, model, source
        self.is_stored = source.store is not None

    def segments(self, read: Read) -> tuple[Segments, Tensor]:
        """Return what was read from files, on the device and cut into segments."""
        audio, frames, *answers = (t.to(self.device, non_blocking=True) for t in read)
        places = self.source.clips.reader.read_part("vision", self.source.layout).places
        segments = Segments(audio, cut_crops(frames, *places, self.model.vision_frontend))
        if len(answers) > 1 and self.recipe.stage2.mixup:
            segments = mix_segments(segments, answers[1])
        return segments, self._targets(*answers)

    def _targets(self, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the targets, mixed and smoothed where the batch comes with shares."""
        if shares is None:
            return targets
        assert self.model.task is not None
        task = self.model.task
        return soften_batch(task, task.labels_of(targets), shares, self.recipe.stage2)

    @torch.no_grad()
    def tokens(self, read: Read) -> tuple[tuple[Tokens, Tokens], Tensor]:
        """Return tokens and targets, for a head on a frozen encoder."""
        if self.is_stored:
            audio, vision, *answers = (t.to(self.device, non_blocking=True) for t in read)
            pair = self._stored(audio, "audio"), self._stored(vision, "vision")
            targets = self._targets(*answers)
        else:
            segments, targets = self.segments(read)
            with autocast(self.device, self.recipe.precision):
                pair = self.model.encoder(segments)
        return (pair[0].float(), pair[1].float()), targets

    def _stored(self, values: Tensor, modality: str) -> Tokens:
        declared = getattr(self.model.io, modality).tokens
        return Tokens.of_segments(values.flatten(0, 1), values.shape[1], declared)


class Finetuning(Stage[Read, Fed]):
    """Trains the head of a model in place, or all of it.

    Args:
        engine: what runs this worker.
        recipe: the run's recipe.
        model: its head is trained; its encoder is frozen and in eval mode, unless
            ``stage2.encoder`` says ``trained``.
        train: samples to learn from.
        valid: samples to validate on.
        is_fresh: whether the head is new, and may look at a batch before it begins.
    """

    number = 2
    config: Stage2Config

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        model: Model,
        train: SampleSource,
        valid: SampleSource,
        *,
        is_fresh: bool = True,
    ) -> None:
        assert model.task is not None
        self.engine, self.recipe, self.model, self.task = engine, recipe, model, model.task
        self.train, self.valid, self.is_fresh = train, valid, is_fresh
        self.config, self.seed = recipe.stage2, recipe.seed
        self.loader_workers = None if train.store is not None else recipe.data.loader_workers
        if recipe.compile and train.store is None:
            compile_extractors(model)
        self.feeder = Feeder(engine.device, recipe, model, train)
        self.module = self._what_is_trained()
        self.rate_prefix = "head." if self.config.is_frozen else ""
        self.encoder = None if self.config.is_frozen else model.encoder
        self.best = Best(self.task.spec)
        self.average = Average()

    def _what_is_trained(self) -> nn.Module:
        """Freeze what is not trained; return the head, or the whole model."""
        model = self.model
        assert model.head is not None
        model.to(self.engine.device).requires_grad_(False).eval()
        if self.config.is_frozen:
            return model.head.requires_grad_(True)
        if self.recipe.gradient_checkpointing:
            model.encoder.enable_gradient_checkpointing()
        return model.requires_grad_(True)

    def dataset(self, rank: int, world_size: int) -> Dataset[Read]:
        """Return random samples of the training clips."""
        config, recipe = self.config, self.recipe
        augment = Augment() if recipe.overfit else config.augment()
        return Stage2Batches(self.train, recipe, augment, rank, world_size)

    def feed(self, read: Read) -> Fed:
        """Bring a batch to the device: as tokens, or as segments if the encoder is trained."""
        if self.config.is_frozen:
            return Fed(*self.feeder.tokens(read))
        segments, targets = self.feeder.segments(read)
        return Fed((segments.audio, segments.vision), targets)

    def prepare(self, read: Read) -> None:
        """Let a new head see the first batch."""
        assert self.model.head is not None
        if self.is_fresh:
            self.model.head.initialise(*self.feeder.tokens(read)[0])

    def loss(
        self, module: nn.Module, batch: Fed, step: int
    ) -> tuple[Tensor, Callable[[], dict[str, float]]]:
        """Return the task's loss, and its scores on the batch."""
        with autocast(self.engine.device, self.recipe.precision):
            outputs = module(*batch.given).float()  # (B, K), or (B, M, K) for each modality
        has_own = self.config.has_own_labels
        if has_own:
            assert self.model.config.head is not None
            require_answers(outputs.shape, self.model.config.head.name)
        sigma, targets = self._sigma(step), batch.targets
        loss = mean_loss(self.task, outputs, targets, sigma, is_per_modality=has_own)

        def numbers() -> dict[str, float]:
            answer = outputs.detach().mean(1) if outputs.ndim == 3 else outputs.detach()
            wanted = targets.mean(1) if has_own else targets
            scores = self.task.scores(self.task.sums(answer, wanted))
            return {**scores, "loss": float(loss.detach())}

        return loss, numbers

    def _sigma(self, step: int) -> float:
        config = self.config
        return config.soft_sigma * max(0.0, 1 - step / (config.soft_until * config.steps))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Score fixed samples, the same at every validation; keep the weights of the best."""
        module, task = self.module, self.task
        module.eval()
        sums = [0.0] * task.num_sums
        for read in fixed_samples(
            self.valid, self.recipe, self.engine.rank, self.engine.world_size
        ):
            fed = self.feed(read)
            partial = task.sums(module(*fed.given).float(), fed.targets)
            sums = [total + value for total, value in zip(sums, partial, strict=True)]
        scores = task.scores(sum_over_workers(sums, self.engine.device))
        has_left = task.has_left_chance(scores)
        self.best.update(scores, module, has_left, keeps=not self.config.averaged_steps)
        return {**scores, "on_plateau": float(not has_left)}

    def step_done(self, done: int) -> None:
        """Take weights into the average where the recipe says so."""
        if done in self.config.averaged_steps:
            self.average.add(self.module)

    def resume(self, meta: dict[str, Any], best: dict[str, Tensor]) -> None:
        """Take up the best validation so far, or the average."""
        self.best.scores, self.best.waited = meta["best"], meta["waited"]
        if self.config.averaged_steps:
            self.average = Average(best, meta["averaged"])
        else:
            self.best.weights = best

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
        """Return the best validation so far, and its weights or the average."""
        meta = {"best": self.best.scores, "waited": self.best.waited}
        if not self.config.averaged_steps:
            return meta, self.best.weights
        return {**meta, "averaged": self.average.num}, self.average.weights

    @property
    def is_over(self) -> bool:
        """Whether validations have not become better for long; an average takes all steps."""
        return not self.config.averaged_steps and self.best.waited >= self.config.patience

    def end(self) -> dict[str, float]:
        """Leave the model with its best or average weights; return their validation scores."""
        if not self.config.averaged_steps:
            self.module.load_state_dict(self.best.weights)
            return self.best.scores
        self.average.give(self.module)
        scores = self.validate()
        return {name: value for name, value in scores.items() if name != "on_plateau"}


def fixed_samples(
    source: SampleSource, recipe: Recipe, rank: int = 0, world_size: int = 1, batch: int = 64
) -> Iterator[Read]:
    """Yield this worker's share of the samples that every validation uses."""
    stage = 2 if recipe.overfit else 3
    augment = Augment() if recipe.overfit else recipe.stage2.of_validation()
    wanted = [
        (clip, (stage, 0 if recipe.overfit else number, clip))
        for number in range(recipe.stage2.valid_rounds)
        for clip in source.usable
    ][rank::world_size]
    size = batch if source.store is not None else recipe.stage2.batch
    for first in range(0, len(wanted), size):
        chosen = wanted[first : first + size]
        items = [source.item(clip, key, augment) for clip, key in chosen]
        yield collate(items, source.task)
