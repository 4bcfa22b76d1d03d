"""What each stage costs at the tiny preset: one process, one thread, synthetic clips.

    python benchmarks/stages.py [--clips 24] [--out stages.json]

Prints JSON: seconds per render, per stage I step (and the loader's part of it), per clip encoded
into the feature store, and per stage II step from the store and online (one draw, scaled up).
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from plugins.synthetic.config import SyntheticConfig
from plugins.synthetic.folder import render_folder
from zoo.data.draws import DrawSource
from zoo.data.manifest import Manifest
from zoo.data.source import Augment, ClipSource
from zoo.data.store import FeatureStore, store_config
from zoo.data.store_build import build_store
from zoo.model import SyncModel
from zoo.modules import SegmentBatch
from zoo.training.engine import LocalEngine
from zoo.training.loader import Stage1Batches
from zoo.training.optimise import build_optimizer, take_step
from zoo.training.recipe import Recipe, build_recipe
from zoo.training.run import make_reader
from zoo.training.stage1 import Stage1
from zoo.training.stage2 import Stage2Batches, Tokeniser, ordinal_loss

WARM_UP, REPEATS = 2, 8


def median_seconds(work: Callable[[int], Any], repeats: int = REPEATS) -> float:
    times = []
    for number in range(WARM_UP + repeats):
        started = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started)
    return sorted(times[WARM_UP:])[repeats // 2]


def measure(manifest: Manifest, recipe: Recipe, folder: Path) -> dict[str, float]:
    from zoo.hooks import registry

    clips = list(manifest.clips)
    model = SyncModel(recipe.model)
    reader = make_reader(model, folder / "cache")
    source = ClipSource(clips, reader)
    for clip in clips:
        reader.read_whole(clip.path, clip.duration_s)
    stage1 = Stage1Batches(source, recipe.stage1_layout, recipe.stage1.clips, Augment(), 0)
    spec = registry().objective(recipe.stage1.objective.name)
    objective = spec.build(recipe.stage1.objective.parse(spec))
    module = Stage1(model, objective)
    optimizer = build_optimizer(module, recipe.stage1)
    batch = SegmentBatch(*stage1[0])

    def stage1_step(step: int) -> None:
        take_step(module, optimizer, module(batch)["loss"], step, recipe.stage1)

    result = {
        "stage1_load_s": median_seconds(stage1.__getitem__),
        "stage1_step_s": median_seconds(stage1_step),
    }
    config, device = store_config(model, "float16"), torch.device("cpu")
    started = time.perf_counter()
    for _ in build_store(folder / "store", model, reader, clips, config, device):
        pass
    result["store_clip_s"] = (time.perf_counter() - started) / len(clips)
    store = FeatureStore(folder / "store", clips, config)
    for name, features in (("store", store), ("online", None)):
        result[f"stage2_step_{name}_s"] = stage2_step_s(model, recipe, source, features, folder)
    result["store_speedup"] = result["stage2_step_online_s"] / result["stage2_step_store_s"]
    return result


def stage2_step_s(
    model: SyncModel, recipe: Recipe, source: ClipSource, store: FeatureStore | None, folder: Path
) -> float:
    layout, grid = recipe.model.layout, recipe.model.grid
    draws = DrawSource(source, layout, grid, 0, "train", store)
    batches = Stage2Batches(draws, recipe, Augment(), 0, 1)
    tokenise = Tokeniser(LocalEngine(folder), recipe, model, store is not None)
    assert model.head is not None
    optimizer = build_optimizer(model.head, recipe.stage2)

    def step(number: int) -> None:
        audio, vision, targets = tokenise(batches[number])
        loss = ordinal_loss(model.head(audio, vision), targets, 0.0)
        take_step(model.head, optimizer, loss, number, recipe.stage2)

    return median_seconds(step, REPEATS if store is not None else 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = build_recipe(extractor="ast_motionformer", head="sync", preset="tiny")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        config = SyntheticConfig(seed=5)
        manifest = render_folder(folder / "clips", config, options.clips, {"train": 1}, workers=1)
        render_s = (time.perf_counter() - started) / options.clips
        report = {
            "machine": {"processor": platform.processor() or platform.machine(), "threads": 1},
            "render_clip_s": render_s,
            **measure(manifest, recipe, folder),
        }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
