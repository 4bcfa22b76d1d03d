"""Stage I: an encoder is trained with an objective, without labels (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from zoo.data.clip_source import ClipSource
from zoo.data.frontend import cut_crops
from zoo.data.sampling import slot_rng, spread_share
from zoo.models.device import autocast
from zoo.models.model import Model, build_objective
from zoo.models.modules import Encoder, Objective
from zoo.models.segments import Segments
from zoo.training.compiling import compile_extractors
from zoo.training.engine import Engine, gather, sum_over_workers
from zoo.training.fit import Stage
from zoo.training.loader import Stage1Batches
from zoo.training.recipe import Recipe, Stage1Config

Read = tuple[Tensor, Tensor]
"""Audio segments ``(B, S, F, Ta)`` and frames ``(B, T, H, W, C)`` for `cut_crops`."""


class EncoderWithObjective(nn.Module):
    """The encoder and the objective, as one module that a distributed wrapper can hold."""

    def __init__(self, encoder: Encoder, objective: Objective) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective

    @property
    def may_skip_parameters(self) -> bool:
        """Whether a loss may leave parameters without a gradient: those that other turns train."""
        return bool(self.objective.turns)

    def forward(self, segments: Segments, turn: str = "") -> dict[str, Tensor]:
        """Return the objective's scalars, or those of one of its turns."""
        if turn:
            return self.objective.take_turn(turn, self.encoder, segments, gather)
        return self.objective(self.encoder, segments, gather)


class Pretraining(Stage[Read, Segments]):
    """Trains the encoder of a model in place; its head is not touched.

    Args:
        engine: what runs this worker.
        recipe: the run's recipe.
        model: whose encoder is trained.
        train: clips to learn from.
        valid: clips to validate on.
    """

    number = 1
    config: Stage1Config

    def __init__(
        self, engine: Engine, recipe: Recipe, model: Model, train: ClipSource, valid: ClipSource
    ) -> None:
        self.engine, self.recipe, self.model = engine, recipe, model
        self.config, self.seed = recipe.stage1, recipe.seed
        self.train, self.valid = share_of(train, self.config.share, self.seed), valid
        self.loader_workers = recipe.data.loader_workers
        self.objective = build_objective(recipe.objective, model.encoder)
        self.module = EncoderWithObjective(model.encoder, self.objective)
        self.encoder = model.encoder
        self.num_losses = max(1, len(self.objective.turns))
        if recipe.gradient_checkpointing:
            model.encoder.enable_gradient_checkpointing()
        if recipe.compile:
            compile_extractors(model)

    def dataset(self, rank: int, world_size: int) -> Dataset[Read]:
        """Return random stretches of the training clips, in sync."""
        config = self.config
        augment = config.augment()
        layout, seed = self.recipe.stage1_layout, self.seed
        return Stage1Batches(self.train, layout, config.clips, augment, seed, rank, world_size)

    def feed(self, read: Read) -> Segments:
        """Bring a batch to where the model is, and cut it into segments."""
        model, reader = self.model, self.train.reader
        audio, frames = (tensor.to(model.device, non_blocking=True) for tensor in read)
        places = reader.read_part("vision", self.recipe.stage1_layout).places
        return Segments(audio, cut_crops(frames, *places, model.vision_frontend))

    def prepare(self, read: Read) -> None:
        """Let the objective see the first batch."""
        self.objective.prepare(self.model.encoder, self.feed(read))

    def loss(
        self, module: nn.Module, batch: Segments, step: int, turn: str = ""
    ) -> tuple[Tensor, Callable[[], dict[str, float]]]:
        """Return the objective's loss, or that of a turn, and its scalars."""
        with autocast(self.engine.device, self.recipe.precision):
            scalars = module(batch, turn)
        return scalars["loss"], lambda: {k: float(v.detach()) for k, v in scalars.items()}

    def losses(
        self, module: nn.Module, batch: Segments, step: int
    ) -> Iterator[tuple[Tensor, Callable[[], dict[str, float]]]]:
        """Yield the objective's turns, if it has some."""
        for turn in self.objective.turns or ("",):
            yield self.loss(module, batch, step, turn)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Score validation clips, the same ones every time."""
        self.model.eval()
        engine, valid, layout = self.engine, self.valid, self.recipe.stage1_layout
        num = min(self.recipe.stage1.valid_clips, len(valid.clips))
        together = self.objective.clips_per_validation
        dataset = Stage1Batches(valid, layout, 1, self.config.of_validation(), self.seed)

        def read(index: int) -> Read:
            rng = slot_rng(self.seed, 1, 0, index)
            return valid.first_readable(index, rng, partial(dataset.read, rng=rng))

        sums: list[float] = []
        for first in range(engine.rank * together, num, engine.world_size * together):
            pairs = [read(index) for index in range(first, min(num, first + together))]
            audio, frames = (torch.stack(part) for part in zip(*pairs, strict=True))
            segments = self.feed((audio, frames))
            found = self.objective.validate(self.model.encoder, segments)
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        total = sum_over_workers(sums or [0.0] * self.objective.num_sums, engine.device)
        return self.objective.scores(total)


def share_of(source: ClipSource, share: float, seed: int) -> ClipSource:
    """Return a random share of the clips; with 1, all of them."""
    if share == 1:
        return source
    places = spread_share([""] * len(source.clips), share, seed)
    return ClipSource([source.clips[i] for i in places], source.reader, source.on_broken)
