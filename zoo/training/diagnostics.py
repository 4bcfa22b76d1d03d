"""A last look at a trained head on validation draws: what the pictures of a run are drawn from."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.data.clip_source import Augment
from zoo.data.samples import DrawSource
from zoo.evaluation.ranking import roc_auc, roc_curve
from zoo.models.model import SyncModel, Tower
from zoo.training.engine import Engine
from zoo.training.recipe import Recipe
from zoo.training.stage2 import Tokeniser, collate, fixed_draws

FINDINGS = "findings.json"
EXAMPLES = 3  # clips of the similarity matrices and curves
MAX_BATCHES = 64  # enough for a confusion matrix; decoding online draws takes long
CURVE_STEP_S = 0.02


@torch.no_grad()
def examine(engine: Engine, recipe: Recipe, model: SyncModel, valid: DrawSource) -> dict[str, Any]:
    """Run the head on the fixed validation draws and on a few examples.

    Returns:
        ``confusion`` counts (row: true class, column: predicted one) and ``examples`` with the
        similarity of the audio and video segments, where they can be compared, and, where the head
        has one, its curve.  Of a head that answers whether a crop can be synchronized: its ROC
        curve.
    """
    model.to(engine.device).eval()
    tokenise = Tokeniser(engine, recipe, model, valid.store is not None)
    logits, targets = [], []
    for batch in islice(fixed_draws(valid, recipe), MAX_BATCHES):
        audio, vision, wanted = tokenise(batch)
        logits.append(model.classify(audio, vision).float().cpu())
        targets.append(wanted.cpu())
    answers, truth = torch.cat(logits), torch.cat(targets)
    k = answers.shape[1]
    flat = torch.bincount(truth * k + answers.argmax(1), minlength=k * k)
    confusion = flat.view(k, k)
    if recipe.task == "synchronizability":
        return {"confusion": confusion.tolist(), **_roc(answers, truth)}
    return {
        "offsets_s": list(recipe.model.grid.offsets_s),
        "segment_starts_s": recipe.model.layout.starts_s,
        "confusion": confusion.tolist(),
        "examples": [_example(tokenise, model, valid, clip) for clip in valid.usable[:EXAMPLES]],
    }


def _roc(logits: Float[Tensor, "N 2"], targets: Int[Tensor, N]) -> dict[str, Any]:
    """Return the ROC curve of the validation draws, and what it comes to."""
    trust, truth = logits.softmax(1)[:, 1].double().numpy(), targets.bool().numpy()
    false_rate, true_rate = roc_curve(trust, truth)
    right = float((logits.argmax(1) == targets).double().mean())
    return {
        "pooled": {"num": len(truth), "accuracy": right, "roc_auc": roc_auc(trust, truth)},
        "roc": {
            "false_positive_rate": _listed(false_rate),
            "true_positive_rate": _listed(true_rate),
        },
    }


def _listed(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]


def _example(tokenise: Tokeniser, model: SyncModel, valid: DrawSource, clip: int) -> dict[str, Any]:
    item = valid.item(clip, (3, 0, clip), Augment())
    audio, vision, _ = tokenise(collate([item]))  # (1, S*T, D)
    example: dict[str, Any] = {
        "clip": valid.clips.clips[item[2].clip].path.name,
        "offset_s": valid.grid.offsets_s[item[2].target],
        "probabilities": _rounded(model.classify(audio, vision).softmax(1)[0]),
    }
    if model.can_compare and model.config.layout.num_segments > 1:
        similarity = _segments(model.vision, vision) @ _segments(model.audio, audio).T  # (S, S)
        example["similarity"] = _rounded(similarity)
    curve = getattr(model.head, "curve", None)
    if curve is not None:
        num = round((valid.grid.max_s - valid.grid.min_s) / CURVE_STEP_S) + 1
        offsets_s = torch.linspace(valid.grid.min_s, valid.grid.max_s, num, device=audio.device)
        example["curve"] = _rounded(curve(audio, vision, offsets_s)[0])
    return example


def _segments(tower: Tower, tokens: Tensor) -> Tensor:
    per_segment = tower.tokens.num_tokens
    return tower.embed(tokens[0].unflatten(0, (-1, per_segment)))  # (S, E)


def _rounded(values: Tensor) -> Any:
    return torch.round(values.float().cpu(), decimals=5).tolist()


def write_findings(findings: dict[str, Any], run: Path) -> None:
    """Keep findings beside the run."""
    (run / FINDINGS).write_text(json.dumps(findings) + "\n")
