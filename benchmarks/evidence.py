"""Does attribution find the events?  Area under the ROC curve on synthetic clips.

    python benchmarks/evidence.py --models tiny-synthetic tiny-synthetic-sync --clips 60

Renders fresh sparse clips of a seed that no shipped model has seen.  A chunk of 0.1 s in which an
event begins is a positive; all other chunks of the crop are negatives.  Clips that the model gets
wrong, and crops without an event, are left out and counted.  60 clips, 2 models, tokens: 3 minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common.results import parser, write
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.attribution import Attribution, Options, attribute
from zoo.data.manifest import Clip
from zoo.evaluation.ranking import roc_auc
from zoo.inference.load import load_offsets
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.timeline import chunk_at

SEED, START_S = 777_001, 1.92  # the crop lies in the middle of a clip of 9 s
TOLERANCE_S = 0.2
MODALITIES = ("audio", "vision")


def main() -> None:
    """Measure every model and way that is asked for."""
    arguments = parser(__doc__, "evidence")
    arguments.add_argument("--models", nargs="+", default=["tiny-synthetic", "tiny-synthetic-sync"])
    arguments.add_argument("--clips", type=int, default=20)
    arguments.add_argument("--masks", type=int, default=1000)
    ways, others = ["tokens", "content"], ["mean", "other"]
    arguments.add_argument("--replace", nargs="+", default=ways[:1], choices=ways)
    arguments.add_argument("--against", nargs="+", default=others[:1], choices=others)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clips"
        shares = {"train": 0.0, "valid": 0.0, "test": 1.0}
        manifest = render_folder(folder, SyntheticConfig(seed=SEED), chosen.clips, shares)
        rows = [
            measure(load_offsets(model, synchronizability="none"), manifest.clips, against, options)
            for model in chosen.models
            for replace in chosen.replace
            for against in (None if name == "mean" else folder for name in chosen.against)
            for options in [Options(replace=replace, masks=chosen.masks)]
        ]
    result = {"clips": chosen.clips, "masks": chosen.masks, "rows": rows}
    write(chosen.out, torch.device("cpu"), result)


def measure(
    predictor: OffsetPredictor, clips: tuple[Clip, ...], against: Path | None, options: Options
) -> dict[str, Any]:
    """Return the mean area over clips, with its standard error, for either modality."""
    areas: dict[str, list[float]] = {modality: [] for modality in MODALITIES}
    keeps: dict[str, list[float]] = {modality: [] for modality in MODALITIES}
    for clip in clips:
        found = attribute(predictor, clip.path, against=against, start_s=START_S, options=options)
        truth = _events(found, clip)
        if abs(found.offset_s) > TOLERANCE_S or not truth.any():
            continue
        for modality in MODALITIES:
            evidence = getattr(found, modality)
            areas[modality].append(roc_auc(np.asarray(evidence.recorded), truth))
            keeps[modality].append(evidence.keep)
    row: dict[str, Any] = {
        "model": predictor.name,
        "replace": options.replace,
        "against": "mean" if against is None else "other",
        "used": len(areas["audio"]),
    }
    for modality in MODALITIES:
        values = np.asarray(areas[modality])
        row[modality] = {
            "auc": round(float(values.mean()), 3),
            "standard_error": round(float(values.std(ddof=1) / np.sqrt(len(values))), 3),
            "keep": round(float(np.mean(keeps[modality])), 2),
        }
    return row


def _events(found: Attribution, clip: Clip) -> np.ndarray:
    """Return the chunks in which an event begins, ``(C,)``."""
    truth = np.zeros(len(found.chunks_s), dtype=bool)
    times_s = np.asarray([t for t in clip.events_s or () if found.start_s <= t < found.end_s])
    truth[chunk_at(times_s - found.start_s, found.chunk_s, len(truth))] = True
    return truth


if __name__ == "__main__":
    main()
