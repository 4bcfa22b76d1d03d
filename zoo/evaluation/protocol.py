"""Evaluation: random offsets over rounds, with the controls that show what a model relies on."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.data.draws import DrawSource
from zoo.data.frontend import cut_audio, cut_frames
from zoo.data.source import Augment
from zoo.evaluation.metrics import chance, score_logits
from zoo.model import SyncModel, Tower
from zoo.timeline import Draw

BATCH = 64
CONTROLS = ("audio of another clip", "audio blanked", "video blanked")
Progress = Callable[[int, int], None]


@dataclass
class _Round:
    """Logits of one pass over the clips, by condition."""

    logits: dict[str, list[Tensor]] = field(default_factory=dict)
    draws: list[Draw] = field(default_factory=list)


@torch.no_grad()
def evaluate_rounds(
    model: SyncModel,
    source: DrawSource,
    rounds: int,
    *,
    with_controls: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw every clip once per round, at a fresh offset, and score the predictions.

    Args:
        model: in eval mode.
        source: the draws of a split, from the feature store or from files.
        rounds: passes over the clips; each gives a score of its own.
        with_controls: also score without the right audio or without either stream.
        progress: is told the rounds done and the rounds in all.

    Returns:
        ``pooled`` and ``per_round`` scores, their ``spread``, ``chance``, ``confusion`` counts,
        scores ``with_common_event`` where event times are known, and ``controls``.
    """
    runner = _Runner(model, source, with_controls)
    done = []
    for number in range(rounds):
        done.append(runner.round(number))
        if progress is not None:
            progress(number + 1, rounds)
    grid = model.config.grid
    draws = [draw for one in done for draw in one.draws]
    targets = torch.tensor([draw.target for draw in draws])
    pooled = {
        name: torch.cat([part for one in done for part in one.logits[name]])
        for name in done[0].logits
    }
    right = pooled.pop("")
    per_round = [
        score_logits(torch.cat(one.logits[""]), torch.tensor([d.target for d in one.draws]), grid)
        for one in done
    ]
    report: dict[str, Any] = {
        "num_clips": len(source.usable),
        "rounds": rounds,
        "pooled": score_logits(right, targets, grid).as_dict(),
        "per_round": [scores.as_dict() for scores in per_round],
        "spread": {
            name: statistics.pstdev(getattr(scores, name) for scores in per_round)
            for name in ("accuracy", "within_one", "mean_abs_error_s")
        },
        "chance": chance(grid).as_dict(),
        "confusion": _confusion(right, targets, grid.num_classes),
        "controls": {n: score_logits(x, targets, grid).as_dict() for n, x in pooled.items()},
    }
    shared = [has_common_event(source, draw) for draw in draws]
    if None not in shared:
        mask = torch.tensor(shared)
        report["common_event_share"] = float(mask.float().mean())
        report["with_common_event"] = score_logits(right[mask], targets[mask], grid).as_dict()
    return report


class _Runner:
    """Runs the rounds; keeps what the controls need."""

    def __init__(self, model: SyncModel, source: DrawSource, with_controls: bool) -> None:
        self.model, self.source = model, source
        self.blank = _blank_tokens(model) if with_controls else None

    def round(self, number: int) -> _Round:
        result = _Round()
        usable = self.source.usable
        # Batches of equal size, so that no clip is alone and lends its audio to itself.
        for chosen in np.array_split(usable, -(-len(usable) // BATCH)):
            items = [self.source.item(int(i), (4, number, int(i)), Augment()) for i in chosen]
            audio = self._tokens(self.model.audio, [item[0] for item in items])
            vision = self._tokens(self.model.vision, [item[1] for item in items])
            conditions = {"": (audio, vision)}
            if self.blank is not None:
                silence, still = (t.expand(len(audio), -1, -1) for t in self.blank)
                pairs = ((audio.roll(1, 0), vision), (silence, vision), (audio, still))
                conditions |= dict(zip(CONTROLS, pairs, strict=True))
            for name, (a, v) in conditions.items():
                logits = self.model.classify(a, v).float()
                result.logits.setdefault(name, []).append(logits.cpu())
            result.draws += [item[2] for item in items]
        return result

    def _tokens(self, tower: Tower, parts: list[Tensor]) -> Tensor:
        stacked = torch.stack(parts).to(self.model.device)
        return stacked if self.source.store is not None else self.model.tokens_of(tower, stacked)


def _blank_tokens(model: SyncModel) -> tuple[Tensor, Tensor]:
    """Encode silence and a black picture."""
    layout = model.config.layout
    audio, vision = model.audio_frontend, model.vision_frontend
    samples = torch.zeros(round(layout.covered_s * audio.sample_rate_hz)).numpy()
    shape = (round(layout.covered_s * vision.fps), vision.size, vision.size, 3)
    frames = torch.zeros(shape, dtype=torch.uint8).numpy()
    silence = cut_audio(samples, layout.starts_s, layout.segment_s, audio)
    black = cut_frames(frames, layout.starts_s, layout.segment_s, vision)
    silence, black = silence.to(model.device), black.to(model.device)
    return _crop_tokens(model.audio, silence), _crop_tokens(model.vision, black)


def _crop_tokens(tower: Tower, segments: Tensor) -> Float[Tensor, "1 SxT D"]:
    return tower.encode(segments).flatten(0, 1).unsqueeze(0)


def _confusion(logits: Tensor, targets: Tensor, num_classes: int) -> list[list[int]]:
    """Count predictions: row is the true class, column the predicted one."""
    flat = targets * num_classes + logits.argmax(1)
    counts = torch.bincount(flat, minlength=num_classes**2)
    return counts.view(num_classes, num_classes).tolist()


def has_common_event(source: DrawSource, draw: Draw) -> bool | None:
    """Say whether some event's onset lies in both crops; None where events are not known.

    Without one the two crops share nothing that could tell the offset.
    """
    events_s = source.clips.clips[draw.clip].events_s
    if events_s is None:
        return None
    first_s = max(draw.vision_start_s, draw.audio_start_s)
    last_s = min(draw.vision_start_s, draw.audio_start_s) + source.layout.covered_s
    return any(first_s <= t < last_s for t in events_s)
