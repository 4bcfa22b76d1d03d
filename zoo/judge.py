"""Whether the sound of a clip can be synchronized with its picture at all."""

from __future__ import annotations

from pathlib import Path

import torch

from zoo.catalog import resolve
from zoo.device import find_device
from zoo.errors import ConfigError
from zoo.estimate import certainty
from zoo.folder import load_model
from zoo.model import SyncModel
from zoo.windows import Progress, SegmentEncoder, Streams, plan_windows, score_windows

YES = 1  # the logits are (no, yes)


class Judge:
    """A model with a synchronizability head, ready for files.

    Raises:
        ConfigError: if the model answers something else.
    """

    def __init__(self, model: SyncModel, name: str, device: torch.device | str = "cpu") -> None:
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
        """Return the probability that a clip can be synchronized.

        It is the mean over crops along the clip, each weighted by how far it is from undecided.

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
        own = self.model.config.grid.offsets_s
        crops = torch.stack([p for _, p in score_windows(encoder, plan, own, progress)])  # (W, 2)
        weights = certainty(crops)
        return float((weights * crops[:, YES]).sum() / weights.sum())


def load_judge(name: str | Path, device: torch.device | str = "cpu") -> Judge:
    """Load a synchronizability model by catalog name or folder.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it answers something else.
    """
    return Judge(load_model(resolve(name)), str(name), device)
