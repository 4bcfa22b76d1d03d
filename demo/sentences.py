"""Answers as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from demo.actions import Desynchronized, Measured, Repaired, Said
from zoo.inference.changepoints import OverTime
from zoo.inference.prediction import SYNCHRONIZABLE, Prediction, is_unlike
from zoo.timeline import clock_time

# ITU-R BT.1359: viewers begin to notice sound that is early by 45 ms, and late by 125 ms.
UNNOTICED_S = 0.045
UNSURE = 0.5  # below this probability an answer is hardly better than chance
Tone = Literal["good", "off", "doubt", "plain"]


@dataclass(frozen=True)
class Headline:
    """The answer in large words, what follows from it, and how good the news are."""

    text: str
    detail: str
    tone: Tone


def offset_words(offset_s: float) -> str:
    """Write an offset as people say it: 0.60 s early."""
    if abs(offset_s) < 0.005:
        return "in sync"
    return f"{abs(offset_s):.2f} s {'early' if offset_s > 0 else 'late'}"


def headline(measured: Measured) -> Headline:
    """Say what a prediction means."""
    p = measured.prediction
    offset_s, words = p.refined_s, offset_words(p.refined_s)
    if not p.can_be_synchronized:
        return Headline(
            "This clip cannot be synchronized",
            "Sound and picture do not seem to belong together. "
            f"If they did, the best guess would be: {words}.",
            "doubt",
        )
    if _changes(p):
        return Headline("The offset changes", _course(p.over_time), "off")
    if p.repeats is not None:
        return Headline("Several offsets fit", _sentence(p.meaning), "doubt")
    if is_unlike(p.unfamiliarity) or p.confidence < UNSURE:
        return _unsure(p, words)
    if abs(offset_s) <= UNNOTICED_S:
        detail = f"The audio is {words}; nobody notices less than {UNNOTICED_S:g} s."
        if abs(offset_s) < 0.005:
            detail = "There is nothing to repair."
        return Headline("Audio and video are in sync", detail, "good")
    way = "Delay" if offset_s > 0 else "Advance"
    return Headline(
        f"The audio is {words}", f"{way} it by {abs(offset_s):.2f} s to repair the clip.", "off"
    )


def _unsure(p: Prediction, words: str) -> Headline:
    if is_unlike(p.unfamiliarity):
        text, hope = "The model knows no clips like this", "Another model may know better."
    else:
        text, hope = "The model is not sure", "A longer clip or another model may help."
    return Headline(text, f"Its best guess: {words}. {hope}", "doubt")


def _changes(p: Prediction) -> bool:
    return len(p.over_time.stretches) > 1 or p.over_time.drift is not None


def _course(over_time: OverTime) -> str:
    """Say how an offset changes, without signs that one would have to know the meaning of."""

    def words(offset_s: float) -> str:
        return "in sync" if abs(offset_s) <= UNNOTICED_S else offset_words(offset_s)

    drift = over_time.drift
    if drift is not None:
        begin, end = words(drift.start_offset_s), words(drift.end_offset_s)
        way = "earlier" if drift.per_minute_s > 0 else "later"
        pace = f"{abs(drift.per_minute_s):.2f} s {way} every minute"
        return f"It drifts: {begin} at the start, {end} at the end, {pace}."
    *first, last = over_time.stretches
    parts = [f"{words(part.offset_s)} until {clock_time(part.end_s)}" for part in first]
    return _sentence(", then ".join([*parts, words(last.offset_s)]))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def facts(measured: Measured) -> list[tuple[str, str, str]]:
    """List what stands below an answer: name, value, and what the value means."""
    p = measured.prediction
    means = f"that this is right to within {measured.step_s:g} s"
    if not p.can_be_synchronized:
        means = "of the best guess, if they did belong together"
    elif _changes(p):
        means = f"that all of it is {offset_words(p.refined_s)}"
    found = [("Probability", percent(p.confidence), means)]
    if p.synchronizability is not None:
        clear = "yes" if p.synchronizability >= SYNCHRONIZABLE else "unclear"
        can = clear if p.can_be_synchronized else "no"
        found.append(("Can be synchronized", can, f"probability {percent(p.synchronizability)}"))
    crops = len(p.windows)
    found.append(
        (
            "Looked at",
            f"{p.duration_s:.1f} s",
            f"{crops} crop{'s' if crops > 1 else ''} of {measured.window_s:g} s",
        )
    )
    return found


def remarks(measured: Measured) -> list[str]:
    """List what else one should know."""
    p = measured.prediction
    return _sentences(p.notes, p.low_confidence)


def said_words(said: Said) -> Headline:
    """Say what a model of another task answers: its first line in large words."""
    first = said.answer.lines()[0]
    return Headline(first[:1].upper() + first[1:], "", "plain")


def more_lines(said: Said) -> list[str]:
    """List the other lines of the answer, and what else one should know."""
    answer = said.answer
    return [*answer.lines()[1:], *_sentences(answer.notes, answer.low_confidence)]


def _sentences(notes: list[str], low_confidence: str | None) -> list[str]:
    return [_sentence(text) for text in [*notes, *([low_confidence] if low_confidence else [])]]


def percent(probability: float) -> str:
    """Write a probability without claiming certainty: > 99 %, 87 %, < 1 %."""
    if probability > 0.99:
        return "> 99 %"
    return f"{probability:.0%}".replace("%", " %") if probability >= 0.01 else "< 1 %"


def verdict(first: Measured, second: Measured) -> str:
    """Say in one sentence whether two models agree."""
    one, two = first.prediction, second.prediction
    if one.can_be_synchronized != two.can_be_synchronized:
        return "They disagree on whether this clip can be synchronized at all"
    if not one.can_be_synchronized:
        return "Both say that this clip cannot be synchronized"
    apart_s = abs(one.refined_s - two.refined_s)
    if apart_s <= max(first.step_s, second.step_s) / 2:
        return f"They agree to within {max(apart_s, 0.01):.2f} s"
    surer = one if one.confidence >= two.confidence else two
    return f"They are {apart_s:.2f} s apart; {surer.model} is the surer one"


def repair_words(done: Repaired) -> Headline:
    """Say what was done to a clip."""
    r = done.repair
    way = "later" if r.delay_s >= 0 else "earlier"
    text = f"The audio now plays {abs(r.delay_s):.2f} s {way}"
    residue = ""
    if r.residue_s is not None:
        left = offset_words(r.residue_s)
        residue = f" Measured again: {left}." if left != "in sync" else " Measured again: in sync."
    return Headline(text, f"Nothing was re-encoded.{residue}", "doubt" if r.warnings else "good")


def shift_words(done: Desynchronized) -> Headline:
    """Say whether a model noticed what was done to a clip."""
    before_s, after_s = done.before.prediction.refined_s, done.after.prediction.refined_s
    told = f"The clip is {offset_words(before_s)}, the copy {offset_words(after_s)}"
    off_s = abs(done.seen_s - done.shift_s)
    if off_s <= done.after.step_s / 2:
        seen = f"{abs(done.seen_s):.2f} s {'earlier' if done.seen_s >= 0 else 'later'}"
        return Headline(
            f"Noticed: {seen}", f"{told}: right to within {max(off_s, 0.01):.2f} s.", "good"
        )
    asked = f"{abs(done.shift_s):.2f} s {'earlier' if done.shift_s >= 0 else 'later'}"
    reason = ""
    if abs(before_s + done.shift_s) > done.reach_s:
        reason = f" The model knows offsets of up to {done.reach_s:g} s only."
    return Headline("Not noticed", f"The audio is {asked} now. {told}.{reason}", "doubt")
