"""What is searched for: a base recipe, what varies in it, and what counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from zoo.contracts import ComponentConfig
from zoo.errors import ConfigError, TrainingError, option
from zoo.experiments.results import rename_score
from zoo.experiments.yaml_file import parse_options, read_yaml, refuse_unknown
from zoo.files import write_whole
from zoo.models.config import explain
from zoo.search_space import Choice, Dimension, Range, Value
from zoo.training.request import TrainRequest, first_difference

SEARCH = "search.json"
LENGTH, OVERLAP = "length", "overlap"
MAX_POINTS = 10_000
Params = dict[str, Value]
Method = Literal["grid", "optuna"]
Scheduler = Literal["asha", "none"]
Goal = Literal["accuracy", "accuracy-cost"]


class Search(ComponentConfig):
    """A search, as it is kept beside its trials."""

    title: str = "Search"
    data: str = Field(description="manifest")
    base: TrainRequest = TrainRequest()
    space: dict[str, Dimension] = Field(description="what varies, in order")
    input_s: float | None = Field(
        None, gt=0, description="length of the input, of a search for segment lengths"
    )
    search: Method = "grid"
    trials: int | None = Field(None, gt=0, description="points to try, for optuna")
    seeds: int = Field(1, gt=0, description="trainings of each point")
    metric: str | None = Field(
        None, description="validation score that counts; None is the first that ranks the task"
    )
    goal: Goal = Field("accuracy", description="or also as few operations per clip as possible")
    scheduler: Scheduler = "none"
    seed: int = Field(1, ge=0, description="of the sampler, and of the first training")

    @field_validator("metric")
    @classmethod
    def _as_it_is_called_now(cls, metric: str | None) -> str | None:
        return None if metric is None else rename_score(metric)

    @model_validator(mode="after")
    def _seeds_are_their_own(self) -> Search:
        if self.base.seed is not None or "seed" in self.base.set or "seed" in self.space:
            raise ValueError(
                "'seed' is not set or searched for: say "
                f"{option('seeds')} K, and {option('seed')} of the first"
            )
        if self.is_segment_length:
            for name in self.base.set:
                if name.startswith(("layout.", "model.layout.", "data.vision_hop_s")):
                    raise ValueError(
                        f"{option('set')} {name} is what {option('lengths')}, "
                        f"{option('overlaps')} and {option('input_seconds')} decide"
                    )
        return self

    @model_validator(mode="after")
    def _method_fits(self) -> Search:
        if not self.space:
            raise ValueError("nothing varies: the space is empty")
        if self.search == "grid":
            if self.trials is not None:
                raise ValueError(
                    f"{option('trials')} is for {option('search')} optuna; a grid tries every "
                    "combination"
                )
            for name, dimension in self.space.items():
                if dimension.grid is None:
                    raise ValueError(
                        f"a grid cannot try all of '{name}' between {dimension.extremes[0]} and "
                        f"{dimension.extremes[1]}: give it a step or a list of values, or take "
                        f"{option('search')} optuna"
                    )
        elif self.trials is None:
            raise ValueError(
                f"{option('search')} optuna needs to know how many points to try: "
                f"{option('trials')} N"
            )
        return self

    @property
    def is_segment_length(self) -> bool:
        """Whether segment length and overlap are searched for."""
        return self.input_s is not None

    @property
    def train_seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings of every point."""
        return tuple(range(self.seed, self.seed + self.seeds))

    @property
    def num_points(self) -> int:
        """Points that will be tried."""
        return self.trials if self.trials is not None else len(self.grid())

    def grid(self) -> list[Params]:
        """Return every combination, the last dimension slowest.

        Points that share a stage I (those of one segment length) are then apart, and the first of
        them has trained it when the others begin.

        Raises:
            ConfigError: if there are too many.
        """
        axes = [dimension.grid or () for dimension in self.space.values()]
        count = math.prod(map(len, axes))
        if count > MAX_POINTS:
            raise ConfigError(
                f"a grid of {count:,} points is more than anyone can train",
                f"take {option('search')} optuna {option('trials')} N, or fewer values",
            )
        return [
            dict(zip(self.space, reversed(values), strict=True))
            for values in itertools.product(*reversed(axes))
        ]

    def overlaps(self) -> tuple[float, ...]:
        """Return the overlaps of a search for segment lengths."""
        return tuple(float(value) for value in self.space[OVERLAP].grid or ())  # type: ignore[arg-type]

    def write(self, out: Path) -> None:
        """Keep the search beside its trials."""
        write_whole(out / SEARCH, self.model_dump_json(indent=2) + "\n")


def read_search(out: Path) -> Search:
    """Read the search kept in a folder.

    Raises:
        TrainingError: if there is none, or it cannot be read.
    """
    if not (out / SEARCH).exists():
        raise TrainingError(f"there is no search to resume in {out}: it has no {SEARCH}")
    try:
        return Search.model_validate_json((out / SEARCH).read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot resume: {out / SEARCH} cannot be read ({error})") from None


def build_search(options: Mapping[str, Any]) -> Search:
    """Check the options of a search.

    Raises:
        ConfigError: naming the first that does not fit.
    """
    try:
        return Search.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(explain(error, "", Search)) from None


def read_space(path: Path) -> dict[str, Any]:
    """Read a file of a search: ``data``, ``base``, ``space``, ``defaults`` and any other option.

    Raises:
        ConfigError: naming the file and the key that does not fit.
    """
    raw = {k: v for k, v in read_yaml(path, "a search; it needs a space").items() if v is not None}
    refuse_unknown(raw, {*Search.model_fields, "defaults"} - {"input_s"}, path)
    for key in ("base", "space"):
        if not isinstance(raw.setdefault(key, {}), dict):
            raise ConfigError(f"{path}: '{key}' must hold names and values, got {raw[key]!r}")
    space = {str(name): _dimension(path, str(name), given) for name, given in raw["space"].items()}
    raw["defaults"] = _kinds(path, raw.get("defaults", ()))
    for key in raw.keys() & Search.model_fields.keys() - {"base", "space"}:
        _check_field(path, key, raw[key])
    folder = path.absolute().parent
    if isinstance(raw.get("data"), str):
        raw["data"] = str(folder / raw["data"])
    base = parse_options(raw["base"], path, "base.").model_dump(exclude_unset=True)
    return {**raw, "base": base, "space": space}


def _kinds(path: Path, given: Any) -> tuple[str, ...]:
    """Read ``defaults``: one kind or several."""
    kinds = [given] if isinstance(given, str) else given
    if not isinstance(kinds, list | tuple) or not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(f"{path}: 'defaults' must be a kind or a list of them, got {given!r}")
    return tuple(kinds)


def _check_field(path: Path, key: str, value: Any) -> None:
    """Check one key of a file by itself, so that what is wrong with it names the file."""
    usual = {"data": "", "space": {"": Choice(values=(0,))}, "search": "optuna", "trials": 1}
    try:
        Search.model_validate({**usual, key: value, "trials": value if key == "trials" else None})
    except ValidationError as error:
        if error.errors()[0]["loc"]:
            raise ConfigError(f"{path}: {explain(error, '', Search)}") from None


def _dimension(path: Path, name: str, given: Any) -> Choice | Range:
    """Read what varies: a list of values, or a range."""
    try:
        if isinstance(given, list):
            return Choice(values=tuple(map(_number, given)))
        if isinstance(given, dict):
            return Range.model_validate({key: _number(value) for key, value in given.items()})
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, f'space.{name}.', Range)}") from None
    raise ConfigError(
        f"{path}: 'space.{name}' must be a list of values or a range such as "
        f"{{low: 1e-4, high: 1e-2, log: true}}, got {given!r}"
    )


def _number(value: Any) -> Any:
    """Read numbers that YAML takes for text: 1e-4."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number


def refuse_difference(old: Search, new: Search, out: Path) -> None:
    """Refuse a search that changes what was begun; points and seeds may be added.

    Raises:
        ConfigError: naming the first difference.
    """
    difference = first_difference(_decisive(old), _decisive(new))
    if difference is None and new.seeds < old.seeds:
        difference = f"seeds is {old.seeds} there, {new.seeds} here"
    if difference is None and old.search == "optuna" and new.seeds > old.seeds:
        difference = f"seeds is {old.seeds} there, {new.seeds} here, which only a grid can add"
    if difference is None:
        difference = _narrowed(old, new)
    if difference:
        raise ConfigError(
            f"{out} cannot go on with another search: {difference}; take another {option('out')}"
        )


def _decisive(search: Search) -> dict[str, Any]:
    free = {"title", "space", "trials", "seeds", "scheduler"}
    chosen = search.model_dump(mode="json", exclude=free)
    chosen["space"] = {name: type(found).__name__ for name, found in search.space.items()}
    if search.is_segment_length and OVERLAP in search.space:
        chosen["overlaps"] = list(search.overlaps())  # one more changes the lattice of all
    return chosen


def _narrowed(old: Search, new: Search) -> str | None:
    """Say which value is no longer searched; Optuna cannot change a space that it has begun."""
    for name, before in old.space.items():
        now = new.space[name]
        if old.search == "optuna" and now != before:
            return f"space.{name} has changed, which a study of Optuna cannot"
        gone = [value for value in before.grid or () if value not in (now.grid or ())]
        if gone:
            return f"space.{name} has {gone[0]!r} there, and not here"
    return None
