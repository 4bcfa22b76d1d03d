"""What does a sample of stage II cost, online and from the feature store?

    python benchmarks/stages.py [--clips 24]

The tokens of a batch at the tiny preset: from the store; online from files and from the cache of
decoded clips; and the published way, which decodes whole clips and computes unfused extractors for
every sample.  To each is added the training step of a head.  Also what the store costs per clip,
and a step of stage I.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import results
from benchmarks.common.timing import Times, cpu_seconds, interleave, ratio, seconds
from benchmarks.reference.model import reference_encoders
from benchmarks.reference.reader import read_sample
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.data.augment import Augment
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Manifest
from zoo.data.samples import SampleSource
from zoo.data.sampling import slot_rng
from zoo.data.store import FeatureStore, store_config
from zoo.data.store_build import build_store
from zoo.models.device import keep_memory
from zoo.models.model import Model
from zoo.models.segments import Tokens
from zoo.training.engine import LocalEngine
from zoo.training.finetuning import Feeder, Stage2Batches
from zoo.training.job import make_reader
from zoo.training.optimise import build_optimizer, take_step
from zoo.training.pretraining import Pretraining
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe

Batch = tuple[tuple[Tokens, Tokens], Tensor]
Feed = Callable[[int], Batch]
HEADS = ("sync", "correlation")


def main() -> None:
    parser = results.parser(__doc__, "stages")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--batch", type=int, default=64, help="samples of a step, as in the preset")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # as training does
    settings = [f"stage2.batch={options.batch}"]
    recipe = build_recipe(
        extractor="ast_motionformer", head="sync", preset="tiny", overrides=settings
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = SyntheticConfig(seed=5)
        started = time.process_time()
        manifest = render_folder(folder / "clips", config, options.clips, {"train": 1}, workers=1)
        render_s = (time.process_time() - started) / options.clips
        result = measure(manifest, recipe, folder, options.rounds)
    results.write(options.out, torch.device("cpu"), {"render_clip_s": render_s, **result})


def measure(manifest: Manifest, recipe: Recipe, folder: Path, rounds: int) -> dict[str, Any]:
    model = Model(recipe.model)
    files = ClipSource(list(manifest.clips), make_reader(model))
    cached = replace(files, reader=make_reader(model, folder / "cache"))
    for clip in cached.clips:
        cached.reader.read_vision(clip.path, 0.0, 1.0)
        cached.reader.read_audio(clip.path, 0.0, 1.0)
    store, store_clip_s = _store(model, files, folder)
    feeds = {
        "store": _ours(model, recipe, files, store),
        "online": _ours(model, recipe, files, None),
        "online_cache": _ours(model, recipe, cached, None),
        "published": _published(model, recipe, files),
    }
    held: list[Batch] = [feeds["store"](0)]
    works = {name: _feeding(feed) for name, feed in feeds.items()}
    works |= {f"{name} head": _step(name, held) for name in HEADS}
    times = interleave(works, rounds)
    rows = [_row(name, times, recipe.stage2.batch, store_clip_s) for name in HEADS]
    return {
        "batch": recipe.stage2.batch,
        "seconds_of_a_batch": seconds(times),
        "seconds_to_store_a_clip": store_clip_s,
        "rows": rows,
        "stage1": _stage1(model, recipe, cached, folder, rounds),
    }


def _row(head: str, times: Times, batch: int, store_clip_s: float) -> dict[str, Any]:
    """Add a head's step to every way to come by tokens."""
    steps = times[f"{head} head"]
    whole = {
        name: [a + b for a, b in zip(times[name], steps, strict=True)]
        for name in ("store", "online", "online_cache", "published")
    }
    per_sample = {name: round(value / batch, 6) for name, value in seconds(whole).items()}
    saved_s = per_sample["online"] - per_sample["store"]
    return {
        "head": head,
        "seconds_of_a_sample": per_sample,
        "epochs_that_pay_for_the_store": round(store_clip_s / saved_s, 1),
        "store_against_online": ratio(whole, "online", "store"),
        "store_against_online_cache": ratio(whole, "online_cache", "store"),
        "store_against_published": ratio(whole, "published", "store"),
        "online_against_published": ratio(whole, "published", "online"),
    }


def _store(model: Model, source: ClipSource, folder: Path) -> tuple[FeatureStore, float]:
    config, cpu = store_config(model, "float16"), torch.device("cpu")
    started = cpu_seconds()
    for _ in build_store(folder / "store", model, source.reader, source.clips, config, cpu):
        pass
    clip_s = (cpu_seconds() - started) / len(source.clips)
    return FeatureStore(folder / "store", source.clips, config), round(clip_s, 4)


def _samples(model: Model, source: ClipSource, store: FeatureStore | None = None) -> SampleSource:
    assert model.task is not None
    return SampleSource(source, model.config.layout, model.task, 0, "train", store)


def _ours(model: Model, recipe: Recipe, source: ClipSource, store: FeatureStore | None) -> Feed:
    samples = _samples(model, source, store)
    batches = Stage2Batches(samples, recipe, Augment(), 0, 1)
    feeder = Feeder(torch.device("cpu"), recipe, model, samples)
    return lambda number: feeder.tokens(batches[number])


def _published(model: Model, recipe: Recipe, source: ClipSource) -> Feed:
    """Decode whole clips, and run the extractors of the reference."""
    samples, encoders = _samples(model, source), reference_encoders(model)
    layout, clips, batch = recipe.model.layout, source.clips, recipe.stage2.batch
    declared = (model.io.audio.tokens, model.io.vision.tokens)

    @torch.no_grad()
    def feed(number: int) -> Batch:
        rng = torch.Generator().manual_seed(number)
        chosen = torch.randint(len(clips), (batch,), generator=rng).tolist()
        found = [samples.sample(i, slot_rng(0, 2, number, i), Augment()) for i in chosen]
        pairs = [
            read_sample(
                clips[one.clip].path, one, layout, model.vision_frontend, model.audio_frontend
            )
            for one in found
        ]
        audio, vision = (
            Tokens.of_segments(encode(torch.cat(side)), layout.num_segments, tokens)
            for side, encode, tokens in zip(
                zip(*pairs, strict=True), encoders, declared, strict=True
            )
        )
        return (audio, vision), torch.tensor([one.target for one in found])

    return feed


def _feeding(feed: Feed) -> Callable[[], Batch]:
    numbers = count()
    return lambda: feed(next(numbers))


def _step(head: str, held: list[Batch]) -> Callable[[], None]:
    """Train a head on tokens that are there."""
    recipe = build_recipe(extractor="ast_motionformer", head=head, preset="tiny")
    model = Model(recipe.model)
    head, task = model.head, model.task
    assert head is not None
    assert task is not None
    optimizer = build_optimizer(head, recipe.stage2)
    tokens, targets = held[0]

    def step() -> None:
        loss = task.loss(head(*tokens), targets, 0.0)
        take_step(head, optimizer, loss, 0, recipe.stage2)

    return step


def _stage1(
    model: Model, recipe: Recipe, source: ClipSource, folder: Path, rounds: int
) -> dict[str, float]:
    """Measure a step of stage I and reading its batch from the cache, seconds."""
    stage = Pretraining(LocalEngine(folder), recipe, model, source, source)
    batches = stage.dataset(0, 1)
    optimizer = build_optimizer(stage.module, recipe.stage1)
    held: list[tuple[Tensor, Tensor]] = []
    numbers = count()

    def load() -> None:
        held[:] = [batches[next(numbers)]]

    def step() -> None:
        loss, _ = stage.loss(stage.module, stage.feed(held[0]), 0)
        take_step(stage.module, optimizer, loss, 0, recipe.stage1)

    return seconds(interleave({"load": load, "step": step}, rounds))


if __name__ == "__main__":
    main()
