"""The pieces of HTML that answers are shown in; everything that is not ours is escaped."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from demo.actions import Desynchronized, Drawn, Evidence, Measured, Repaired, Said
from demo.available_models import AvailableModel
from demo.charts import distribution_chart, over_time_chart
from demo.sentences import (
    Headline,
    facts,
    headline,
    more_lines,
    remarks,
    repair_words,
    said_words,
    shift_words,
    verdict,
)

HEADER = """
<header class="masthead"><h1>Is this clip in sync?</h1>
<p>Upload a clip: see by how much its audio is early or late, and take the repaired file home.</p>
</header>
"""
TOP = 2  # level of the heading of the page's own answer
WORKING = '<div class="working"></div>'
STOPPED = '<p class="moments" role="status">Stopped.</p>'
MOST_MOMENTS = 3
SHARES = {"accuracy": "accuracy", "within_one": "within one class"}
EMPTY = """
<div class="empty"><p>Nothing measured yet.</p>
<p>Choose a clip and a model, then press the button above.</p></div>
"""


def answer(measured: Measured, *, level: int = TOP) -> str:
    """Show one prediction: the answer in words, its probability, its charts."""
    p = measured.prediction
    charts = distribution_chart(p)
    if len(p.windows) > 1 and (level == TOP or len(p.over_time.stretches) > 1):
        charts += over_time_chart(p, measured.window_s)
    return _box(
        headline(measured),
        kicker=f"{Path(p.path).name} · {p.model}",
        facts=facts(measured),
        rest=_list(remarks(measured)) + charts,
        level=level,
    )


def said(answered: Said) -> str:
    """Show what a model says that is not about offsets."""
    answer = answered.answer
    return _box(
        said_words(answered),
        kicker=f"{Path(answer.path).name} · {answer.model}",
        rest=_list(more_lines(answered)) + (_along(answered.plot) if answered.plot else ""),
        level=TOP,
    )


def _along(plot: Path) -> str:
    """Show the plot of an answer along its clip; the words beside it say the same."""
    data = base64.b64encode(plot.read_bytes()).decode()
    alt = "The answer along the clip, below its frames and its spectrogram"
    return f'<img class="along" alt="{alt}" src="data:image/png;base64,{data}"/>'


def comparison(answers: list[Measured]) -> str:
    """Show two predictions side by side, and whether they agree."""
    parts = "".join(answer(measured, level=3) for measured in answers)
    return f'<h2 class="verdict">{escape(verdict(*answers))}.</h2><div class="versus">{parts}</div>'


def repaired(done: Repaired) -> str:
    """Show what was done to a clip."""
    return _box(
        repair_words(done), kicker=done.file.name, rest=_list(done.repair.warnings), level=3
    )


def tested(done: Desynchronized) -> str:
    """Show whether a model noticed what was done to a clip."""
    before, after = done.before, done.after
    rest = f'<div class="versus">{answer(before, level=4)}{answer(after, level=4)}</div>'
    return _box(shift_words(done), kicker=done.before.prediction.model, rest=rest, level=2)


def refused(reason: str) -> str:
    """Show why there is no repaired copy."""
    text = Headline("Not repaired", f"{reason}.", "doubt")
    return _box(text, kicker="", level=3)


def problem(message: str) -> str:
    """Show why there is no answer; the message is HTML already."""
    return (
        '<section class="answer bad" role="alert"><h3>That did not work</h3>'
        f'<p class="detail">{message}.</p></section>'
    )


def evidence(found: Evidence) -> str:
    """Name the moments that an answer rests on, for those too who cannot see the plot."""
    parts = []
    for name, key in (("sound", "audio"), ("picture", "vision")):
        moments = found.facts[key]["moments_s"][:MOST_MOMENTS]
        spans = ", ".join(f"{start_s:.1f}\u2013{end_s:.1f} s" for start_s, end_s in moments)
        parts.append(f"in the {name} at {spans}" if spans else f"no clear moment in the {name}")
    return f'<p class="moments">Strongest evidence: {"; ".join(parts)}.</p>'


def rebuilt(found: Drawn) -> str:
    """Say how well hidden parts were rebuilt, for those too who cannot see the plot."""
    lines = "".join(f'<p class="moments">{escape(line)}.</p>' for line in found.words)
    return lines + _list(found.notes)


def card(model: AvailableModel) -> str:
    """Show what one should know about a model before one trusts it."""
    entry = model.entry
    size = f"{model.parameters / 1e6:.1f} million weights" if model.parameters else ""
    rows = {
        "Trained on": entry.trained_on,
        "Size": size,
        "Licence": entry.license,
        "Source": entry.source,
    }
    listed = "".join(
        f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in rows.items() if text
    )
    scores = "".join(
        f"<li>{escape(_numbers(numbers))}<br><span>{escape(name)}</span></li>"
        for name, numbers in entry.scores.items()
    )
    state = ""
    if model.problem:
        state = f'<p class="state bad">Cannot run here: {escape(model.problem)}.</p>'
    elif not model.is_here:
        state = '<p class="state">Not on this server yet.</p>'
    scored = f"<div><dt>Scores</dt><dd><ul>{scores}</ul></dd></div>" if scores else ""
    return (
        f'<div class="card"><p>{escape(entry.summary)}.</p>{state}<details><summary>Model card'
        f"</summary><dl>{listed}{scored}</dl></details></div>"
    )


def _numbers(scores: Any) -> str:
    if not isinstance(scores, dict):
        return str(scores)
    shown = []
    for name, value in scores.items():
        if name in SHARES:
            shown.append(f"{SHARES[name]} {100 * float(value):.1f} %")
        elif name == "mean_abs_error_s":
            shown.append(f"mean error {float(value):.2f} s")
    return ", ".join(shown) or ", ".join(f"{name} {value}" for name, value in scores.items())


def _box(
    words: Headline,
    *,
    kicker: str,
    facts: list[tuple[str, str, str]] | None = None,
    rest: str = "",
    level: int,
) -> str:
    listed = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class='note'>{escape(note)}</dd>"
        "</div>"
        for name, value, note in facts or []
    )
    return (
        f'<section class="answer {words.tone}"><p class="kicker">{escape(kicker)}</p>'
        f"<h{level}>{escape(words.text)}</h{level}><p class='detail'>{escape(words.detail)}</p>"
        + (f'<dl class="facts">{listed}</dl>' if listed else "")
        + f"{rest}</section>"
    )


def _list(sentences: list[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="remarks">{items}</ul>' if items else ""
