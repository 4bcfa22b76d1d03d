"""A whole run, as every worker executes it: stage I, feature store, stage II, model folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from zoo.catalog.model_folder import keep_calibration, load_model, save_model
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Clip, Manifest, Split
from zoo.data.samples import SampleSource
from zoo.data.store import (
    FeatureStore,
    is_sealed,
    seal,
    store_config,
    store_key,
)
from zoo.data.store_build import build_store
from zoo.errors import TrainingError, option
from zoo.files import sha256_of
from zoo.media.apart import reading_apart
from zoo.models.device import add_up_in_order, keep_memory
from zoo.models.model import OBJECTIVE, Model
from zoo.models.modules import Objective
from zoo.training.checkpoint import find_whole, read_meta
from zoo.training.diagnostics import diagnose, write_findings
from zoo.training.engine import Engine, wait_for_all
from zoo.training.finetuning import Finetuning
from zoo.training.fit import fit
from zoo.training.pretraining import Pretraining
from zoo.training.recipe import Recipe
from zoo.training.runlog import RunLog, quarantine, read_quarantine

log = logging.getLogger(__name__)
STAGE1_FOLDER, FEATURES_FOLDER, CACHE_FOLDER = "stage1", "features", "cache"
MANIFEST_HASH = "manifest.sha256"
_SPLITS: tuple[Split, Split] = ("train", "valid")


@dataclass(frozen=True)
class Job:
    """What to run and where.

    Attributes:
        recipe: what is learnt and how.
        manifest: Parquet file of the clips.
        run: folder of the run, on storage that all workers share.
        stages: which of 1 and 2 to train.
        init: model folder whose encoder to start from, or None; see `zoo.training.start`.  Stage 2
            alone needs one, unless it trains the encoder.
    """

    recipe: Recipe
    manifest: Path
    run: Path
    stages: tuple[int, ...]
    init: Path | None = None


@reading_apart()
def run_job(engine: Engine, job: Job) -> None:
    """Run a job on this worker.

    Raises:
        ZooError: whatever is wrong with the input, in one sentence.
    """
    recipe = job.recipe
    keep_memory()
    add_up_in_order(engine.device)
    torch.manual_seed(recipe.seed)
    train, valid = clips_of(job)
    given = {} if 2 in job.stages else {"head": None}  # which need not fit
    model = Model(recipe.model.model_copy(update=given))
    model.precision = recipe.precision
    is_read_often = 1 in job.stages or recipe.data.features == "online"
    cache = job.run / CACHE_FOLDER if recipe.data.cache and is_read_often else None
    reader = make_reader(model, cache)
    runlog = RunLog(job.run, engine.rank)
    checkpoint, num_damaged = find_whole(engine.checkpoints())
    meta = read_meta(checkpoint) if checkpoint is not None else {"stage": 0, "step": 0}
    stage = meta["stage"]
    if num_damaged:
        runlog.write(stage, meta["step"], "damaged", checkpoints=num_damaged)
    on_broken = partial(quarantine, job.run)
    sources = ClipSource(train, reader, on_broken), ClipSource(valid, reader, on_broken)
    has_head = False
    if 1 in job.stages and not (job.run / STAGE1_FOLDER / "model.json").exists():
        _pretrain(engine, job, model, sources, runlog, checkpoint if stage == 1 else None)
    else:
        runlog.rewind(*((1, recipe.stage1.steps) if stage < 2 else (2, meta["step"])))
        folder = job.run / STAGE1_FOLDER if 1 in job.stages else job.init
        if folder is not None:
            begun = load_model(folder)
            take_encoder(model, begun)
            has_head = _start_head(model, begun)
    if 2 in job.stages:
        samples = _sample_sources(engine, job, model, sources, runlog, is_new=stage < 2)
        finetuning = Finetuning(engine, recipe, model, *samples, is_fresh=not has_head)
        fit(engine, finetuning, runlog, checkpoint if stage == 2 else None)
        best = finetuning.end()
        if recipe.stage2.encoder == "trained":  # away from what a decoder reads
            model.beside.pop(OBJECTIVE, None)
        if engine.rank == 0:
            _keep(job, finetuning, best)
    else:
        if recipe.data.features == "store":  # for every head that will start from here
            for split, source in zip(_SPLITS, sources, strict=True):
                _open_store(engine, job, model, source, runlog, split, is_new=True)
        if engine.rank == 0:
            save_model(job.run, model)
    if engine.rank == 0:
        runlog.write(max(job.stages), 0, "done", quarantined=len(read_quarantine(job.run)))
    runlog.close()
    wait_for_all()


def _keep(job: Job, finetuning: Finetuning, best: dict[str, float]) -> None:
    """Keep a trained model, what its probabilities are worth, and what its plots need."""
    model = finetuning.model.eval()
    save_model(job.run, model, scores={"valid": best})
    if not job.recipe.overfit and finetuning.task.calibrate(model, finetuning.valid):
        keep_calibration(job.run, model)
    write_findings(diagnose(finetuning), job.run)


def _pretrain(
    engine: Engine,
    job: Job,
    model: Model,
    sources: tuple[ClipSource, ClipSource],
    runlog: RunLog,
    checkpoint: Path | None,
) -> None:
    """Run stage I, from what the run starts from, and keep what it and its objective learn."""
    start = None if job.init is None else load_model(job.init)
    if start is not None:
        take_encoder(model, start)
    pretraining = Pretraining(engine, job.recipe, model, *sources)
    if start is not None:
        take_objective(pretraining.objective, job.recipe.objective.name, start)
    fit(engine, pretraining, runlog, checkpoint)
    model.beside[OBJECTIVE] = pretraining.objective.state_dict
    if engine.rank == 0:
        save_model(job.run / STAGE1_FOLDER, without_head(model))
    wait_for_all()


def take_encoder(model: Model, start: Model) -> None:
    """Take over the encoder of another model, and what their common objective has learnt on it."""
    model.encoder.take(start.encoder)
    if OBJECTIVE in start.beside and start.config.objective == model.config.objective:
        model.beside[OBJECTIVE] = start.beside[OBJECTIVE]


def take_objective(objective: Objective, name: str, start: Model) -> bool:
    """Take over what the same objective has learnt, such as a decoder; say if so.

    Args:
        objective: to be trained on.
        name: that it is registered by.
        start: the model that a run starts from.
    """
    known = start.config.objective
    if OBJECTIVE not in start.beside or known is None or known.name != name:
        return False
    theirs, own = start.beside[OBJECTIVE](), objective.state_dict()
    if {n: x.shape for n, x in theirs.items()} != {n: x.shape for n, x in own.items()}:
        log.warning("the objective '%s' has other sizes than before, and starts afresh", name)
        return False
    objective.load_state_dict(theirs)
    return True


def _start_head(model: Model, start: Model) -> bool:
    """Start a head from a trained one where the task asks for that; say if so."""
    if model.head is None or start.head is None or model.task is None:
        return False
    if not model.task.spec.fine_tunes:
        return False
    model.head.start_from(start.head)
    return True


def make_reader(model: Model, cache: Path | None = None) -> ClipReader:
    """Return a reader for the front ends of a model."""
    return ClipReader(model.vision_frontend, model.audio_frontend, cache, io=model.io)


def without_head(model: Model) -> Model:
    """Return the same encoder without a head: the outcome of stage I."""
    bare = Model(model.config.model_copy(update={"head": None}))
    take_encoder(bare, model)
    return bare


def clips_of(job: Job) -> tuple[list[Clip], list[Clip]]:
    """Return the clips to train on and those to validate on.

    Raises:
        ManifestError: if the manifest cannot be read or holds no clip to train on.
        TrainingError: if it holds none to validate on, or has changed since the run began.
    """
    kept = job.run / MANIFEST_HASH
    if kept.exists() and kept.read_text().strip() != sha256_of(job.manifest):
        raise TrainingError(
            f"{job.manifest} has changed since the run in {job.run} began, which would go on with "
            "other clips",
            "put it back, or begin a new run",
        )
    manifest = Manifest.read(job.manifest)
    if job.recipe.overfit:
        chosen = list(manifest.clips)[: job.recipe.overfit]
        return chosen, chosen
    train = list(manifest.select("train").clips)
    if not any(clip.split == "valid" for clip in manifest.clips):
        raise TrainingError(
            f"{job.manifest} has no clip in split 'valid'; make one with: "
            f"zoo data prepare folder {option('valid')} 0.1"
        )
    return train, list(manifest.select("valid").clips)


def _sample_sources(
    engine: Engine,
    job: Job,
    model: Model,
    sources: tuple[ClipSource, ClipSource],
    runlog: RunLog,
    *,
    is_new: bool,
) -> tuple[SampleSource, SampleSource]:
    """Return the samples of both splits, from the feature store if the recipe says so.

    ``is_new`` says that stage II begins, so that the check of its features is yet to be logged.
    """
    task, recipe = model.task, job.recipe
    assert task is not None

    def samples(split: Split, source: ClipSource) -> SampleSource:
        store = None
        if recipe.data.features == "store":
            store = _open_store(engine, job, model, source, runlog, split, is_new=is_new)
        layout, hop_s = recipe.model.layout, recipe.vision_hop_s
        share = recipe.stage2.share if split == "train" else 1.0
        made = SampleSource(source, layout, task, recipe.seed, split, store, hop_s, share)
        if is_new:
            numbers = {"usable": len(made.usable), "short": made.num_short}
            if made.num_refused:
                numbers["refused"] = made.num_refused
            runlog.write(2, 0, "clips", split=split, needed_s=made.needed_s, **numbers)
        return made

    return samples("train", sources[0]), samples("valid", sources[1])


def _open_store(
    engine: Engine,
    job: Job,
    model: Model,
    source: ClipSource,
    runlog: RunLog,
    split: Split,
    *,
    is_new: bool,
) -> FeatureStore:
    """Build or find the store of a split, and log what it is worth if that is new."""
    store = ensure_store(engine, job, model, source, runlog, split)
    if engine.rank == 0:
        for index, reason in store.skipped.items():
            quarantine(job.run, store.clips[index].path, reason)
    if is_new:
        total = len(source.clips)
        runlog.write(2, 0, "features", split=split, clips=total, total=total)
        checked = model.task.check_features(model, store) if model.task is not None else {}
        if split == "valid" and checked:
            runlog.write(2, 0, "sliding", **checked)
    return store


def ensure_store(
    engine: Engine, job: Job, model: Model, source: ClipSource, runlog: RunLog, split: Split
) -> FeatureStore:
    """Build the store of a split, or find it beside this run or the one it starts from."""
    recipe = job.recipe
    copies = recipe.data.store_copies if split == "train" else 0
    config = store_config(
        model, recipe.data.store_dtype, recipe.vision_hop_s, copies, recipe.stage2.flip
    )
    model.to(engine.device)
    key = store_key(model, config, source.clips)
    folders = [job.run / FEATURES_FOLDER / key]
    if job.init is not None:
        folders.insert(0, job.init / FEATURES_FOLDER / key)
    for folder in folders:
        if is_sealed(folder, key):
            return FeatureStore(folder, source.clips, config)
    folder = folders[-1]
    total, shown = len(source.clips), 0
    for done in build_store(
        folder,
        model,
        source.reader,
        source.clips,
        config,
        engine.device,
        rank=engine.rank,
        world_size=engine.world_size,
        load=partial(engine.load, workers=recipe.data.loader_workers),
    ):
        clips = min(total, int(done * engine.world_size))
        if shown + 10 <= clips < total:
            runlog.write(2, 0, "features", split=split, clips=clips, total=total)
            shown = clips
    wait_for_all()
    store = FeatureStore(folder, source.clips, config)
    if engine.rank == 0:
        seal(folder, key)
    return store
