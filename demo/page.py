"""The page: what stands where. What happens on it is in `demo.wiring`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.clip_input import Clip
from demo.examples import Example
from demo.pieces import EMPTY, HEADER

MOST_SHIFT_S = 2.0
HIDDEN: dict[str, tuple[float, float] | None] = {  # shares of audio and video; None: the slider
    "parts of both": None,
    "all of the audio": (1.0, 0.0),
    "all of the video": (0.0, 1.0),
}
FIND, ASK = "Find the offset", "Ask the model"  # of models that find offsets, and of others


@dataclass(frozen=True)
class Given:
    """What the visitor gives: a clip and a model."""

    clip: gr.Video
    examples: list[gr.Button]
    model: gr.Dropdown
    card: gr.HTML
    pull: gr.Button
    pull_cancel: gr.Button
    pull_state: gr.HTML


@dataclass(frozen=True)
class Work:
    """A button that starts work, one that ends it, and where the answer appears."""

    start: gr.Button
    cancel: gr.Button
    answer: gr.HTML


@dataclass(frozen=True)
class Predict:
    """What the model says of the clip, and what follows from an offset."""

    find: Work
    more: gr.Column
    repairs: gr.Column
    fix: Work
    force: gr.Button
    force_cancel: gr.Button
    pair: gr.Row
    before: gr.Video
    after: gr.Video
    download: gr.DownloadButton
    evidence: Work
    plot: gr.Image
    json: gr.JSON
    json_file: gr.DownloadButton
    evidence_file: gr.DownloadButton


@dataclass(frozen=True)
class Compare:
    """Two models on the clip."""

    tab: gr.Tab
    other: gr.Dropdown
    work: Work


@dataclass(frozen=True)
class Test:
    """A copy of the clip that is out of sync on purpose."""

    tab: gr.Tab
    shift_s: gr.Slider
    work: Work
    copy: gr.Video


@dataclass(frozen=True)
class Rebuild:
    """Parts of the clip hidden, and what a pre-trained model puts there."""

    tab: gr.Tab
    model: gr.Dropdown
    what: gr.Radio
    share: gr.Slider
    work: Work
    plot: gr.Image


@dataclass(frozen=True)
class Page:
    """All components of the page."""

    given: Given
    predict: Predict
    compare: Compare
    test: Test
    rebuild: Rebuild


def lay_out(models: list[tuple[str, str]], first: str, examples: list[Example]) -> Page:
    """Put the components on the page of the current Blocks.

    Args:
        models: labels and names of what can be chosen; read again for every visitor.
        first: name of the one that is chosen at first.
        examples: clips to take.
    """
    gr.HTML(HEADER)
    with gr.Row():
        with gr.Column(scale=4, min_width=260, elem_id="given"):
            given = _given(models, first, examples)
        with gr.Column(scale=7, min_width=260), gr.Tabs():
            with gr.Tab("Predict"):
                predict = _predict()
            with gr.Tab("Compare") as tab:
                compare = _compare(models, tab)
            with gr.Tab("Test") as tab:
                test = _test(tab)
            with gr.Tab("Rebuild", visible=False) as tab:
                rebuild = _rebuild(tab)
    return Page(given, predict, compare, test, rebuild)


def _given(models: list[tuple[str, str]], first: str, examples: list[Example]) -> Given:
    clip = Clip(label="Clip", sources=["upload", "webcam"], height=300, elem_id="clip")
    _text("No clip at hand? Take one of these.", "lead")
    with gr.Row(equal_height=True):
        buttons = [
            gr.Button(example.label, size="sm", min_width=60, elem_id=f"example-{number}")
            for number, example in enumerate(examples)
        ]
    for example in examples:
        if example.credit:
            _text(example.credit, "credit")
    model = gr.Dropdown(models, value=first, label="Model", filterable=False, elem_id="model")
    card = gr.HTML(elem_id="card")
    pull = gr.Button("Download this model", visible=False, elem_id="pull")
    pull_cancel = gr.Button("Cancel", variant="stop", visible=False)
    pull_state = gr.HTML(visible=False, min_height=80, elem_id="pull-state")
    return Given(clip, buttons, model, card, pull, pull_cancel, pull_state)


def _work(label: str, name: str, *, primary: bool = False, empty: str = "") -> Work:
    """Lay out a button that starts work, with the one that ends it in the same place."""
    start = gr.Button(label, variant="primary" if primary else "secondary", elem_id=name, size="lg")
    cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id=f"{name}-cancel")
    answer = gr.HTML(empty, elem_id=f"{name}-answer", min_height=90 if empty else None)
    return Work(start, cancel, answer)


def _predict() -> Predict:
    find = _work(FIND, "find", primary=True, empty=EMPTY)
    with gr.Column(visible=False, elem_id="more") as more:
        with gr.Column(elem_id="repairs") as repairs:
            parts = _after_an_offset()
        with gr.Accordion("All numbers", open=False, elem_id="numbers"):
            json_file = gr.DownloadButton("Download as JSON", size="sm", elem_id="json-file")
            json = gr.JSON(show_label=False, max_height=320)
    return Predict(find=find, more=more, repairs=repairs, json=json, json_file=json_file, **parts)


def _after_an_offset() -> dict[str, Any]:
    """Lay out what follows from an offset: a repaired copy, and the evidence."""
    _text(
        "<h3>Take it home</h3><p>A copy with the audio moved; nothing is re-encoded.</p>",
        "section",
    )
    fix = _work("Make the repaired copy", "fix")
    force = gr.Button("Repair it all the same", visible=False, elem_id="force")
    force_cancel = gr.Button("Cancel", variant="stop", visible=False)
    with gr.Row(visible=False) as pair:
        before, after = _player("As it was", "before"), _player("Repaired", "after")
    download = gr.DownloadButton(
        "Download the repaired copy", visible=False, variant="primary", elem_id="download"
    )
    _text(
        "<h3>Evidence</h3><p>Which moments of picture and sound the answer rests on: the model "
        "is asked again and again, with parts of the clip hidden.</p>",
        "section",
    )
    evidence = _work("Show the evidence", "evidence")
    plot = _plot("plot")
    return {
        "fix": fix,
        "force": force,
        "force_cancel": force_cancel,
        "pair": pair,
        "before": before,
        "after": after,
        "download": download,
        "evidence": evidence,
        "plot": plot,
        "evidence_file": gr.DownloadButton("Download as JSON", visible=False, size="sm"),
    }


def _compare(models: list[tuple[str, str]], tab: gr.Tab) -> Compare:
    _text("<p>Ask the chosen model and another one about the same clip.</p>", "section")
    other = gr.Dropdown(
        models, value=None, label="The other model", filterable=False, elem_id="other"
    )
    return Compare(tab, other, _work("Compare", "compare", primary=True))


def _test(tab: gr.Tab) -> Test:
    _text(
        "<p>Move the audio of the clip on purpose, and see whether the model notices.</p>",
        "section",
    )
    shift_s = gr.Slider(
        -MOST_SHIFT_S,
        MOST_SHIFT_S,
        value=0.8,
        step=0.05,
        label="Make the audio earlier by so many seconds (below zero: later)",
        elem_id="shift",
    )
    work = _work("Move it and measure", "test", primary=True)
    return Test(tab, shift_s, work, _player("The moved copy", "copy", visible=False))


def _rebuild(tab: gr.Tab) -> Rebuild:
    _text(
        "<p>Hide parts of the clip from a pre-trained model, and see what it puts there.</p>",
        "section",
    )
    return Rebuild(
        tab,
        gr.Dropdown([], label="Model with a decoder", filterable=False, elem_id="rebuilder"),
        gr.Radio([*HIDDEN], value=next(iter(HIDDEN)), label="Hide", elem_id="hide"),
        gr.Slider(
            0.1, 0.95, value=0.75, step=0.05, label="Share of both that is hidden", elem_id="share"
        ),
        _work("Hide and rebuild", "rebuild", primary=True),
        _plot("rebuilt"),
    )


def _plot(name: str) -> gr.Image:
    return gr.Image(
        show_label=False,
        visible=False,
        interactive=False,
        buttons=["fullscreen", "download"],
        elem_id=name,
        elem_classes="plot-image",
    )


def _player(label: str, name: str, *, visible: bool = True) -> gr.Video:
    return Clip(
        label=label,
        interactive=False,
        height=260,
        min_width=240,
        elem_id=name,
        visible=visible,
    )


def _text(html: str, name: str) -> Any:
    return gr.HTML(html if html.startswith("<") else f"<p>{html}</p>", elem_classes=name)
