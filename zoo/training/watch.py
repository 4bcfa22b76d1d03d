"""What a run has done so far, read from the files it writes while it trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.contracts import Chance
from zoo.models.model import build_task
from zoo.models.task import MIN_DECISIONS
from zoo.registry.manager import registry
from zoo.training.recipe import Recipe
from zoo.training.runlog import METRICS, QUARANTINE, read_quarantine

SMOOTHED = 5  # logged losses that are averaged to see whether stage 1 has left chance
_OF_EVERY = {"stage", "step", "kind", "time", "cpu_s"}  # what every record has
REMEMBERED = 400  # bytes: more than a record, whose time and cost no other has

Record = dict[str, Any]


@dataclass
class MetricsTail:
    """Follows ``metrics.jsonl``: new records only, from the start if a resumed run rewound it."""

    run: Path
    position: int = 0
    rest: bytes = b""
    seen: bytes = b""
    """The end of what was read: a file that has something else there was written anew."""
    is_rewound: bool = False
    """Whether the last call began again at the start of the file."""

    def read(self) -> list[Record]:
        """Return the records written since the last call."""
        try:
            with (self.run / METRICS).open("rb") as stream:
                stream.seek(self.position - len(self.seen))
                self.is_rewound = stream.read(len(self.seen)) != self.seen
                if self.is_rewound:
                    self.position, self.rest, self.seen = stream.seek(0), b"", b""
                text = stream.read()
        except FileNotFoundError:
            return []
        self.position += len(text)
        self.seen = (self.seen + text)[-REMEMBERED:]
        *lines, self.rest = (self.rest + text).split(b"\n")
        return list(_records(lines))


def _describe_damage(record: Record) -> str:
    newest = "the last checkpoint is damaged"
    if record["checkpoints"] > 1:
        newest = f"the last {record['checkpoints']} checkpoints are damaged"
    if not record["step"]:
        return f"{newest}, and there is none before: the stage begins anew"
    return (
        f"{newest}; goes on from the one before, step {record['step']} of stage {record['stage']}"
    )


def _records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Read lines; one that a full disk has cut short is left out."""
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)


@dataclass
class RunState:
    """Where a run is, and the sentences worth telling about it.

    Every sentence is told once, however often a resumed run repeats a step.
    """

    recipe: Recipe
    run: Path
    stages: tuple[int, ...]
    steps: dict[str, int] = field(default_factory=dict)
    """Phase -> steps (or clips) done."""
    totals: dict[str, int] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    """Phase -> the latest numbers, short."""
    left: dict[int, int] = field(default_factory=dict)
    """Stage -> step at which it left chance."""
    losses: list[float] = field(default_factory=list)
    sliding: Record | None = None
    valid: Record | None = None
    done_stage: int = 0
    """The last stage of a run that has ended, or 0."""
    _told: set[str] = field(default_factory=set)
    _quarantine_size: int = 0

    def __post_init__(self) -> None:
        recipe = self.recipe
        assert recipe.model.task is not None
        self.task = build_task(recipe.model.task)
        self.spec = recipe.task
        objective, stage1 = recipe.objective, recipe.stage1
        self.objective = registry().objective(objective.name)
        self.chance1: Chance = self.objective.chance(
            objective.parse(self.objective), stage1.clips, stage1.num_segments
        )
        self.totals = {"stage 1": stage1.steps, "stage 2": recipe.stage2.steps}

    def follow(self, tail: MetricsTail) -> list[str]:
        """Take in what is new and return what to say about it."""
        records = tail.read()
        if tail.is_rewound:
            self.steps, self.info, self.left, self.losses = {}, {}, {}, []
            self.sliding = self.valid = None
            self.done_stage = 0
        return self._tell(records)

    def _tell(self, records: list[Record]) -> list[str]:
        said = [line for record in records for line in self._take(record)]
        said += self._look_at_quarantine()
        fresh = [line for line in said if line not in self._told]
        self._told.update(fresh)
        return fresh

    def _take(self, record: Record) -> list[str]:
        handlers: dict[tuple[int, str], Callable[[Record], list[str]]] = {
            (1, "train"): self._train1,
            (1, "valid"): self._valid1,
            (2, "features"): self._features,
            (2, "sliding"): self._sliding,
            (2, "clips"): self._clips,
            (2, "train"): self._train2,
            (2, "valid"): self._valid2,
        }
        if record["kind"] == "done":
            return self._done(record)
        if record["kind"] == "damaged":
            return [_describe_damage(record)]
        handler = handlers.get((record["stage"], record["kind"]))
        return [] if handler is None else handler(record)

    def _train1(self, record: Record) -> list[str]:
        self.steps["stage 1"] = record["step"]
        self.losses = [*self.losses[1 - SMOOTHED :], record["loss"]]
        chance = self.chance1.loss
        told = "" if chance is None else f" (chance {chance:.2f})"
        self.info["stage 1"] = f"loss {record['loss']:.2f}{told}"
        mean = sum(self.losses) / len(self.losses)
        if chance is None or len(self.losses) < SMOOTHED or 1 in self.left:
            return []
        if mean > chance - self.chance1.margin:
            return []
        self.left[1] = record["step"]
        return [f"stage 1 is better than chance from step {record['step']} on (loss {mean:.2f})"]

    def _valid1(self, record: Record) -> list[str]:
        where = self._where("stage 1", record)
        told = self.objective.describe({k: v for k, v in record.items() if k not in _OF_EVERY})
        return [f"{where}: {told}, {self.info.get('stage 1', '')}{self.at_chance(1)}"]

    def _features(self, record: Record) -> list[str]:
        phase = f"features ({record['split']})"
        self.steps[phase], self.totals[phase] = record["clips"], record["total"]
        if record["clips"] < record["total"]:
            return []
        return [f"features of {record['total']} {record['split']} clips are computed"]

    def _clips(self, record: Record) -> list[str]:
        lines = []
        if record.get("refused"):
            needed = " and ".join(self.spec.columns)
            lines.append(
                f"{count(record['refused'], 'clip')} of split {record['split']} without usable "
                f"{needed}: left out of stage 2"
            )
        if not record["short"]:
            return lines
        return [
            *lines,
            f"{count(record['short'], 'clip')} of split {record['split']} "
            f"{'is' if record['short'] == 1 else 'are'} shorter than the "
            f"{record['needed_s']:.2f} s that stage 2 needs, and left out of it",
        ]

    def _sliding(self, record: Record) -> list[str]:
        if not record["num"]:
            return []
        self.sliding = record
        return [self.task.describe_features(record)]

    def _train2(self, record: Record) -> list[str]:
        self.steps["stage 2"] = record["step"]
        loss, first = self.task.chance[self.task.loss_name], self.spec.scores[0]
        self.info["stage 2"] = (
            f"loss {record['loss']:.2f} (chance {loss:.2f}), "
            f"{first.title} {first.show(record[first.name])}"
        )
        return []

    def _valid2(self, record: Record) -> list[str]:
        rank = self.spec.rank_of
        is_better = self.valid is None or rank(record) > rank(self.valid)
        if is_better:
            self.valid = record
        lines = []
        if not record["on_plateau"] and 2 not in self.left:
            self.left[2] = record["step"]
            lines = [f"stage 2 is better than chance from step {record['step']} on"]
        mark = ", best so far" if is_better else ""
        where = self._where("stage 2", record)
        told = self.at_chance(2) if record["num"] >= MIN_DECISIONS else ""
        return [*lines, f"{where}: valid {self.spec.describe(record)}{mark}{told}"]

    def is_done_with(self, stages: tuple[int, ...]) -> bool:
        """Whether the run has ended and trained all of these stages."""
        return self.done_stage >= max(stages)

    def _done(self, record: Record) -> list[str]:
        self.done_stage = record["stage"]
        for phase in ("stage 1", "stage 2"):
            if phase in self.steps and self.steps[phase] < self.totals[phase]:
                self.totals[phase] = self.steps[phase]  # stopped early
        return []

    def _where(self, phase: str, record: Record) -> str:
        return f"{phase}, step {record['step']} of {self.totals[phase]}"

    def at_chance(self, stage: int) -> str:
        """Say so if a stage does no better than chance yet."""
        level = self.chance1.words if stage == 1 else self.task.chance_words
        if stage in self.left or not level:
            return ""
        return f"; still at chance (loss ~ {level}; normal for the first hundreds of steps)"

    def _look_at_quarantine(self) -> list[str]:
        file = self.run / QUARANTINE
        size = file.stat().st_size if file.exists() else 0
        if size == self._quarantine_size:
            return []
        self._quarantine_size = size
        left_out = read_quarantine(self.run)
        if not left_out:
            return []
        return [
            f"{count(len(left_out), 'clip')} left out; the first: {next(iter(left_out.values()))}"
        ]


def count(number: int, noun: str) -> str:
    """Return ``1 clip`` or ``2 clips``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
