"""From a table to jobs: every variant becomes a recipe, checked before anything is trained."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from zoo.catalog.entries import CONFIG
from zoo.contracts import PairSpec, Scored
from zoo.data.manifest import Manifest
from zoo.data.subset import read_ids
from zoo.errors import ConfigError, TrainingError, ZooError, option, suggest
from zoo.evaluation.protocol import Protocol, find_protocol
from zoo.experiments.ablation_table import Table, slug
from zoo.experiments.results import LOG, RUN, rename_score
from zoo.models.config import ModelConfig
from zoo.models.model import Model, count_parameters
from zoo.models.upgrade import FORMAT_VERSION
from zoo.models.without_values import without_values
from zoo.registry.manager import registry
from zoo.retrieval.embedding import require_alone
from zoo.training.job import STAGE1_FOLDER
from zoo.training.recipe import Recipe
from zoo.training.request import TrainRequest, check_shares, draft_recipe, recipe_of
from zoo.training.resources import Resources, check_machine, count_cpus
from zoo.training.watch import count

RUNS = "runs"


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
        source: the job whose encoder it starts from, or None.
        folder: of the job; the run is inside.
        scored: by the evaluation: the task, or what the protocol scores instead.
    """

    key: Key
    request: TrainRequest
    recipe: Recipe
    stages: tuple[int, ...]
    parameters: int
    source: Key | None
    folder: Path
    scored: Scored

    @property
    def head(self) -> str | None:
        """Name of the head; None where stage 1 is all that is trained."""
        head = self.recipe.model.head
        return None if head is None or 2 not in self.stages else head.name

    @property
    def is_of_task(self) -> bool:
        """Whether it is evaluated at its task, which then says what chance is."""
        return self.scored is self.recipe.task

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.folder / RUN

    @property
    def log(self) -> Path:
        """What its processes say."""
        return self.folder / LOG

    @property
    def steps(self) -> dict[str, int]:
        """Steps of the stages that are trained."""
        steps = {1: self.recipe.stage1.steps, 2: self.recipe.stage2.steps}
        return {f"stage{stage}": steps[stage] for stage in self.stages}


@dataclass(frozen=True)
class _Resolved:
    request: TrainRequest
    recipe: Recipe
    stages: tuple[int, ...]
    parameters: int


_Row = tuple[str, str]
"""Variant and data set."""


def plan(table: Table, out: Path, resources: Resources) -> list[Job]:
    """Return all jobs of a table, each after the one it starts from: seed by seed.

    Raises:
        ZooError: naming the variant that cannot be trained.
    """
    _check_evaluate(table)
    resolved = _resolve_all(table, out, resources)
    jobs: dict[Key, Job] = {}
    for seed in table.seeds:
        for (name, data), found in resolved.items():
            job = _job(table, out, found, Key(data, name, seed), jobs)
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
            raise ConfigError(f"{option('only')} '{name}': no such variant; there are {known}")
    if num_seeds is not None and num_seeds > len(table.seeds):
        raise ConfigError(
            f"{option('seeds')} {num_seeds}: {table.path} has only {len(table.seeds)} seeds"
        )
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


def _resolve_all(table: Table, out: Path, resources: Resources) -> dict[_Row, _Resolved]:
    """Resolve every variant to a recipe, those that others start from first.

    Raises:
        ZooError: naming the variant whose parts do not fit.
    """
    resolved: dict[_Row, _Resolved] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in sorted(table.variants, key=lambda name: _depth(table, name)):
            found = None
            for data in table.data_of(name):
                if found is None or found.recipe.task.fit is not None:  # else data decide nothing
                    folder = Path(temporary) / slug(name) / slug(data)
                    try:
                        start = _stand_in(table, (name, data), resolved, folder)
                        manifest = table.manifest_of(data, out)
                        found = _resolve(table, name, start, manifest, resources)
                    except ZooError as error:
                        raise error.within(f"{table.path}: variant '{name}'") from error
                    _check_paper(table, name, found.recipe)
                resolved[name, data] = found
    return resolved


def _stand_in(
    table: Table, row: _Row, resolved: dict[_Row, _Resolved], folder: Path
) -> Path | None:
    """Write a model folder without weights for an encoder that is not trained yet.

    Raises:
        ConfigError: if the variant names parts that this encoder does not have.
    """
    variant, data = table.variants[row[0]], row[1]
    if variant.encoder is None:
        return None
    source = resolved[variant.encoder.variant, variant.encoder.data or data]
    model = source.recipe.model
    if not source.recipe.stage2.is_frozen and 1 in source.stages:
        model = model.model_copy(update={"head": None})  # it is taken as stage I left it
    if variant.options.extractor is not None or variant.options.aggregator is not None:
        options = table.options_of(row[0])
        whole = {"extractor": options.extractor or model.encoder.name}
        asked = draft_recipe(options.model_copy(update=whole), 0).model
        spec = registry().encoder(asked.encoder.name)
        starts_from = () if isinstance(spec, PairSpec) else spec.starts_from
        is_same = _encoder_names(asked) == _encoder_names(model)
        if not is_same and model.encoder.name not in starts_from:
            raise ConfigError(
                f"its encoder, {' + '.join(_encoder_names(asked))}, does not fit the encoder of "
                f"'{variant.encoder.variant}', {' + '.join(_encoder_names(model))}"
            )
    folder.mkdir(parents=True)
    description = {"format_version": FORMAT_VERSION, "config": model.model_dump(mode="json")}
    (folder / CONFIG).write_text(json.dumps(description))
    return folder


def _encoder_names(model: ModelConfig) -> list[str]:
    kinds = {"encoders", "extractors", "aggregators"}
    return [part.name for kind, part in model.components() if kind in kinds]


def _resolve(
    table: Table, name: str, start: Path | None, manifest: Path, resources: Resources
) -> _Resolved:
    request = table.options_of(name)
    if request.extractor is None and request.init is None and start is None:
        raise ConfigError("say which 'extractor', here or in the base (see: zoo list extractors)")
    begun: dict[str, object] = {} if start is None else {"init": (str(start),)}
    recipe = recipe_of(
        request.model_copy(update={**begun, "data": str(manifest)}), resources.gpus_per_worker
    )
    stages = request.stages(recipe)
    protocol = _protocol(table)
    if 2 not in stages and protocol.needs_head:
        raise ConfigError(
            "stage 1 alone has no head to evaluate; leave out 'stage', or evaluate it with "
            "protocol: retrieval"
        )
    if stages == (2,) and start is None and request.init is None and recipe.stage2.is_frozen:
        raise ConfigError("stage 2 needs the encoder of stage 1: 'encoder' or 'init'")
    check_shares(recipe, stages, resources.workers)
    trained = recipe.model
    if 2 not in stages:
        trained = trained.model_copy(update={"head": None})
    with without_values():
        model = Model(trained)
    if not protocol.needs_head:
        require_alone(model, name)
    parameters = count_parameters(model)
    return _Resolved(request, recipe, stages, parameters)


def _check_paper(table: Table, name: str, recipe: Recipe) -> None:
    """Check that what a paper reports is scored here.

    Raises:
        ConfigError: naming the one that is not.
    """
    scored = _protocol(table).scored or recipe.task
    paper, known = table.variants[name].paper, {s.name: s for s in scored.scores}
    for key, value in ({} if paper is None else paper.given).items():
        where = f"variants.{name}.paper.{key}"
        score = known.get(rename_score(key))
        if score is None:
            raise ConfigError(f"{table.path}: unknown key '{where}'{suggest(key, known)}")
        if score.unit == "share" and not 0 <= value <= 1:
            raise ConfigError(f"{table.path}: '{where}' must be a share of 1, got {value:g}")


def _job(table: Table, out: Path, found: _Resolved, key: Key, jobs: dict[Key, Job]) -> Job:
    encoder = table.variants[key.variant].encoder
    source, init = None, found.request.init
    if encoder is not None:
        source = Key(encoder.data or key.data, encoder.variant, key.seed)
        init = (str(_encoder_folder(jobs[source], jobs)),)
    given = {"data": str(table.manifest_of(key.data, out)), "seed": key.seed, "init": init}
    return Job(
        key=key,
        request=found.request.model_copy(update=given),
        recipe=found.recipe.model_copy(update={"seed": key.seed}),
        stages=found.stages,
        parameters=found.parameters,
        source=source,
        folder=out / RUNS / slug(key.data) / slug(key.variant) / f"seed-{key.seed}",
        scored=_protocol(table).scored or found.recipe.task,
    )


def _check_evaluate(table: Table) -> None:
    """Check the options of the evaluation, before anything is trained for it.

    Raises:
        ZooError: naming the one that does not fit.
    """
    given = table.evaluate
    try:
        protocol = _protocol(table)
        if given.subset is not None:
            read_ids(Path(given.subset))
    except ZooError as error:
        raise error.within(f"{table.path}: 'evaluate'") from error
    others = ["offsets", "rounds", "features"] if protocol.scored is not None else []
    others += ["subset"] if protocol.needs_head else []
    for key in others:
        if getattr(given, key) is not None:
            raise ConfigError(
                f"{table.path}: 'evaluate.{key}' does not go with the protocol "
                f"'{given.protocol or 'random'}'"
            )


def _protocol(table: Table) -> Protocol:
    return find_protocol(table.evaluate.protocol or "random")


def _encoder_folder(job: Job, jobs: dict[Key, Job]) -> Path:
    """Return where the outcome of stage I of a job lies, or of training without a stage I."""
    if job.recipe.stage2.is_frozen:
        return job.run  # the same encoder, beside its features
    if 1 in job.stages:
        return job.run / STAGE1_FOLDER
    return job.run if job.source is None else _encoder_folder(jobs[job.source], jobs)


def _depth(table: Table, name: str) -> int:
    encoder = table.variants[name].encoder
    return 0 if encoder is None else 1 + _depth(table, encoder.variant)


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
            f"cluster with ray start --head, and add {option('address')} auto"
        )
    processes, held = jobs * resources.workers, count_cpus()
    cpus = resources.cpus_per_worker or held // processes
    if cpus < 1 or cpus * processes > held:
        raise TrainingError(
            f"{option('jobs')} {jobs} with {count(resources.workers, 'worker')} of {max(cpus, 1)} "
            f"CPU each take {max(cpus, 1) * processes} CPUs, this machine has {held}",
            "run fewer at a time",
        )
    shared = replace(resources, cpus_per_worker=cpus)
    check_machine(shared)
    return shared


def check_manifests(table: Table, out: Path, data: set[str]) -> None:
    """Check that the clips to train on, to validate on and to evaluate on are there.

    Raises:
        ZooError: naming the data set.
    """
    protocol = _protocol(table)
    for name in table.data:
        manifest = table.manifest_of(name, out)
        if name not in data or (table.data[name].make is not None and not manifest.exists()):
            continue
        try:
            clips = Manifest.read(manifest)
            for split in ("train", "valid", table.evaluate.split or protocol.split):
                clips.select(split)
        except ZooError as error:
            hint = error.hint
            if not manifest.exists():
                hint = f"{hint}; or say" if hint else "say"
                hint += " with 'make' how it is made"
            raise type(error)(f"{table.path}: 'data.{name}': {error.message}", hint) from None
