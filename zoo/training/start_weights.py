"""Weights that a run starts from and that are no whole model: of extractors, of image models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from zoo.checkpoints.layouts import Tensors, find_extractors, find_starts, read_tensors
from zoo.contracts import InitialWeights, Modality, Positions, WeightsFormat
from zoo.errors import ConfigError, ModelError, option
from zoo.models.config import Component
from zoo.models.model import OBJECTIVE
from zoo.registry.manager import registry
from zoo.training.recipe import Recipe

ENCODER = "encoder"
Place = Modality | Literal["encoder"]


@dataclass(frozen=True)
class StartWeights:
    """Weights of a part of a model, found in a file.

    Attributes:
        path: the file.
        place: what they fill: the extractor of a modality, or the encoder.
        name: of the extractor or encoder.
        layout: that they are of.
        tensors: by the names of the layout.
    """

    path: Path
    place: Place
    name: str
    layout: WeightsFormat | InitialWeights
    tensors: Tensors

    @property
    def title(self) -> str:
        """What they fill, in words: ``the audio extractor ast``."""
        place = ENCODER if self.place == ENCODER else f"{self.place} extractor"
        return f"the {place} {self.name}"

    def read(self, positions: Positions, recipe: Recipe) -> tuple[Tensors, Tensors]:
        """Return the state dict of what they fill, and parameters of the objective.

        Raises:
            ModelError: if they do not fit the recipe.
        """
        if self.place == ENCODER:
            config = recipe.model.encoder_config()
        else:
            component = _parts_of(recipe)[self.place]
            config = component.parse(registry().extractor(self.name))
        try:
            given = self.layout.read(self.tensors, config, positions)
        except ModelError as error:
            hint = error.hint
            if recipe.preset == "tiny":
                hint = hint or f"published sizes need {option('preset')} paper"
            kind = ENCODER if self.place == ENCODER else "extractor"
            raise ModelError(
                f"{self.path} ({self.layout.name}) does not fit the {kind} '{self.name}' of this "
                f"run: {error.message}",
                hint,
            ) from None
        return _apart(given)


def _apart(given: Tensors) -> tuple[Tensors, Tensors]:
    """Return what is of the objective by itself."""
    prefix = f"{OBJECTIVE}."
    of_objective = {n.removeprefix(prefix): x for n, x in given.items() if n.startswith(prefix)}
    return {n: x for n, x in given.items() if not n.startswith(prefix)}, of_objective


def find_weights(files: Sequence[tuple[str, Path]], recipe: Recipe) -> list[StartWeights]:
    """Return the weights of parts of a model among what a run starts from.

    Args:
        files: how each is called, and where it is.
        recipe: of the run.

    Raises:
        ConfigError: if they are of no part of the recipe, or of one that was filled before.
        ModelError: if a file cannot be read.
    """
    found: dict[Place, StartWeights] = {}
    for given, path in files:
        if path.is_dir():
            continue
        may_be = list(_all_in(path))
        if not may_be:
            continue
        weights = _fitting(may_be, given, recipe)
        if weights.place in found:
            raise ConfigError(
                f"{option('init')} {given}: the weights of '{weights.name}' are taken from "
                f"{found[weights.place].path} already"
            )
        pair = recipe.model.two_tower()
        if found and pair is not None and pair.siamese:
            raise ConfigError(
                f"{option('init')} {given}: a siamese encoder has one set of blocks, which is "
                f"taken from {next(iter(found.values())).path} already; name one file"
            )
        found[weights.place] = weights
    return list(found.values())


def are_weights(parts: list[Tensors]) -> bool:
    """Say whether tensors are the weights of a part of a model."""
    return any(find_extractors(parts)) or any(find_starts(parts))


def _all_in(path: Path) -> Iterator[StartWeights]:
    parts = read_tensors(path)
    for extractor, layout, tensors in find_extractors(parts):
        yield StartWeights(path, extractor.modality, extractor.name, layout, tensors)
    for encoder, start, tensors in find_starts(parts):
        yield StartWeights(path, "encoder", encoder.name, start, tensors)


def _fitting(may_be: Sequence[StartWeights], given: str, recipe: Recipe) -> StartWeights:
    """Return the weights that are of a part of the recipe.

    Raises:
        ConfigError: if none are.
    """
    parts = _parts_of(recipe)
    for weights in may_be:
        if weights.place in parts and parts[weights.place].name == weights.name:
            return weights
    names = " or ".join(dict.fromkeys(repr(weights.name) for weights in may_be))
    if "encoder" in parts and all(weights.place != ENCODER for weights in may_be):
        raise ConfigError(
            f"{option('init')} {given} holds weights of the extractor {names}, and the encoder "
            f"'{recipe.model.encoder.name}' has no extractors",
            "start from a model of the same encoder",
        )
    wanted = " and ".join(f"'{part.name}'" for part in parts.values())
    verb = "the encoder of this run is" if "encoder" in parts else "the extractors of this run are"
    raise ConfigError(f"{option('init')} {given} holds weights of {names}, but {verb} {wanted}")


def _parts_of(recipe: Recipe) -> dict[Place, Component]:
    """Return what can be filled: both extractors, or the encoder if it is no pair of them."""
    pair = recipe.model.two_tower()
    if pair is None:
        return {"encoder": recipe.model.encoder}
    return {"audio": pair.audio.extractor, "vision": pair.vision.extractor}


def fill(own: dict[str, Tensor], given: Tensors) -> bool:
    """Replace tensors of a state dict, all of them or none; say if they fit."""
    fits = all(name in own and own[name].shape == tensor.shape for name, tensor in given.items())
    if fits:
        own.update((name, tensor.clone()) for name, tensor in given.items())
    return fits
