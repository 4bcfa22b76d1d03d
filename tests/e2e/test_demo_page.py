"""The page in a real browser: what a visitor sees, clicks and takes home.

``ZOO_SCREENSHOTS=docs/demo pytest tests/e2e/test_demo_page.py`` draws the pictures of the docs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from demo_server import EXAMPLES, Demo, long_clip, running

from zoo.catalog.entries import read_catalog
from zoo.inference.load import load_offsets as load
from zoo.media import probe, shift_audio

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")
PATIENCE_MS = 60_000
PHONE = {"width": 390, "height": 844}
Shoot = Callable[[str], None]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def look() -> dict[str, object]:
    """How the browser is set up; tests of phones and of dark mode say something else."""
    return {"viewport": {"width": 1280, "height": 800}}


@pytest.fixture
def page(
    demo: Demo, browser: sync_api.Browser, look: dict[str, object], request: pytest.FixtureRequest
) -> Iterator[sync_api.Page]:
    """A page that has loaded; it may ask nobody but the server for anything."""
    look = {**look, **getattr(request, "param", {})}
    context = browser.new_context(**look)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    hosts: set[str] = set()
    page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
    page.goto(demo.url)
    page.wait_for_selector("#card .card")
    yield page
    context.close()
    assert hosts - {"", urlsplit(demo.url).netloc} == set()


@pytest.fixture
def shoot(page: sync_api.Page) -> Shoot:
    """Take a picture for the docs, if they are asked for."""

    def take(name: str) -> None:
        folder = os.environ.get("ZOO_SCREENSHOTS")
        if not folder:
            return
        from PIL import Image

        page.mouse.move(0, 0)
        page.wait_for_timeout(1200)  # transitions, and the first pictures of the players
        file = Path(folder, f"{name}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=file, full_page=True)
        Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)

    return take


def upload(page: sync_api.Page, clip: Path) -> None:
    page.set_input_files("#clip input[type=file]", clip)
    page.wait_for_selector("#clip video")


def take_example(page: sync_api.Page, number: int) -> None:
    page.click(f"#example-{number}")
    page.wait_for_selector("#clip video")


def find_offset(page: sync_api.Page) -> str:
    page.click("#find")
    return page.inner_text("#find-answer .answer h2")


def open_tab(page: sync_api.Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def choose_model(page: sync_api.Page, name: str) -> None:
    page.click("#model input")
    page.get_by_role("option", name=name).first.click()


def fits(page: sync_api.Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_an_uploaded_clip_gets_its_offset_in_words(
    page: sync_api.Page, shoot: Shoot, tmp_path: Path
) -> None:
    shift_audio(EXAMPLES / "in-sync.mp4", tmp_path / "my clip.mp4", 0.72)
    upload(page, tmp_path / "my clip.mp4")
    shoot("upload")
    assert find_offset(page) == "The audio is 0.73 s late"
    text = page.inner_text("#find-answer")
    assert "Advance it by 0.73 s" in text
    assert "Can be synchronized\nyes" in text
    assert page.get_attribute("#find-answer svg >> nth=0", "aria-label")
    shoot("predict")
    page.click("#numbers button")
    with page.expect_download() as download:
        page.click("#json-file")
    answer = json.loads(Path(download.value.path()).read_text())
    assert answer["refined_s"] == pytest.approx(-0.726, abs=0.03)
    assert answer["clip"] == "my clip.mp4"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "Audio and video are in sync"),
        (1, "The audio is 0.60 s early"),
        (2, "This clip cannot be synchronized"),
    ],
)
def test_the_bundled_examples_get_the_right_answers(
    page: sync_api.Page, number: int, words: str, shoot: Shoot
) -> None:
    take_example(page, number)
    assert find_offset(page) == words
    if number == 2:
        shoot("foreign-sound")


def test_the_face_brings_the_model_that_knows_faces(page: sync_api.Page, shoot: Shoot) -> None:
    if "tiny-talking" not in read_catalog():
        pytest.skip("the catalog has no model tiny-talking")
    take_example(page, 3)
    page.wait_for_function("document.querySelector('#model input').value == 'tiny-talking'")
    *_, seconds, unit, way = find_offset(page).split()
    assert (float(seconds), unit, way) == (pytest.approx(0.2, abs=0.04), "s", "early")
    shoot("face")
    take_example(page, 0)
    page.wait_for_selector("#find-answer .empty")
    page.wait_for_function("document.querySelector('#model input').value == 'tiny-synthetic'")
    assert find_offset(page) == "Audio and video are in sync"


def test_another_clip_or_model_takes_the_old_answer_away(page: sync_api.Page) -> None:
    take_example(page, 1)
    find_offset(page)
    page.wait_for_selector("#fix")
    take_example(page, 0)
    page.wait_for_selector("#find-answer .empty")
    page.wait_for_selector("#fix", state="hidden")
    find_offset(page)
    choose_model(page, "tiny-synthetic-sync")
    page.wait_for_selector("#find-answer .empty")


def test_the_repaired_copy_plays_beside_the_original_and_can_be_taken_home(
    page: sync_api.Page, shoot: Shoot, tmp_path: Path
) -> None:
    take_example(page, 1)
    find_offset(page)
    page.click("#fix")
    assert page.inner_text("#fix-answer h3") == "The audio now plays 0.60 s later"
    for player in ("#before", "#after"):
        page.wait_for_function(f"document.querySelector('{player} video')?.readyState >= 2")
    shoot("repair")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "early.repaired.mp4"
    download.value.save_as(tmp_path / "home.mp4")
    assert abs(load("tiny-synthetic").predict(tmp_path / "home.mp4").refined_s) < 0.05
    assert probe(tmp_path / "home.mp4").video == probe(EXAMPLES / "early.mp4").video


def test_a_clip_that_nobody_is_sure_of_is_repaired_only_when_told_to(page: sync_api.Page) -> None:
    take_example(page, 2)
    find_offset(page)
    page.click("#fix")
    assert page.inner_text("#fix-answer h3") == "Not repaired"
    assert "/" not in page.inner_text("#fix-answer")
    page.click("#force")
    page.wait_for_selector("#after video")
    assert page.inner_text("#fix-answer .remarks")


def test_the_evidence_is_shown_on_request(page: sync_api.Page, shoot: Shoot) -> None:
    take_example(page, 1)
    find_offset(page)
    page.click("#evidence")
    assert "in the sound at" in page.inner_text("#evidence-answer .moments")
    page.locator("#plot img").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#plot img').naturalWidth > 500")
    shoot("evidence")


def test_two_models_answer_side_by_side(page: sync_api.Page, shoot: Shoot) -> None:
    take_example(page, 1)
    open_tab(page, "Compare")
    page.click("#compare")
    assert page.inner_text("#compare-answer .verdict").startswith("They agree to within 0.0")
    answers = page.locator("#compare-answer .answer").all_inner_texts()
    for name, text in zip(("tiny-synthetic", "tiny-film"), answers, strict=True):
        assert name in text
        assert "early" in text
    shoot("compare")


def test_a_visitor_desynchronizes_a_clip_and_the_model_notices(
    page: sync_api.Page, shoot: Shoot
) -> None:
    take_example(page, 0)
    open_tab(page, "Test")
    page.fill("#shift input[type=number]", "-0.8")
    page.keyboard.press("Tab")
    page.click("#test")
    assert page.inner_text("#test-answer h2") == "Noticed: 0.80 s later"
    page.wait_for_function("document.querySelector('#copy video')?.readyState >= 2")
    shoot("desynchronize")


def test_parts_of_a_clip_are_hidden_and_rebuilt(page: sync_api.Page, shoot: Shoot) -> None:
    take_example(page, 0)
    open_tab(page, "Rebuild")
    page.click("#rebuild")
    page.wait_for_selector("#rebuild-answer :text('audio: 75% of the patches hidden')")
    page.wait_for_function("document.querySelector('#rebuilt img').naturalWidth > 500")
    shoot("rebuild")
    page.get_by_label("all of the video").check()
    page.wait_for_selector("#share", state="hidden")
    page.click("#rebuild")
    page.wait_for_selector("#rebuild-answer :text('video: all patches hidden')")
    take_example(page, 1)
    page.wait_for_selector("#rebuilt", state="hidden")


def test_a_file_that_is_no_clip_gets_one_sentence_and_the_page_goes_on(
    page: sync_api.Page, shoot: Shoot, tmp_path: Path
) -> None:
    (tmp_path / "not a clip.mp4").write_text("a letter")
    page.set_input_files("#clip input[type=file]", tmp_path / "not a clip.mp4")
    page.wait_for_timeout(500)
    page.click("#find")
    told = page.inner_text("#find-answer .answer")
    assert "not a clip.mp4 is not a video file that this page knows." in told
    shoot("bad-file")
    take_example(page, 0)
    assert find_offset(page) == "Audio and video are in sync"


def test_work_is_shown_and_ends_when_it_is_cancelled(
    page: sync_api.Page, shoot: Shoot, tmp_path: Path
) -> None:
    choose_model(page, "patient")
    upload(page, long_clip(tmp_path))
    page.click("#find")
    page.wait_for_selector("#find-answer .progress-text, #find-answer .meta-text")
    page.wait_for_selector("#find-cancel")
    page.wait_for_timeout(1500)
    shoot("cancel")
    page.click("#find-cancel")
    page.wait_for_selector("#find")
    assert page.inner_text("#find-answer") == "Stopped."
    take_example(page, 0)
    choose_model(page, "tiny-synthetic")
    assert find_offset(page) == "Audio and video are in sync"


def test_a_model_that_is_not_here_is_downloaded_and_used(
    page: sync_api.Page, demo: Demo, shoot: Shoot
) -> None:
    choose_model(page, "published (to download)")
    page.wait_for_selector("#card :text('Not on this server yet')")
    shoot("download")
    page.click("#pull")
    page.wait_for_selector("#card :text('Not on this server yet')", state="detached")
    assert len(demo.origin.requests) == 1
    assert page.is_hidden("#pull")
    take_example(page, 1)
    assert find_offset(page) == "The audio is 0.60 s early"


def test_a_model_that_cannot_run_says_why(page: sync_api.Page) -> None:
    choose_model(page, "orphan (cannot run here)")
    page.wait_for_selector("#card :text('Cannot run here')")
    assert "gone" in page.inner_text("#card")
    assert page.is_hidden("#pull")


def test_what_others_wrote_is_shown_as_text(page: sync_api.Page) -> None:
    choose_model(page, "patient")
    page.wait_for_selector("#card :text('slow <b>model</b> of a plugin')")


@pytest.mark.parametrize(
    "page",
    [{"viewport": PHONE, "has_touch": True}, {"color_scheme": "dark"}],
    ids=["phone", "dark"],
    indirect=True,
)
def test_a_phone_and_dark_mode_show_everything(
    page: sync_api.Page, shoot: Shoot, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    take_example(page, 1)
    find_offset(page)
    assert fits(page)
    shoot(name)
    open_tab(page, "Compare")
    page.click("#compare")
    page.wait_for_selector("#compare-answer .verdict")
    assert fits(page)
    shoot(f"{name}-compare")
    ink, ground = page.evaluate(
        """() => ['color', 'backgroundColor'].map(what =>
            getComputedStyle(document.querySelector('#compare-answer .answer'))[what]
              .match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))"""
    )
    assert abs(ink - ground) > 400


def test_the_keyboard_is_enough(page: sync_api.Page) -> None:
    page.focus("#example-1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#clip video")
    page.focus("#find")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.inner_text("#find-answer .answer h2") == "The audio is 0.60 s early"
