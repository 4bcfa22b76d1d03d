"""From a table to jobs: every variant becomes a recipe, checked before anything is trained."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from orchestration.ablation.table import Table, slug
from zoo.catalog.entries import CONFIG
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError, ZooError
from zoo.evaluation.protocol import find_protocol
from zoo.experiments.train_options import request_of
from zoo.models.model import Model, count_parameters
from zoo.training.job import STAGE1_FOLDER
from zoo.training.recipe import Recipe
from zoo.training.request import Request, check_shares, recipe_of
from zoo.training.resources import Resources, check_machine, count_cpus
from zoo.training.watch import count

RUNS, RUN = "runs", "run"


class Key(NamedTuple):
    """What a job is called."""

    data: str
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.data}, {self.variant}, seed {self.seed}"


@dataclass(frozen=True)
class Job:
    """One training and its evaluation.

    Attributes:
        key: data set, variant, seed.
        request: options of ``zoo train``; what it starts from may not exist yet.
        recipe: what they come to.
        stages: which are trained.
        parameters: of the model.
        source: the job whose towers it starts from, or None.
        folder: of the job; the run is inside.
    """

    key: Key
    request: Request
    recipe: Recipe
    stages: tuple[int, ...]
    parameters: int
    source: Key | None
    folder: Path

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.folder / RUN


@dataclass(frozen=True)
class _Resolved:
    request: Request
    recipe: Recipe
    stages: tuple[int, ...]
    parameters: int


def plan(table: Table, out: Path, resources: Resources) -> list[Job]:
    """Return all jobs of a table, each after the one it starts from: seed by seed.

    Raises:
        ZooError: naming the variant that cannot be trained.
    """
    resolved = resolve(table, resources)
    order = sorted(table.variants, key=lambda name: _depth(table, name))
    jobs: dict[Key, Job] = {}
    for seed in table.seeds:
        for name in order:
            for data in table.data_of(name):
                job = _job(table, out, resolved[name], Key(data, name, seed), jobs)
                jobs[job.key] = job
    return list(jobs.values())


def choose(jobs: list[Job], table: Table, num_seeds: int | None, only: tuple[str, ...]) -> set[Key]:
    """Return the jobs of the first seeds and of some variants, and all that those start from.

    Raises:
        ConfigError: if there is no such variant, or there are not so many seeds.
    """
    for name in only:
        if name not in table.variants:
            known = ", ".join(f"'{variant}'" for variant in table.variants)
            raise ConfigError(f"--only '{name}': no such variant; there are {known}")
    if num_seeds is not None and num_seeds > len(table.seeds):
        raise ConfigError(f"--seeds {num_seeds}: {table.path} has only {len(table.seeds)} seeds")
    seeds = table.seeds[:num_seeds]
    by_key = {job.key: job for job in jobs}
    chosen: set[Key] = set()
    for job in jobs:
        if job.key.seed in seeds and (not only or job.key.variant in only):
            key: Key | None = job.key
            while key is not None:
                chosen.add(key)
                key = by_key[key].source
    return chosen


def resolve(table: Table, resources: Resources) -> dict[str, _Resolved]:
    """Resolve every variant to a recipe.

    Raises:
        ZooError: naming the variant whose parts do not fit.
    """
    resolved: dict[str, _Resolved] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in sorted(table.variants, key=lambda name: _depth(table, name)):
            try:
                resolved[name] = _resolve(table, name, resolved, Path(temporary), resources)
            except ZooError as error:
                raise type(error)(f"{table.path}: variant '{name}': {error}") from error
    return resolved


def _resolve(
    table: Table, name: str, resolved: dict[str, _Resolved], folder: Path, resources: Resources
) -> _Resolved:
    """Resolve one variant; a model folder without weights stands for towers not trained yet."""
    request = request_of(table.options_of(name))
    if request.extractor is None and request.init is None and table.variants[name].towers is None:
        raise ConfigError("say which 'extractor', here or in the base (see: zoo list extractors)")
    towers, stand_in = table.variants[name].towers, folder / slug(name)
    if towers is not None:
        stand_in.mkdir()
        config = resolved[towers.variant].recipe.model.model_dump(mode="json")
        (stand_in / CONFIG).write_text(json.dumps({"config": config}))
    try:
        start = request.init if towers is None else (str(stand_in),)
        recipe = recipe_of(replace(request, init=start), resources.gpus_per_worker)
    except ZooError as error:
        if towers is None:
            raise
        told = str(error).replace(f"--init {stand_in}", f"the towers of '{towers.variant}'")
        raise type(error)(told) from error
    stages = request.stages(recipe)
    if 2 not in stages:
        raise ConfigError("stage 1 alone has no head to evaluate; leave out 'stage'")
    if stages == (2,) and towers is None and request.init is None and recipe.stage2.is_frozen:
        raise ConfigError("stage 2 needs the towers of stage 1: 'towers' or 'init'")
    check_shares(recipe, stages, resources.workers)
    with torch.device("meta"):
        parameters = count_parameters(Model(recipe.model))
    return _Resolved(request, recipe, stages, parameters)


def _job(table: Table, out: Path, found: _Resolved, key: Key, jobs: dict[Key, Job]) -> Job:
    towers = table.variants[key.variant].towers
    source, init = None, found.request.init
    if towers is not None:
        source = Key(towers.data or key.data, towers.variant, key.seed)
        init = (str(_towers_folder(jobs[source], jobs)),)
    manifest = str(table.manifest_of(key.data, out))
    return Job(
        key=key,
        request=replace(found.request, data=manifest, seed=key.seed, init=init),
        recipe=found.recipe.model_copy(update={"seed": key.seed}),
        stages=found.stages,
        parameters=found.parameters,
        source=source,
        folder=out / RUNS / slug(key.data) / slug(key.variant) / f"seed-{key.seed}",
    )


def _towers_folder(job: Job, jobs: dict[Key, Job]) -> Path:
    """Return where the outcome of stage I of a job lies, or of training without a stage I."""
    if job.recipe.stage2.is_frozen:
        return job.run  # the same towers, beside their features
    if 1 in job.stages:
        return job.run / STAGE1_FOLDER
    return job.run if job.source is None else _towers_folder(jobs[job.source], jobs)


def _depth(table: Table, name: str) -> int:
    towers = table.variants[name].towers
    return 0 if towers is None else 1 + _depth(table, towers.variant)


def share_out(resources: Resources, jobs: int) -> Resources:
    """Give each of several jobs at a time its share of this machine.

    Raises:
        TrainingError: if it is too small.
    """
    if not resources.is_local or jobs == 1:
        check_machine(resources)
        return resources
    if resources.gpus_per_worker * resources.workers * jobs > 1:
        raise TrainingError(
            "several jobs at a time cannot share the GPUs of a machine by themselves: start a "
            "cluster with ray start --head, and add --address auto"
        )
    processes, held = jobs * resources.workers, count_cpus()
    cpus = resources.cpus_per_worker or held // processes
    if cpus < 1 or cpus * processes > held:
        raise TrainingError(
            f"--jobs {jobs} with {count(resources.workers, 'worker')} of {max(cpus, 1)} CPU each "
            f"take {max(cpus, 1) * processes} CPUs, this machine has {held}; run fewer at a time"
        )
    shared = replace(resources, cpus_per_worker=cpus)
    check_machine(shared)
    return shared


def check_manifests(table: Table, out: Path, data: set[str]) -> None:
    """Check that the clips to train on, to validate on and to evaluate on are there.

    Raises:
        ZooError: naming the data set.
    """
    protocol = find_protocol(table.evaluate.protocol or "random")
    for name in table.data:
        manifest = table.manifest_of(name, out)
        if name not in data or (table.data[name].make is not None and not manifest.exists()):
            continue
        try:
            clips = Manifest.read(manifest)
            for split in ("train", "valid", table.evaluate.split or protocol.split):
                clips.select(split)
        except ZooError as error:
            advice = "" if manifest.exists() else "; or say with 'make' how it is made"
            raise type(error)(f"{table.path}: 'data.{name}': {error}{advice}") from None
