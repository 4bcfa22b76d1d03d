"""The options of ``zoo train`` as a file holds them, and as words of a command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

from zoo.contracts import ComponentConfig, Positions, Task
from zoo.training.request import Request
from zoo.training.resources import RELEASE_S, Resources
from zoo.training.run_folder import RECIPE, REQUEST


class TrainOptions(ComponentConfig):
    """Options of ``zoo train``, as one types them."""

    extractor: str | None = None
    head: str | None = None
    aggregator: str | None = None
    objective: str | None = None
    stage: Literal["1", "2", "all"] | None = None
    init: tuple[str, ...] | None = None
    init_positions: Positions | None = None
    preset: Literal["tiny", "paper"] | None = None
    features: Literal["store", "online"] | None = None
    overfit: int | None = Field(None, gt=0)
    task: Task | None = None
    set: dict[str, JsonValue] = Field(default_factory=dict, description="as --set: stage2.lr: 1e-3")

    @field_validator("stage", mode="before")
    @classmethod
    def _stage_as_text(cls, stage: Any) -> Any:
        return str(stage) if isinstance(stage, int) else stage

    @field_validator("init", mode="before")
    @classmethod
    def _one_or_several(cls, init: Any) -> Any:
        return (init,) if isinstance(init, str) else init


def request_of(options: TrainOptions) -> Request:
    """Turn options of a table into a request; data and seed are yet to be filled in."""
    given = {name: getattr(options, name) for name in TrainOptions.model_fields if name != "set"}
    settings = tuple(f"{key}={_as_typed(value)}" for key, value in options.set.items())
    return Request(**given, settings=settings)


def _as_typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def training_words(request: Request, run: Path, resources: Resources) -> list[str]:
    """Return the command that trains into a folder, or goes on with what is there."""
    words = ["train", "--out", str(run)]
    if _can_resume(run):
        words += ["--resume"]
    else:
        if run.exists():
            shutil.rmtree(run)  # broken off before anything was learnt
        words += request_words(request)
    words += ["--workers", str(resources.workers), "--address", resources.address]
    if resources.cpus_per_worker:
        words += ["--cpus-per-worker", str(resources.cpus_per_worker)]
    if resources.gpus_per_worker:
        words += ["--gpus-per-worker", f"{resources.gpus_per_worker:g}"]
    if resources.wait_s != RELEASE_S:
        words += ["--wait", f"{resources.wait_s:g}"]
    return words


def _can_resume(run: Path) -> bool:
    try:
        json.loads((run / RECIPE).read_text())
        json.loads((run / REQUEST).read_text())
    except (OSError, ValueError):
        return False
    return True


def request_words(request: Request) -> list[str]:
    """Write a request as options of ``zoo train``."""
    words = []
    for name in ("extractor", "data", "head", "aggregator", "objective", "stage", "init"):
        words += option_words(name, getattr(request, name))
    for name in ("init_positions", "preset", "features", "overfit", "seed", "task"):
        words += option_words(name, getattr(request, name))
    return words + option_words("set", request.settings)


def option_words(name: str, value: object) -> list[str]:
    """Write an option, once for each of its values; None is left out."""
    if value is None:
        return []
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (f"--{name.replace('_', '-')}", str(one))]
