"""A second model, which says whether audio and video of a clip can be synchronized at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model
from zoo.errors import ConfigError
from zoo.inference.crops import ClipEncoder, Crops, classify, encode_crops
from zoo.inference.estimate import synchronizability
from zoo.inference.windows import Progress, Streams, plan_windows
from zoo.models.device import find_device
from zoo.models.model import Model


class SynchronizabilityPredictor:
    """A model that tells whether clips can be synchronized, to stand beside one that finds offsets.

    Raises:
        ConfigError: if the model answers something else.
    """

    def __init__(self, model: Model, name: str, device: torch.device | str = "cpu") -> None:
        if model.head is None or model.task is None or not model.task.tells_synchronizable:
            raise ConfigError(
                f"'{name}' does not say whether a clip can be synchronized: choose a model that "
                "was trained for that (see: zoo list tasks)"
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
            every_s: distance between crops, seconds; by default as in `plan_windows`.
            shift_s: how much earlier than the video the audio is read, seconds.
            progress: is told how many crops are done, and of how many.

        Raises:
            MediaError: if the clip is damaged or too short.
        """
        plan = plan_windows(streams, self.model, self.name, every_s, shift_s)
        encoder = ClipEncoder(self.model, streams)
        return self.combine(list(map(self.classify, encode_crops(encoder, plan, progress))))

    def reads_tokens_of(self, model: Model) -> bool:
        """Say whether the crops of another model, once encoded, will do."""
        own, other = self.model.config.layout, model.config.layout
        same = own.model_copy(update={"num_segments": other.num_segments}) == other
        fits = own.num_segments == other.num_segments or (
            model.encoder.is_separable and own.num_segments < other.num_segments
        )
        return same and fits and self.model.has_same_encoder(model)

    def classify(self, crops: Crops) -> Float[Tensor, "W 2"]:
        """Return the probabilities of no and yes of the beginning of some crops."""
        return classify(self.model, crops.first(self.model.config.layout.num_segments))

    def combine(self, crops: Sequence[Float[Tensor, "W 2"]]) -> float:
        """Average yes over all crops, each weighted by how far it is from undecided."""
        return synchronizability(torch.cat(list(crops)))


def load_synchronizability(
    name: str | Path, device: torch.device | str = "cpu"
) -> SynchronizabilityPredictor:
    """Load a synchronizability model by catalog name or folder.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it answers something else.
    """
    return SynchronizabilityPredictor(load_model(resolve(name)), str(name), device)
