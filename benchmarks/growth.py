"""What does a prediction take, and how do costs grow?

    python benchmarks/growth.py [--no-paper]

Seconds and peak memory of a prediction for clips of 10 to 80 s, each in a process of its own (one
thread); of the full-size model for 10 s; of the head and the encoder for more segments; and clips
per second of the loader for more workers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import results
from benchmarks.common.timing import interleave, seconds, wall_seconds
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.data.augment import Augment
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Clip
from zoo.data.samples import SampleSource
from zoo.models.model import Model
from zoo.models.segments import Segments
from zoo.training.finetuning import Stage2Batches
from zoo.training.job import make_reader
from zoo.training.loader import in_order
from zoo.training.recipe_builder import build_recipe

LENGTHS_S, SEGMENTS, WORKERS = (10.0, 20.0, 40.0), (7, 14, 28), (0, 1, 2)
MODEL = "tiny-synthetic"


def main() -> None:
    parser = results.parser(__doc__, "growth", rounds=3)
    parser.add_argument("--no-paper", action="store_true", help="leave out the full-size model")
    parser.add_argument("--no-workers", action="store_true", help="leave out the loader's workers")
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS_S, help="seconds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        clips = {
            length_s: _render(Path(name) / f"{length_s:g}", length_s, 1)[0]
            for length_s in options.lengths
        }
        first = clips[options.lengths[0]]
        result: dict[str, Any] = {
            "prediction": [
                {"model": MODEL, "clip_s": length_s, **predict(MODEL, clip, options.rounds)}
                for length_s, clip in clips.items()
            ]
        }
        for precision in () if options.no_paper else ("fp32", "bf16"):
            row = predict("paper", first, 1, precision)
            named = {"model": f"paper, {precision}", "clip_s": first.duration_s}
            result["prediction"].append({**named, **row})
        result["segments"] = segments(options.rounds)
        if not options.no_workers:
            result["workers"] = workers(_render(Path(name) / "many", 10.0, 8), options.rounds)
    results.write(options.out, torch.device("cpu"), result)


def _render(folder: Path, length_s: float, num: int) -> list[Clip]:
    config = SyntheticConfig(seed=3, size=256, seconds=length_s)
    return list(render_folder(folder, config, num, {"train": 1}, workers=1).clips)


def predict(model: str, clip: Clip, rounds: int, precision: str = "fp32") -> dict[str, float]:
    """Return medians over fresh processes."""
    program = [sys.executable, "-m", "benchmarks.common.predict_once"]
    command = [*program, model, str(clip.path), precision]
    answers = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return {name: sorted(a[name] for a in answers)[rounds // 2] for name in answers[0]}


def segments(rounds: int) -> dict[str, dict[str, float]]:
    """Return seconds of encoder and head for one crop of more and more segments."""
    works: dict[str, Callable[[], object]] = {}
    for num in SEGMENTS:
        overrides = [f"layout.num_segments={num}"]
        recipe = build_recipe(
            extractor="ast_motionformer", head="sync", preset="tiny", overrides=overrides
        )
        model = Model(recipe.model).eval()
        parts = (model.io.audio, model.io.vision)
        inputs = Segments(*(torch.randn(1, num, *part.segment_shape) for part in parts))
        works[f"encoder {num}"] = _encoding(model, inputs)
        works[f"head {num}"] = _head(model, inputs)
    times = seconds(interleave(works, 3 * rounds))
    return {
        str(num): {part: times[f"{part} {num}"] for part in ("encoder", "head")} for num in SEGMENTS
    }


def _encoding(model: Model, inputs: Segments) -> Callable[[], object]:
    return torch.no_grad()(lambda: model.encoder(inputs))


def _head(model: Model, inputs: Segments) -> Callable[[], object]:
    with torch.no_grad():
        tokens = model.encoder(inputs)
    return torch.no_grad()(lambda: model.answer(*tokens))


def workers(clips: list[Clip], rounds: int) -> dict[str, float]:
    """Return clips per second on the wall, once the workers have started, by their number."""
    recipe = build_recipe(
        extractor="ast_motionformer",
        preset="tiny",
        overrides=["stage2.batch=8", "data.features=online"],
    )
    model = Model(recipe.model)
    source = ClipSource(clips, make_reader(model))
    long = [replace(clip, duration_s=min(clip.duration_s, 10.0)) for clip in source.clips]
    source = replace(source, clips=long)
    assert model.task is not None
    samples = SampleSource(source, recipe.model.layout, model.task, 0, "train")
    dataset = Stage2Batches(samples, recipe, Augment(), 0, 1)
    steps = 4 * rounds
    rates = {}
    for num in WORKERS:
        loader = iter(in_order(dataset, range(steps + 4), num))
        for _ in range(4):  # what was read ahead while the others started
            next(loader)
        started = wall_seconds()
        for _ in loader:
            pass
        rates[str(num)] = round(recipe.stage2.batch * steps / (wall_seconds() - started), 2)
    return rates


if __name__ == "__main__":
    main()
