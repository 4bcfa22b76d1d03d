"""Predict one clip in a fresh process and print seconds and peak memory: MODEL CLIP PRECISION."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import cast

import torch

from zoo.contracts import Precision
from zoo.inference.load import load_offsets
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.models.model import Model
from zoo.training.recipe_builder import build_recipe


def predictor(name: str, precision: Precision) -> OffsetPredictor:
    """Load a model of the catalog, or make one with the published sizes: ``paper``."""
    if name != "paper":
        return load_offsets(name, synchronizability="none", precision=precision)
    recipe = build_recipe(extractor="ast_motionformer", head="sync", preset="paper")
    model = Model(recipe.model)
    model.precision = precision
    return OffsetPredictor(model, name)


def peak_bytes() -> int:
    """Return the most memory this program held; getrusage would count its parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    torch.set_num_threads(1)
    model, clip, precision = sys.argv[1:]
    loaded = predictor(model, cast(Precision, precision))
    started = time.process_time(), time.perf_counter()
    prediction = loaded.predict(clip)
    answer = {
        "cpu_s": round(time.process_time() - started[0], 3),
        "wall_s": round(time.perf_counter() - started[1], 3),
        "peak_bytes": peak_bytes(),
        "crops": len(prediction.windows),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
