"""The clips that the demo brings along, and what taking one of them does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio")

from demo.actions import Actions, measure
from demo.available_models import available_models
from demo.blocks import Blocks
from demo.demo_settings import Settings
from demo.examples import EXAMPLES, FOLDER, Example, copy_examples
from demo.examples.render import VIDEO
from demo.jobs import Jobs, Steps
from demo.model_cache import ModelCache
from demo.page import lay_out
from demo.sentences import UNSURE, headline
from demo.wiring import choices, wire
from zoo.catalog.entries import user_catalog
from zoo.inference.load import load_offsets
from zoo.media import decode

ROOT = FOLDER.parents[1]
RECORDED = ROOT.parent / "shared" / "real" / "talking" / "s1" / "swwp3s.mp4"
FACE = EXAMPLES[-1]
AUTHORS, LICENCE = ("Cooke", "Barker", "Cunningham", "Shao"), "CC BY 4.0"


@pytest.fixture
def talking(model_folder: Path) -> None:
    """A catalog that has the model of the face, whether or not the package has it."""
    home = user_catalog().parent
    shutil.copytree(model_folder, home / "models" / "talking")
    user_catalog().write_text("models: {tiny-talking: {summary: s, folder: models/talking}}")


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.file for example in EXAMPLES])
def test_an_example_is_small_and_gets_the_right_answer(example: Example) -> None:
    assert example.path.stat().st_size < 150_000
    model = example.model or "tiny-synthetic"
    if model not in available_models():
        pytest.skip(f"the catalog has no model {model}")
    measured = measure(load_offsets(model), example.path, Steps())
    prediction = measured.prediction
    assert prediction.can_be_synchronized == (example.early_s is not None)
    if example.early_s is not None:
        assert prediction.refined_s == pytest.approx(example.early_s, abs=0.04)
        assert prediction.confidence > (UNSURE if example.model else 0.9)
        assert headline(measured).tone == ("off" if example.early_s else "good")


def test_the_audio_of_the_face_is_moved_and_nothing_else() -> None:
    if not RECORDED.exists():
        pytest.skip(f"there is no {RECORDED}")
    assert FACE.early_s == 0.2
    shown, recorded = decode(FACE.path), decode(RECORDED)
    num_frames, num_samples, hop = 65, 40_000, int(FACE.early_s * recorded.sample_rate_hz)
    assert np.array_equal(shown.frames[:num_frames], recorded.frames[:num_frames])
    early, as_said = shown.samples[:num_samples], recorded.samples[hop : hop + num_samples]
    assert np.abs(early - as_said).max() < 1e-3 * np.abs(as_said).max()


def test_clips_of_others_are_attributed_wherever_they_are_told_of() -> None:
    ours = {example.file for example in EXAMPLES if not example.credit}
    assert ours == set(VIDEO)
    assert {path.name for path in FOLDER.glob("*.mp4")} == {e.file for e in EXAMPLES}
    told = [FACE.path.with_suffix(".txt"), ROOT / "README.md", ROOT / "docs" / "demo.md"]
    for lines in [FACE.credit, *(path.read_text() for path in told)]:
        text = " ".join(lines.split())
        for words in (*AUTHORS, "GRID", "2006", LICENCE, "10.5281/zenodo.3625687"):
            assert words in text
        assert "creativecommons.org/licenses/by/4.0/" in text
        assert "ropped to the face" in text


def test_an_example_that_needs_a_model_is_left_out_without_it(tmp_path: Path) -> None:
    def copied(*models: str) -> list[str]:
        copies = copy_examples(tmp_path, models)
        assert all(copy.path.read_bytes() == (FOLDER / copy.file).read_bytes() for copy in copies)
        assert {copy.path.parent for copy in copies} == {tmp_path}
        return [copy.file for copy in copies]

    drawn = ["in-sync.mp4", "early.mp4", "foreign-sound.mp4"]
    assert copied() == drawn
    assert copied("tiny-talking") == [*drawn, "talking.mp4"]


def clicks(settings: Settings) -> tuple[str, list[Callable[[str], Any]]]:
    """Lay the page out; return its HTML, and what a click on each example does."""
    with Blocks() as blocks:
        page = lay_out(choices(), settings.model, list(EXAMPLES))
        wire(page, Actions(settings, ModelCache()), Jobs(), blocks, list(EXAMPLES))
    html = "".join(str(getattr(block, "value", "")) for block in blocks.blocks.values())
    takes = [
        event.fn
        for button in page.given.examples
        for event in blocks.fns.values()
        if (button._id, "click") in event.targets and page.given.clip in event.outputs
    ]
    return html, takes  # type: ignore[return-value]


@pytest.mark.usefixtures("talking")
def test_the_face_brings_its_model_and_the_next_example_takes_it_away() -> None:
    html, (in_sync, *_, face) = clicks(Settings(model="tiny-synthetic-sync"))
    assert FACE.credit in html
    clip, model, card, pull, find, *tabs = face("tiny-synthetic")
    assert (clip, model) == (str(FACE.path), "tiny-talking")
    assert '<div class="card"><p>s.</p>' in card
    assert (pull["visible"], find["value"]) == (False, "Find the offset")
    assert [tab["visible"] for tab in tabs] == [True, True]
    assert in_sync("tiny-talking")[1] == "tiny-synthetic-sync"


@pytest.mark.usefixtures("talking")
def test_a_model_that_suits_an_example_stays_chosen() -> None:
    _, (in_sync, *_, face) = clicks(Settings())
    for take, model in ((in_sync, "tiny-synthetic-trust"), (face, "tiny-talking")):
        _, *shown = take(model)
        assert all(update == {"__type__": "update"} for update in shown)
