"""The file of an ablation: data sets, a base, variants; read, checked and written down again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, field_validator

from zoo.contracts import ComponentConfig
from zoo.errors import ConfigError, suggest
from zoo.experiments.results import rename_score
from zoo.experiments.yaml_file import (
    SHARED_OPTIONS,
    parse_options,
    parse_part,
    read_yaml,
    refuse_unknown,
)
from zoo.files import write_whole
from zoo.training.request import TrainRequest

INHERITED = ("extractor", "aggregator", "preset")
"""What a variant takes over from the one whose encoder it starts from, unless it says otherwise."""
_FORMER = {"towers": "encoder"}  # keys of a variant that were called otherwise


class DataSet(ComponentConfig):
    """Clips to train and evaluate on."""

    manifest: str = Field(description="relative to the table, or to OUT if `make` is given")
    make: str | None = Field(None, description="zoo command, run in OUT, that makes the manifest")


class EvaluateOptions(ComponentConfig):
    """Options of ``zoo evaluate``, as one types them."""

    protocol: str | None = None
    offsets: str | None = Field(None, description="CSV of fixed offsets, relative to the table")
    subset: str | None = Field(None, description="ids of clips, relative to the table")
    rounds: int | None = Field(None, gt=0)
    split: Literal["train", "valid", "test"] | None = None
    seed: int | None = Field(None, ge=0, description="of the draws, the same for every variant")
    features: Literal["auto", "store", "online"] | None = None
    controls: bool = Field(False, description="also score with a wrong or blank stream")
    device: str | None = None


class EncoderFrom(ComponentConfig):
    """Whose encoder a variant starts from; the seed is its own."""

    variant: str
    data: str | None = Field(None, description="data set it was trained on, if another")


class PaperScores(ComponentConfig):
    """What a paper reports, by the names of the task's scores; shares are shares of 1."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, float]

    data: str | None = Field(None, description="the only data set beside which to draw them")

    @property
    def given(self) -> dict[str, float]:
        """The scores as the file calls them."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def scores(self) -> dict[str, float]:
        """The scores."""
        return {rename_score(name): value for name, value in self.given.items()}


class Variant(ComponentConfig):
    """One row of the table."""

    options: TrainRequest = Field(TrainRequest(), description="otherwise than in the base")
    encoder: EncoderFrom | None = None
    data: tuple[str, ...] | None = Field(None, description="only these data sets")
    paper: PaperScores | None = None
    group: str = Field("", description="whose curves of stage I share a panel")
    note: str | None = Field(None, description="footnote")

    @field_validator("encoder", mode="before")
    @classmethod
    def _by_name(cls, encoder: Any) -> Any:
        return {"variant": encoder} if isinstance(encoder, str) else encoder


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
    base: TrainRequest
    evaluate: EvaluateOptions
    variants: Mapping[str, Variant]

    def options_of(self, name: str) -> TrainRequest:
        """Put a variant over the base, and over the encoder that it starts from."""
        variant = self.variants[name]
        given = _set_fields(self.base)
        if variant.encoder is not None:
            source = self.options_of(variant.encoder.variant)
            given |= {key: getattr(source, key) for key in INHERITED}
            given |= {"stage": "2", "init": None, "init_positions": None}
        settings = {**self.base.set, **variant.options.set}
        return TrainRequest(**{**given, **_set_fields(variant.options), "set": settings})

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
            "variants": {
                name: _dump(variant.options) | _dump(variant, exclude={"options"})
                for name, variant in self.variants.items()
            },
        }

    def write(self, path: Path) -> None:
        """Keep the table beside its runs."""
        write_whole(path, yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True))


def _dump(config: ComponentConfig, exclude: set[str] | None = None) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_unset=True, exclude=exclude)


def _set_fields(options: TrainRequest) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.model_fields_set}


def read_table(path: Path) -> Table:
    """Read and check a table; nothing is looked up that it names outside itself.

    Raises:
        ConfigError: naming the file, the variant and the key that does not fit.
    """
    raw = read_yaml(path, "a table of variants; it needs seeds, data and variants")
    file, folder = parse_part(_File, raw, path, ""), path.absolute().parent
    evaluate = parse_part(EvaluateOptions, file.evaluate, path, "evaluate.")
    for key in ("offsets", "subset"):
        named = getattr(evaluate, key)
        if named is not None:
            evaluate = evaluate.model_copy(update={key: str(folder / named)})
    table = Table(
        path=path.absolute(),
        title=file.title,
        seeds=file.seeds,
        data={
            name: _located(parse_part(DataSet, raw, path, f"data.{name}."), folder)
            for name, raw in file.data.items()
        },
        base=parse_options(file.base, path, "base."),
        evaluate=evaluate,
        variants={
            name: _variant({} if raw is None else raw, path, f"variants.{name}.")
            for name, raw in file.variants.items()
        },
    )
    _check(table, path)
    return table


def _variant(raw: Any, path: Path, where: str) -> Variant:
    """Read a variant: what is its own, and options of ``zoo train``."""
    if not isinstance(raw, dict):
        return parse_part(Variant, raw, path, where)
    raw = {_FORMER.get(key, key): value for key, value in raw.items()}
    own = [name for name in Variant.model_fields if name != "options"]
    refuse_unknown(raw, (*own, *SHARED_OPTIONS), path, where)
    options = {key: value for key, value in raw.items() if key not in own}
    variant = parse_part(Variant, {k: raw[k] for k in raw if k in own}, path, where)
    return variant.model_copy(update={"options": parse_options(options, path, where)})


def slug(name: str) -> str:
    """Return the name of a folder for the name of a variant or data set."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _located(data: DataSet, folder: Path) -> DataSet:
    """Make the manifest absolute, unless it will be made in OUT."""
    if data.make is not None:
        return data
    return data.model_copy(update={"manifest": str(folder / data.manifest)})


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
        if variant.encoder is not None:
            _check_encoder(table, name, variant.encoder, where)


def _check_encoder(table: Table, name: str, encoder: EncoderFrom, where: str) -> None:
    if encoder.variant not in table.variants:
        known = suggest(encoder.variant, table.variants)
        raise ConfigError(f"{where}.encoder': there is no variant '{encoder.variant}'{known}")
    if table.variants[name].options.init is not None:
        raise ConfigError(f"{where}.encoder' and 'init' both say what to start from; keep one")
    road, current = [name], name
    while (source := table.variants[current].encoder) is not None:
        current = source.variant
        if current not in table.variants:
            return  # reported where it is named
        if current in road:
            raise ConfigError(f"{where}.encoder' goes in a circle: {' -> '.join([*road, current])}")
        road.append(current)
    if encoder.data is not None and encoder.data not in table.data:
        known = suggest(encoder.data, table.data)
        raise ConfigError(f"{where}.encoder': there is no data set '{encoder.data}'{known}")
    needed = table.data_of(name) if encoder.data is None else (encoder.data,)
    for data in needed:
        if data not in table.data_of(encoder.variant):
            raise ConfigError(
                f"{where}.encoder': '{encoder.variant}' is not trained on '{data}'; add it to the "
                "'data' of that variant"
            )
