"""The file of an ablation: data sets, a base, variants; read, checked and written down again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator

from zoo.catalog.entries import read_catalog
from zoo.contracts import ComponentConfig
from zoo.errors import ConfigError, suggest
from zoo.experiments.train_options import TrainOptions
from zoo.experiments.yaml_file import read_yaml
from zoo.files import write_whole
from zoo.models.config import explain

Config = TypeVar("Config", bound=ComponentConfig)
INHERITED = ("extractor", "aggregator", "preset")
"""What a variant takes over from the one whose towers it starts from, unless it says otherwise."""


class DataSet(ComponentConfig):
    """Clips to train and evaluate on."""

    manifest: str = Field(description="relative to the table, or to OUT if `make` is given")
    make: str | None = Field(None, description="zoo command, run in OUT, that makes the manifest")


class EvaluateOptions(ComponentConfig):
    """Options of ``zoo evaluate``, as one types them."""

    protocol: str | None = None
    offsets: str | None = Field(None, description="CSV of fixed offsets, relative to the table")
    rounds: int | None = Field(None, gt=0)
    split: Literal["train", "valid", "test"] | None = None
    seed: int | None = Field(None, ge=0, description="of the draws, the same for every variant")
    features: Literal["auto", "store", "online"] | None = None
    controls: bool = Field(False, description="also score with a wrong or blank stream")
    device: str | None = None


class TowersFrom(ComponentConfig):
    """Whose towers a variant starts from; the seed is its own."""

    variant: str
    data: str | None = Field(None, description="data set those were trained on, if another")


class PaperScores(ComponentConfig):
    """What a paper reports, shares of 1."""

    exact: float | None = Field(None, ge=0, le=1)
    within_one: float | None = Field(None, ge=0, le=1)
    data: str | None = Field(None, description="the only data set beside which to draw them")


class Variant(TrainOptions):
    """What one row of the table does otherwise than the base."""

    towers: TowersFrom | None = None
    data: tuple[str, ...] | None = Field(None, description="only these data sets")
    paper: PaperScores | None = None
    note: str | None = Field(None, description="footnote")

    @field_validator("towers", mode="before")
    @classmethod
    def _by_name(cls, towers: Any) -> Any:
        return {"variant": towers} if isinstance(towers, str) else towers

    @property
    def own(self) -> dict[str, Any]:
        """Options of ``zoo train`` that this variant sets itself."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in given.items() if name in TrainOptions.model_fields}


class _File(ComponentConfig):
    title: str = "Ablation"
    seeds: tuple[int, ...]
    data: dict[str, Any]
    base: dict[str, Any] = Field(default_factory=dict)
    evaluate: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A checked table; ``path`` is the file, from which relative paths start."""

    path: Path
    title: str
    seeds: tuple[int, ...]
    data: Mapping[str, DataSet]
    base: TrainOptions
    evaluate: EvaluateOptions
    variants: Mapping[str, Variant]

    def options_of(self, name: str) -> TrainOptions:
        """Put a variant over the base, and over the towers that it starts from."""
        variant = self.variants[name]
        given = {key: getattr(self.base, key) for key in self.base.model_fields_set}
        if variant.towers is not None:
            source = self.options_of(variant.towers.variant)
            given |= {key: getattr(source, key) for key in INHERITED}
            given |= {"stage": "2", "init": None, "init_positions": None}
        settings = {**self.base.set, **variant.set}
        return TrainOptions(**{**given, **variant.own, "set": settings})

    def data_of(self, name: str) -> tuple[str, ...]:
        """Return the data sets of a variant, in the order of the table."""
        chosen = self.variants[name].data
        return tuple(key for key in self.data if chosen is None or key in chosen)

    def manifest_of(self, data: str, out: Path) -> Path:
        """Return the manifest of a data set."""
        chosen = self.data[data]
        return (out if chosen.make else self.path.parent) / chosen.manifest

    def as_dict(self) -> dict[str, Any]:
        """Return what the file says, with paths that hold from anywhere."""
        return {
            "title": self.title,
            "seeds": list(self.seeds),
            "data": {name: _dump(chosen) for name, chosen in self.data.items()},
            "base": _dump(self.base),
            "evaluate": _dump(self.evaluate),
            "variants": {name: _dump(variant) for name, variant in self.variants.items()},
        }

    def write(self, path: Path) -> None:
        """Keep the table beside its runs."""
        write_whole(path, yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True))


def _dump(config: ComponentConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_unset=True)


def read_table(path: Path) -> Table:
    """Read and check a table; nothing is looked up that it names outside itself.

    Raises:
        ConfigError: naming the file, the variant and the key that does not fit.
    """
    file = _parse(
        _File, read_yaml(path, "a table of variants; it needs seeds, data and variants"), path, ""
    )
    folder = path.absolute().parent
    table = Table(
        path=path.absolute(),
        title=file.title,
        seeds=file.seeds,
        data={
            name: _located(_parse(DataSet, raw, path, f"data.{name}."), folder)
            for name, raw in file.data.items()
        },
        base=_started(_parse(TrainOptions, file.base, path, "base."), folder),
        evaluate=_with_offsets(_parse(EvaluateOptions, file.evaluate, path, "evaluate."), folder),
        variants={
            name: _started(_parse(Variant, raw or {}, path, f"variants.{name}."), folder)
            for name, raw in file.variants.items()
        },
    )
    _check(table, path)
    return table


def slug(name: str) -> str:
    """Return the name of a folder for the name of a variant or data set."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _parse(config_class: type[Config], raw: Any, path: Path, where: str) -> Config:
    if not isinstance(raw, dict):
        name = where.removesuffix(".")
        raise ConfigError(f"{path}: '{name}' must be a list of options, got {raw!r}")
    try:
        return config_class.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, where, config_class)}") from None


def _located(data: DataSet, folder: Path) -> DataSet:
    """Make the manifest absolute, unless it will be made in OUT."""
    if data.make is not None:
        return data
    return data.model_copy(update={"manifest": str(folder / data.manifest)})


def _with_offsets(options: EvaluateOptions, folder: Path) -> EvaluateOptions:
    if options.offsets is None:
        return options
    return options.model_copy(update={"offsets": str(folder / options.offsets)})


def _started(options: Config, folder: Path) -> Config:
    """Make paths to start from absolute; names of the catalog stay as they are."""
    init = getattr(options, "init", None)
    if init is None:
        return options
    known = read_catalog()
    found = tuple(name if name in known else str(folder / name) for name in init)
    return options.model_copy(update={"init": found})


def _check(table: Table, path: Path) -> None:
    """Check what pydantic cannot: names that must exist, be unique and not go in circles."""
    for key in ("seeds", "data", "variants"):
        if not getattr(table, key):
            raise ConfigError(f"{path}: '{key}' is empty; a table needs at least one")
    if len(set(table.seeds)) < len(table.seeds) or min(table.seeds) < 0:
        raise ConfigError(f"{path}: 'seeds' must differ and not be negative, got {table.seeds}")
    for kind, names in (("data", table.data), ("variants", table.variants)):
        taken: dict[str, str] = {}
        for name in names:
            if slug(name) in taken:
                raise ConfigError(
                    f"{path}: '{kind}.{name}' and '{kind}.{taken[slug(name)]}' would share the "
                    f"folder '{slug(name)}'; rename one"
                )
            taken[slug(name)] = name
    for name, variant in table.variants.items():
        where = f"{path}: 'variants.{name}"
        for data in variant.data or ():
            if data not in table.data:
                raise ConfigError(
                    f"{where}.data': there is no data set '{data}'{suggest(data, table.data)}"
                )
        if variant.data == ():
            raise ConfigError(f"{where}.data' is empty; leave it out to take all")
        beside = None if variant.paper is None else variant.paper.data
        if beside is not None and beside not in table.data:
            known = suggest(beside, table.data)
            raise ConfigError(f"{where}.paper.data': there is no data set '{beside}'{known}")
        if variant.towers is not None:
            _check_towers(table, name, variant.towers, where)


def _check_towers(table: Table, name: str, towers: TowersFrom, where: str) -> None:
    if towers.variant not in table.variants:
        known = suggest(towers.variant, table.variants)
        raise ConfigError(f"{where}.towers': there is no variant '{towers.variant}'{known}")
    if table.variants[name].init is not None:
        raise ConfigError(f"{where}.towers' and 'init' both say what to start from; keep one")
    road, current = [name], name
    while (source := table.variants[current].towers) is not None:
        current = source.variant
        if current not in table.variants:
            return  # reported where it is named
        if current in road:
            raise ConfigError(f"{where}.towers' go in a circle: {' -> '.join([*road, current])}")
        road.append(current)
    if towers.data is not None and towers.data not in table.data:
        known = suggest(towers.data, table.data)
        raise ConfigError(f"{where}.towers': there is no data set '{towers.data}'{known}")
    needed = table.data_of(name) if towers.data is None else (towers.data,)
    for data in needed:
        if data not in table.data_of(towers.variant):
            raise ConfigError(
                f"{where}.towers': '{towers.variant}' is not trained on '{data}'; add it to the "
                "'data' of that variant"
            )
