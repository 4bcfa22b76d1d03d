"""How far the audio of a clip is off: what a model that finds offsets answers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from zoo.data.repeating import Repeating
from zoo.data.rule import RuleOffset
from zoo.inference.changepoints import OverTime, Stretch, seconds

# A clip can be synchronized from the first probability on, and cannot below the second: there the
# shipped models refuse 4 of 95 clips that can (docs/repair.md).
SYNCHRONIZABLE, HOPELESS = 0.5, 0.25


@dataclass(frozen=True)
class WindowPrediction:
    """The offset of one crop of a clip.

    Attributes:
        start_s: start of the crop, seconds.
        offset_s: most probable offset, seconds.
        probability: of that offset.
    """

    start_s: float
    offset_s: float
    probability: float


@dataclass(frozen=True)
class Repeats:
    """Sound and picture that repeat with one period: several offsets fit equally well.

    Attributes:
        period_s: seconds.
        offsets_s: all offsets that fit, within what was searched, ascending, seconds.
    """

    period_s: float
    offsets_s: list[float]


@dataclass(frozen=True)
class Prediction:
    """How far the audio of a clip is off.

    Attributes:
        path: the clip.
        model: the model's name.
        offset_s: most probable offset, seconds; positive means the audio is early.
        meaning: the offset in words.
        probability: of that offset.
        refined_s: the offset between the points of the grid, seconds.
        confidence: probability that the offset is within one class of ``refined_s``.
        distribution: probability of every offset of the grid, by offset in seconds.
        synchronizability: probability that sound and picture can be synchronized at all; None
            without a model that says so, and where they repeat.
        duration_s: the stretch that sound and picture share, seconds.
        over_time: how the offset changes along the clip.
        windows: the crops the answer is put together from.
        low_confidence: why the file's own clock cannot be trusted, or None.
        notes: what else one should know about how the clip was read.
        repeats: the offsets that fit as well, where sound and picture repeat.
        unfamiliarity: how unlike the clips that the model was validated on this one is; above 1 it
            is like none of them, and its confidence means little. None if that cannot be told.
        rule: what a rule without learning says, if it was asked for and has an answer.
    """

    path: str
    model: str
    offset_s: float
    meaning: str
    probability: float
    refined_s: float
    confidence: float
    distribution: dict[float, float]
    synchronizability: float | None
    duration_s: float
    over_time: OverTime
    windows: list[WindowPrediction]
    low_confidence: str | None
    notes: list[str]
    repeats: Repeats | None = None
    unfamiliarity: float | None = None
    rule: RuleOffset | None = None

    @property
    def can_be_synchronized(self) -> bool:
        """False if a model says clearly that this is not so."""
        return self.synchronizability is None or self.synchronizability >= HOPELESS

    @property
    def verdict(self) -> str:
        """Say in words whether sound and picture can be synchronized; empty if nobody knows."""
        return "" if self.synchronizability is None else verdict_on(self.synchronizability)

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON types."""
        answer = asdict(self)
        answer["distribution"] = [
            {"offset_s": offset, "probability": p} for offset, p in self.distribution.items()
        ]
        return answer

    def columns(self) -> dict[str, str]:
        """Return the prediction as columns of a table (`zoo.inference.batch_table`)."""
        return {
            "offset_s": f"{self.offset_s:g}",
            "refined_s": f"{round(self.refined_s, 4) + 0.0:.4f}",
            "probability": f"{self.probability:.4f}",
            "confidence": f"{self.confidence:.4f}",
            "meaning": self.meaning,
            "over_time": self.over_time.meaning,
            "synchronizability": _or_empty(self.synchronizability),
            "unfamiliarity": _or_empty(self.unfamiliarity),
        }


def _or_empty(number: float | None) -> str:
    return "" if number is None else f"{number:.4f}"


def with_repeats(prediction: Prediction, repeating: Repeating, reach_s: float) -> Prediction:
    """Return a prediction that names all offsets that fit equally well.

    One of them is as probable as any other, whichever the model prefers and however long the clip.

    Args:
        prediction: as the model made it.
        repeating: how sound and picture repeat.
        reach_s: how far either way offsets were searched, seconds.
    """
    first_s, period_s = repeating.offset_s, repeating.period_s
    lowest, highest = (
        math.ceil((-reach_s - first_s) / period_s),
        math.floor((reach_s - first_s) / period_s),
    )
    equal_s = [round(first_s + k * period_s, 3) for k in range(lowest, highest + 1)]
    if len(equal_s) < 2:  # the others lie beyond what was searched
        return prediction
    one_s = min(equal_s, key=lambda offset_s: abs(offset_s - prediction.refined_s))
    meaning = (
        f"sound and picture repeat: {seconds(one_s)} and every {period_s:.2f} s from it "
        "fit equally well"
    )
    confidence = 1 / max(2, round(2 * reach_s / period_s))  # the same for all of one period
    stretch = Stretch(
        prediction.over_time.stretches[0].start_s, prediction.duration_s, one_s, confidence
    )
    return replace(
        prediction,
        meaning=meaning,
        refined_s=one_s,
        confidence=confidence,
        synchronizability=None,
        over_time=OverTime([stretch], None, meaning),
        repeats=Repeats(round(period_s, 4), equal_s),
    )


def is_unlike(unfamiliarity: float | None) -> bool:
    """Say whether a model knows no clips like this one."""
    return unfamiliarity is not None and unfamiliarity > 1


def unlike(model: str, unfamiliarity: float | None) -> list[str]:
    """Say that a model knows no clips like this one, if so."""
    if unfamiliarity is None or not is_unlike(unfamiliarity):
        return []
    return [
        f"its sound or picture is unlike all that {model} was tried on ({unfamiliarity:.2f} times "
        "the distance that counts as known), so its confidence means little"
    ]


def verdict_on(synchronizability: float) -> str:
    """Say in words whether sound and picture can be synchronized."""
    if synchronizability < HOPELESS:
        return "sound and picture cannot be synchronized"
    if synchronizability < SYNCHRONIZABLE:
        return "it is not clear whether sound and picture can be synchronized"
    return "sound and picture can be synchronized"
