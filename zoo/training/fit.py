"""The one training loop: it is given a stage, which says what a batch is and what counts."""

from __future__ import annotations

import math
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from zoo.errors import TrainingError
from zoo.models.modules import Encoder
from zoo.training.checkpoint import load_checkpoint, save_checkpoint
from zoo.training.engine import Engine, mean_over_workers
from zoo.training.optimise import (
    StepOutcome,
    build_optimizer,
    diverged,
    seed_step,
    take_step,
)
from zoo.training.recipe import OptimiserConfig
from zoo.training.runlog import RunLog

Read = TypeVar("Read")
Batch = TypeVar("Batch")


class Stage(ABC, Generic[Read, Batch]):
    """What the loop is given.

    Attributes:
        number: 1 or 2; part of all randomness.
        config: steps, learning rate and so on.
        module: what is trained.
        seed: of the run.
        loader_workers: processes that read ahead; None if reading is no work.
        num_losses: per step, each with an optimiser of its own.
        rate_prefix: what stands before the names of the module's parameters in ``rates``.
        encoder: part of the module whose layers ``layer_decay`` is about, if it is trained.
    """

    number: int
    config: OptimiserConfig
    module: nn.Module
    seed: int
    loader_workers: int | None = 0
    num_losses: int = 1
    rate_prefix: str = ""
    encoder: Encoder | None = None

    @abstractmethod
    def dataset(self, rank: int, world_size: int) -> Dataset[Read]:
        """Return the batches of a worker: item ``step`` is its share of that step."""

    @abstractmethod
    def feed(self, read: Read) -> Batch:
        """Bring a batch to the device, ready for the module."""

    @abstractmethod
    def loss(
        self, module: nn.Module, batch: Batch, step: int
    ) -> tuple[Tensor, Callable[[], dict[str, float]]]:
        """Return the loss of a step, and a function that gives the numbers to log."""

    def losses(
        self, module: nn.Module, batch: Batch, step: int
    ) -> Iterator[tuple[Tensor, Callable[[], dict[str, float]]]]:
        """Yield the losses of a step, each computed after the step that the one before led to."""
        yield self.loss(module, batch, step)

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Score the validation clips, shared out between workers; return what to log."""

    def prepare(self, read: Read) -> None:
        """See the first batch before a fresh start."""

    def step_done(self, done: int) -> None:
        """Look at the module after so many steps."""

    def resume(self, meta: dict[str, Any], best: dict[str, Tensor]) -> None:
        """Take up what a checkpoint holds beside the module."""

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
        """Return what a checkpoint must hold beside the module: JSON, and the best weights."""
        return {}, None

    @property
    def is_over(self) -> bool:
        """Whether to stop before the last step."""
        return False


def fit(engine: Engine, stage: Stage[Read, Batch], log: RunLog, checkpoint: Path | None) -> None:
    """Train what a stage trains, in place.

    Args:
        engine: what runs this worker.
        stage: what is trained on what.
        log: where metrics go.
        checkpoint: folder of a checkpoint of this stage to go on from.
    """
    config, number = stage.config, stage.number
    if checkpoint is None:
        stage.prepare(stage.dataset(0, 1)[0])
    module = engine.prepare(stage.module)
    optimizers = [
        build_optimizer(module, config, stage.rate_prefix, stage.encoder)
        for _ in range(stage.num_losses)
    ]
    first = 0
    if checkpoint is not None:
        meta, best = load_checkpoint(checkpoint, module, optimizers)
        first = meta["step"]
        stage.resume(meta, best)
    log.rewind(number, first)
    dataset = stage.dataset(engine.rank, engine.world_size)
    loader = engine.load(dataset, range(first, config.steps), stage.loader_workers)
    pauses = (config.log_every, config.valid_every, config.checkpoint_every)
    before: list[StepOutcome] = []
    for step in range(first, config.steps):
        if stage.is_over:
            break
        started = time.perf_counter()
        batch = stage.feed(next(loader))
        loaded = time.perf_counter()
        seed_step(stage.seed, number, step, engine.rank)
        module.train()
        taken = []
        for optimizer, (loss, numbers) in zip(
            optimizers, stage.losses(module, batch, step), strict=True
        ):
            taken.append((numbers, take_step(module, optimizer, loss, step, config)))
        done, is_last = step + 1, step + 1 == config.steps
        stage.step_done(done)
        # A GPU has had a whole step to compute what is asked for here.
        _require_finite(before, number)
        before = [outcome for _, outcome in taken]
        if is_last or any(done % every == 0 for every in pauses):
            largest = _require_finite(before, number)
        if done % config.log_every == 0 or is_last:
            values = mean_over_workers(_add_up([numbers() for numbers, _ in taken]), engine.device)
            seconds = {"load_s": loaded - started, "step_s": time.perf_counter() - started}
            log.write(number, done, "train", **values, gradient_norm=largest, **seconds)
        if done % config.valid_every == 0 or is_last:
            scores = stage.validate()
            _require_finite_scores(scores, done, stage)
            log.write(number, done, "valid", **scores)
        if done % config.checkpoint_every == 0 and not is_last:
            report(engine, module, optimizers, stage, done)


def _require_finite(outcomes: Sequence[StepOutcome], stage: int) -> float:
    """Return the largest norm of the gradients of some steps; all must be finite."""
    try:
        return max((outcome.require_finite() for outcome in outcomes), default=0.0)
    except TrainingError as error:
        raise error.within(f"stage {stage}") from None


def _require_finite_scores(scores: Mapping[str, float], done: int, stage: Stage[Any, Any]) -> None:
    """The last step of all may be the one that diverges, and no loss is computed after it."""
    for name, value in scores.items():
        if not math.isfinite(value):
            said = f"{name} of the validation is {value:.3g}"
            raise diverged(done, said, stage.config).within(f"stage {stage.number}")


def _add_up(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Join the numbers of the losses of a step; the loss is their sum."""
    joined = {name: value for part in parts for name, value in part.items()}
    return {**joined, "loss": sum(part["loss"] for part in parts)}


def report(
    engine: Engine,
    module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    stage: Stage[Any, Any],
    step: int,
) -> None:
    """Hand a checkpoint to the engine; all ranks call this alike."""
    more, best = stage.state()
    meta = {"stage": stage.number, "step": step, **more}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        if engine.rank == 0:
            save_checkpoint(path, module, optimizers, meta, best)
        engine.report({"stage": stage.number, "step": step}, path if engine.rank == 0 else None)
