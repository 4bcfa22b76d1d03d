"""Whether the sound of a clip can be synchronized with its picture at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model
from zoo.errors import ConfigError
from zoo.inference.estimate import certainty
from zoo.inference.windows import (
    Crops,
    Progress,
    SegmentEncoder,
    Streams,
    classify,
    encode_crops,
    plan_windows,
)
from zoo.models.device import find_device
from zoo.models.model import Model

YES = 1  # the logits are (no, yes)


class Judge:
    """A model with a synchronizability head, ready for files.

    Raises:
        ConfigError: if the model answers something else.
    """

    def __init__(self, model: Model, name: str, device: torch.device | str = "cpu") -> None:
        if model.head is None or model.task != "synchronizability":
            raise ConfigError(
                f"--trust {name} does not say whether a clip can be synchronized; see: zoo train "
                "--task synchronizability"
            )
        self.model, self.name = model.to(find_device(device)).eval(), name

    def probability(
        self,
        streams: Streams,
        *,
        every_s: float | None = None,
        shift_s: float = 0.0,
        progress: Progress | None = None,
    ) -> float:
        """Return the probability that a clip can be synchronized; see `combine`.

        Args:
            streams: of the clip.
            every_s: distance between crops, seconds; by default one starts with every segment.
            shift_s: how much earlier than the picture the sound is read, seconds.
            progress: is told how many crops are done, and of how many.

        Raises:
            MediaError: if the clip is damaged or too short.
        """
        plan = plan_windows(streams, self.model, self.name, every_s, shift_s)
        encoder = SegmentEncoder(self.model, streams)
        return self.combine(list(map(self.classify, encode_crops(encoder, plan, progress))))

    def reads_tokens_of(self, model: Model) -> bool:
        """Say whether the crops of another model, once encoded, will do."""
        own, other = self.model.config.layout, model.config.layout
        same = own.model_copy(update={"num_segments": other.num_segments}) == other
        return same and own.num_segments <= other.num_segments and self.model.has_same_towers(model)

    def classify(self, crops: Crops) -> Float[Tensor, "W 2"]:
        """Return the probabilities of no and yes of the beginning of some crops."""
        audio, vision = (
            given[:, : self.model.config.layout.num_segments * tower.tokens.num_tokens]
            for given, tower in (
                (crops.audio, self.model.audio),
                (crops.vision, self.model.vision),
            )
        )
        return classify(self.model, audio, vision, self.model.config.grid.offsets_s)

    def combine(self, crops: Sequence[Float[Tensor, "W 2"]]) -> float:
        """Average yes over all crops, each weighted by how far it is from undecided."""
        probabilities = torch.cat(list(crops))
        weights = certainty(probabilities)
        return float((weights * probabilities[:, YES]).sum() / weights.sum())


def load_judge(name: str | Path, device: torch.device | str = "cpu") -> Judge:
    """Load a synchronizability model by catalog name or folder.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it answers something else.
    """
    return Judge(load_model(resolve(name)), str(name), device)
