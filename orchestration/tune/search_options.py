"""What was typed after ``zoo tune``, as fields of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from orchestration.tune import INPUT_S, LENGTHS, OVERLAPS
from orchestration.tune.points import default_space
from orchestration.tune.search import LENGTH, OVERLAP, read_space
from zoo.errors import ConfigError, option, suggest
from zoo.experiments.yaml_file import absolute_starts
from zoo.search_space import Choice
from zoo.training.request import TrainRequest, read_settings

SEGMENT_LENGTH = "segment-length"
_INPUT = {"input_s": "input_seconds"}  # of the options, what is called otherwise


def given_options(
    what: str | None,
    *,
    is_resumed: bool,
    data: Path | None,
    train: Mapping[str, Any],
    settings: Sequence[str],
    space: Mapping[str, Any],
    rest: Mapping[str, Any],
    gpus_per_worker: float,
) -> dict[str, Any]:
    """Return the fields of a search that were asked for.

    Args:
        what: ``segment-length``, a file, or None when a search is resumed.
        is_resumed: whether what is not given is in the folder.
        data: manifest.
        train: options of ``zoo train``.
        settings: ``a.b=c`` assignments.
        space: of a search for segment lengths: comma-separated ``lengths`` (seconds) and
            ``overlaps`` (shares), ``input_s``.
        rest: other fields of a search.
        gpus_per_worker: as for `recipe_of`.

    Raises:
        ConfigError: naming what is missing or does not fit.
    """
    given: dict[str, Any] = dict(rest)
    if data is not None:
        given["data"] = str(data.absolute())
    base = _base(train, settings)
    if what is None:
        if not is_resumed:
            raise ConfigError("say what to search for: zoo tune segment-length, or a file")
        return given | ({"base": base} if base else {}) | _space(**space)
    if what == SEGMENT_LENGTH:
        given |= {"base": base} if base or not is_resumed else {}
        if not is_resumed:
            given["title"] = "Segment length and overlap"
            space = {"lengths": LENGTHS, "overlaps": OVERLAPS, "input_s": INPUT_S, **space}
        given |= _space(**space)
    else:
        for name in space:
            raise ConfigError(f"{option(_INPUT.get(name, name))} is for zoo tune {SEGMENT_LENGTH}")
        given = {**_from_file(Path(what), base, given, gpus_per_worker), **given}
    if "data" not in given and not is_resumed:
        raise ConfigError(
            f"say what to train on: {option('data')} MANIFEST (make one: zoo data prepare)"
        )
    return given


def _base(train: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the options of ``zoo train`` that all points share, paths absolute."""
    base: dict[str, Any] = dict(train)
    if "init" in base:
        base["init"] = absolute_starts(base["init"], Path.cwd())
    if settings:
        base["set"] = {key: _typed(str(text)) for key, text in read_settings(settings).items()}
    return base


def _typed(text: str) -> Any:
    """Read a value as a file would."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _space(
    lengths: str | None = None, overlaps: str | None = None, input_s: float | None = None
) -> dict[str, Any]:
    """Return the space of a search for segment lengths; only what was given."""
    found: dict[str, Any] = {}
    if lengths is not None or overlaps is not None:
        found["space"] = {
            name: Choice(values=_numbers(typed, text))
            for name, typed, text in (
                (LENGTH, option("lengths"), lengths),
                (OVERLAP, option("overlaps"), overlaps),
            )
            if text is not None
        }
        for overlap in found["space"].get(OVERLAP, Choice(values=(0.0,))).values:
            if not 0 <= overlap < 1:
                raise ConfigError(
                    f"{option('overlaps')} are shares of a segment, from 0 up to 1: {overlap:g}"
                )
        for length in found["space"].get(LENGTH, Choice(values=(1.0,))).values:
            if length <= 0:
                raise ConfigError(f"{option('lengths')} are seconds above 0: {length:g}")
    if input_s is not None:
        if not 0 < input_s < math.inf:
            raise ConfigError(f"{option('input_seconds')} must be above 0 and finite: {input_s:g}")
        found["input_s"] = input_s
    return found


def _numbers(typed: str, text: str) -> tuple[float, ...]:
    """Read comma-separated numbers.

    Raises:
        ConfigError: if there are none, one is no number, or one is given twice.
    """
    numbers: list[float] = []
    for word in text.split(","):
        try:
            number = float(word)
        except ValueError:
            raise ConfigError(
                f"{typed} takes numbers separated by commas, such as 0.32,0.64; got '{text}'"
            ) from None
        if not math.isfinite(number):
            raise ConfigError(f"{typed} takes numbers of finite size, got '{word.strip()}'")
        if number in numbers:
            raise ConfigError(f"{typed} names {number:g} twice")
        numbers.append(number)
    return tuple(numbers)


def _from_file(
    path: Path, base: Mapping[str, Any], given: Mapping[str, Any], gpus_per_worker: float
) -> dict[str, Any]:
    """Read a file of settings, and put what was typed over it."""
    if not path.exists() and path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(
            f"there is no search '{path}'{suggest(str(path), [SEGMENT_LENGTH])}; "
            f"there are: {SEGMENT_LENGTH}, or a file of settings (YAML)"
        )
    found = read_space(path)
    kept = found["base"]
    found["base"] = {**kept, **base, "set": {**kept.get("set", {}), **base.get("set", {})}}
    defaults = found.pop("defaults")
    if defaults:
        varied = [kind for kind in defaults if kind in found["space"]]
        if varied:
            raise ConfigError(
                f"{path}: 'defaults: {varied[0]}' needs one {varied[0]}, but the space has several"
            )
        request = TrainRequest.model_validate(found["base"])
        offered = default_space(request, defaults, gpus_per_worker)
        found["space"] = {**offered, **found["space"]}
    if not found["space"]:
        raise ConfigError(f"{path}: 'space' is empty; name settings and their values")
    found.setdefault("title", path.stem)
    return found
