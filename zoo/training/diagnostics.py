"""A last look at a trained head on validation samples: what the plots of a run are drawn from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.data.augment import Augment
from zoo.files import write_whole
from zoo.models.model import Model
from zoo.models.segments import Tokens
from zoo.timeline import Sample
from zoo.training.finetuning import Finetuning, collate, fixed_samples

FINDINGS = "findings.json"
EXAMPLES = 3  # clips that are looked at one by one
MAX_BATCHES = 64  # enough for a confusion matrix; decoding online samples takes long


@dataclass(frozen=True)
class Example:
    """One validation sample, and what the model makes of it.

    Attributes:
        model: that was trained.
        clip: file name.
        sample: where it was cut, and the right answer.
        audio: tokens.
        vision: tokens.
        outputs: of the head ``(K,)``.
    """

    model: Model
    clip: str
    sample: Sample
    audio: Tokens
    vision: Tokens
    outputs: Float[Tensor, K]

    def similarity(self) -> list[list[float]] | None:
        """Compare all video segments (rows) with all audio segments; None if that cannot be."""
        if not self.model.can_compare or self.audio.num_segments == 1:
            return None
        objective = self.model.objective
        assert objective is not None
        vision = objective.embed("vision", self.vision.per_segment)  # (S, E)
        audio = objective.embed("audio", self.audio.per_segment)
        return rounded(vision @ audio.T)


@torch.no_grad()
def diagnose(stage: Finetuning) -> dict[str, Any]:
    """Run the head on the fixed validation samples and on a few examples.

    Returns:
        What the task makes of them; see `Task.diagnose`.
    """
    model, task, valid = stage.model, stage.task, stage.valid
    model.to(stage.engine.device).eval()
    outputs, targets = [], []
    for read in islice(fixed_samples(valid, stage.recipe), MAX_BATCHES):
        tokens, wanted = stage.feeder.tokens(read)
        outputs.append(model.answer(*tokens).float().cpu())
        targets.append(wanted.cpu())
    examples = [_example(stage, clip) for clip in valid.usable[:EXAMPLES]]
    return task.diagnose(torch.cat(outputs), torch.cat(targets), examples)


def _example(stage: Finetuning, clip: int) -> Example:
    valid = stage.valid
    item = valid.item(clip, (3, 0, clip), Augment())
    (audio, vision), _ = stage.feeder.tokens(collate([item], stage.task))
    outputs = stage.model.answer(audio, vision)[0]
    name = valid.clips.clips[item[2].clip].path.name
    return Example(stage.model, name, item[2], audio, vision, outputs)


def rounded(values: Tensor) -> Any:
    """Return numbers as JSON keeps them."""
    return torch.round(values.float().cpu(), decimals=5).tolist()


def write_findings(findings: dict[str, Any], run: Path) -> None:
    """Keep findings beside the run."""
    write_whole(run / FINDINGS, json.dumps(findings) + "\n")
