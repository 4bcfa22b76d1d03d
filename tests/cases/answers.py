"""What is said of one hard file, and what is wrong with that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cases.events import compare, find_events
from tests.cases.expected import Rule
from zoo.data.check import check_clip
from zoo.errors import NothingToMeasureError, ZooError
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.prediction import Prediction

STEP_S = 0.04
NEAR_S = 0.1  # of the right offset
NEAR_DRIFT = 0.1  # of the right rate
LONG_S = 100.0  # longer files are not checked a second time
INSIDE = re.compile(
    r"errno|av(codec|format|util)|invalid (data|argument)|codec context|traceback|\w+error\b", re.I
)
Truth = dict[str, Any]


@dataclass
class Answer:
    """What became of one file.

    Attributes:
        name: of the file, in its folder.
        rule: what is right.
        words: offset and confidence, or the sentence.
        faults: what is wrong; empty if all is right.
    """

    name: str
    rule: Rule
    words: str = ""
    faults: list[str] = field(default_factory=list)

    def ask(self, path: Path, do: Callable[[], Any]) -> Any:
        """Return what a function answers; None if it refuses, in a sentence that is looked at."""
        try:
            return do()
        except ZooError as error:
            self.words = error.typed.replace(str(path), "").lstrip(": ").replace("\n", " ")
            self.faults += self._judge_sentence(path, error.typed)
        except Exception as error:
            self.words = f"{type(error).__name__}: {error}"
            self.faults.append(f"exception {self.words}")
        return None

    def _judge_sentence(self, path: Path, sentence: str) -> Iterator[str]:
        without = sentence.replace(str(path), path.name)
        if "\n" in without.replace(path.name, "") or INSIDE.search(without):
            yield f"no clear sentence: {sentence}"
        if path.name not in without:
            yield f"does not name the file: {sentence}"
        right = self.rule.refused or self.rule.or_refused
        if not right or not re.search(right, without):
            yield f"refused: {without}"


def read(answer: Answer, path: Path, truth: Truth) -> None:
    """Look for the flashes and clicks of a file."""
    if not answer.rule.is_read:
        return
    events = answer.ask(path, lambda: find_events(path))
    if events is None or answer.rule.refused == "has no video stream":
        return
    apart_s = 0.01 if events.fps == 25 else 0.5 / events.fps
    faults = compare(path, events, truth, answer.rule.apart_s or apart_s, answer.rule.begins_s)
    answer.faults += [f"reading: {fault}" for fault in faults]


def predict(
    answer: Answer, path: Path, truth: Truth, predictor: OffsetPredictor, **options: Any
) -> Prediction | None:
    """Ask a model how far the sound of a file is off, and check the clip."""
    found = answer.ask(path, lambda: predictor.predict(path, STEP_S, **options))
    if found is not None:
        answer.words = said_of(found)
        answer.faults += _judge(answer.rule, found, truth)
    if truth["offset_s"] is None and not truth.get("period"):
        answer.faults += _far_off(path, predictor)
    if truth["seconds"] < LONG_S and "audio" not in options:
        report = check_clip(path)
        listed = "; ".join((*report.problems, *report.notes))
        if not re.search(answer.rule.check, listed):
            answer.faults.append(f"data check lists {listed or 'nothing'}")
        is_whole = not answer.rule.refused and "kept" not in truth
        if "damaged" in listed or (is_whole and "could not be" in listed):
            answer.faults.append(f"data check: {listed}")
    return found


def said_of(found: Prediction) -> str:
    """Return an answer in words."""
    if found.repeats is not None or found.over_time.drift is not None:
        return f"{found.over_time.meaning} ({found.confidence:.2f})"
    also = [s for s in found.over_time.stretches[1:] if s]
    jumps = f", over time: {found.over_time.meaning}" if also else ""
    return f"{found.offset_s:+.2f} s ({found.confidence:.2f}){jumps}"


def _judge(rule: Rule, found: Prediction, truth: Truth) -> Iterator[str]:
    notes = " / ".join(found.notes)
    if rule.says and not re.search(rule.says, notes):
        yield f"its notes are {notes or 'none'}"
    if rule.refused:
        yield "a number where there is none"
    elif "drift" in truth:
        yield from _judge_drift(found, truth)
    elif "period" in truth:
        yield from _judge_repeats(found, truth)
    elif abs(found.offset_s - truth["offset_s"]) > NEAR_S + 1e-6:
        yield f"{truth['offset_s']:+.2f} s is right"
    elif len(found.over_time.stretches) > 1 or found.over_time.drift or found.repeats:
        yield "there is one offset"


def _judge_drift(found: Prediction, truth: Truth) -> Iterator[str]:
    drift, right = found.over_time.drift, truth["drift"]
    middle_s = truth["offset_s"] + right * truth["seconds"] / 120
    if drift is not None:
        if abs(drift.per_minute_s - right) > NEAR_DRIFT * abs(right):
            yield f"{right:+.4f} s per minute is right"
    elif abs(right) > 0.02 or abs(found.refined_s - middle_s) > 0.05:
        yield f"no drift is named; it is {right:+.4f} s per minute"
    elif len(found.over_time.stretches) > 1:
        yield "jumps are named; it is a drift"


def _judge_repeats(found: Prediction, truth: Truth) -> Iterator[str]:
    if found.repeats is None:
        yield "the repetition is not named"
        return
    if abs(found.repeats.period_s - truth["period"]) > 0.02:
        yield f"a period of {found.repeats.period_s:g} s, {truth['period']:g} s is right"
    right_s = truth["beat_s"]
    if min(abs(offset_s - right_s) for offset_s in found.repeats.offsets_s) > NEAR_S:
        yield f"{right_s:+.2f} s is not among {found.repeats.offsets_s}"
    if found.confidence >= 0.8:
        yield "too confident"


def _far_off(path: Path, predictor: OffsetPredictor) -> Iterator[str]:
    """Search further: there is nothing to measure either."""
    try:
        found = predictor.predict(path, STEP_S, max_offset_s=30.0)
        yield f"searched up to 30 s, {found.offset_s:+.2f} s"
    except NothingToMeasureError:
        pass
