"""The parts of the demo without a browser or a server."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio as gr
from starlette.responses import PlainTextResponse

from demo import available_models, memory, sentences, upload_checks
from demo import upload_folder as demo_folder
from demo.actions import LARGE, Desynchronized, Measured, ask, measure
from demo.charts import distribution_chart, over_time_chart
from demo.cli import free_port, parse_auth
from demo.demo_settings import Settings
from demo.examples import EXAMPLES
from demo.jobs import Jobs, Steps, StoppedError, without_folders
from demo.model_cache import KEEP_FREE, MOST_MODELS, ModelCache
from demo.pieces import answer, card, said
from demo.request_filter import RequestFilter
from demo.upload_checks import require_clip
from zoo.catalog.entries import user_catalog
from zoo.catalog.model_folder import add_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, MediaError, ModelError
from zoo.inference.changepoints import OverTime, Stretch
from zoo.inference.drift import Drift
from zoo.inference.load import load, load_offsets
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.inference.predictor import Predictor
from zoo.models.model import Model
from zoo.training.recipe_builder import build_recipe

SETTINGS = Settings()


@pytest.fixture(scope="module")
def predictor() -> OffsetPredictor:
    return load_offsets("tiny-synthetic")


@pytest.fixture(scope="module")
def measured(predictor: OffsetPredictor) -> Measured:
    return measure(predictor, EXAMPLES[1].path, Steps())


def changed(measured: Measured, **facts: Any) -> Measured:
    return replace(measured, prediction=replace(measured.prediction, **facts))


@pytest.mark.parametrize(
    ("facts", "text", "tone"),
    [
        ({}, "The audio is 0.60 s early", "off"),
        ({"refined_s": -1.234}, "The audio is 1.23 s late", "off"),
        ({"refined_s": 0.03}, "Audio and video are in sync", "good"),
        ({"refined_s": 0.0}, "Audio and video are in sync", "good"),
        ({"refined_s": 0.05}, "The audio is 0.05 s early", "off"),
        ({"confidence": 0.3}, "The model is not sure", "doubt"),
        ({"synchronizability": 0.1}, "This clip cannot be synchronized", "doubt"),
        (
            {"over_time": OverTime([], Drift(0.0, 0.6, 0.2, 0.0, 180.0), "drifts from 0.0 s")},
            "The offset changes",
            "off",
        ),
    ],
)
def test_an_answer_is_a_sentence(
    measured: Measured, facts: dict[str, Any], text: str, tone: str
) -> None:
    headline = sentences.headline(changed(measured, **facts))
    assert (headline.text, headline.tone) == (text, tone)


def test_a_change_is_told_without_signs(measured: Measured) -> None:
    def detail(stretches: list[Stretch], drift: Drift | None) -> str:
        over_time = OverTime(stretches, drift, "")
        return sentences.headline(changed(measured, over_time=over_time)).detail

    parts = [Stretch(0.0, 45.0, -0.01, 1.0), Stretch(45.0, 90.0, 0.4, 1.0)]
    assert detail(parts, None) == "In sync until 0:45, then 0.40 s early."
    told = "It drifts: in sync at the start, 0.60 s late at the end, 0.20 s later every minute."
    assert detail(parts, Drift(0.0, -0.6, -0.2, 0.0, 180.0)) == told


def test_a_repair_goes_the_right_way(measured: Measured) -> None:
    assert sentences.headline(measured).detail == "Delay it by 0.60 s to repair the clip."
    late = changed(measured, refined_s=-0.5)
    assert sentences.headline(late).detail == "Advance it by 0.50 s to repair the clip."


def test_synchronizability_is_shown_only_if_a_model_tells(measured: Measured) -> None:
    def can(probability: float | None) -> list[str]:
        facts = sentences.facts(changed(measured, synchronizability=probability))
        return [value for name, value, _ in facts if name == "Can be synchronized"]

    assert [can(p) for p in (0.9, 0.4, 0.1, None)] == [["yes"], ["unclear"], ["no"], []]


def test_no_probability_is_shown_as_certain() -> None:
    assert [sentences.percent(p) for p in (1.0, 0.5, 0.001)] == ["> 99 %", "50 %", "< 1 %"]


def test_two_models_agree_or_not(measured: Measured) -> None:
    other = changed(measured, refined_s=-0.4, confidence=0.6, model="other")
    assert sentences.verdict(measured, measured) == "They agree to within 0.01 s"
    told = "They are 1.00 s apart; tiny-synthetic is the surer one"
    assert sentences.verdict(measured, other) == told
    foreign = changed(measured, synchronizability=0.1)
    assert sentences.verdict(measured, foreign).startswith("They disagree on whether")


def test_a_shift_is_noticed_or_not(measured: Measured) -> None:
    done = Desynchronized(Path("c.mp4"), -0.8, measured, changed(measured, refined_s=-0.2), 2.0)
    assert sentences.shift_words(done).text == "Noticed: 0.80 s later"
    missed = replace(done, shift_s=1.8)
    assert sentences.shift_words(missed).text == "Not noticed"
    assert "knows offsets of up to 2 s only" in sentences.shift_words(missed).detail


def test_names_of_files_are_text_and_no_markup(measured: Measured) -> None:
    shown = answer(changed(measured, path="/x/<img src=x onerror=alert(1)>.mp4"))
    assert "<img" not in shown
    assert "&lt;img" in shown
    assert "/x/" not in shown


def test_charts_say_in_words_what_they_show(measured: Measured) -> None:
    assert "highest near: 0.60 s early" in distribution_chart(measured.prediction)
    chart = over_time_chart(measured.prediction, measured.window_s)
    assert "Offset over time: +0.6 s throughout" in chart


def test_a_change_is_drawn_as_stretches(measured: Measured) -> None:
    stretches = [Stretch(0.0, 4.0, 0.0, 1.0), Stretch(4.0, 8.0, 0.4, 1.0)]
    p = replace(measured.prediction, over_time=OverTime(stretches, None, "0.0 s, then +0.4 s"))
    assert over_time_chart(p, measured.window_s).count('class="stretch"') == 2


def test_a_large_model_on_a_processor_looks_at_some_crops(
    predictor: OffsetPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.actions.count_parameters", lambda _model: LARGE + 1)
    prediction = measure(predictor, EXAMPLES[0].path, Steps()).prediction
    assert len(prediction.windows) < 12
    assert "a model of this size looks at" in prediction.notes[-1]


def test_a_model_of_another_task_answers_in_its_own_words() -> None:
    found = ask(load("tiny-synthetic-trust"), EXAMPLES[2].path, Steps())
    assert found.as_dict()["clip"] == "foreign-sound.mp4"
    shown = said(found)
    assert "Sound and picture cannot be synchronized" in shown
    assert "foreign-sound.mp4 · tiny-synthetic-trust" in shown


def test_an_answer_along_the_clip_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(demo_folder.VARIABLE, str(tmp_path))
    recipe = build_recipe(
        extractor="cavmae",
        preset="tiny",
        task="localization",
        overrides=["task.classes=[bark]", "task.num_slots=5"],
    )
    found = ask(Predictor(Model(recipe.model), "untrained"), EXAMPLES[0].path, Steps())
    assert found.plot is not None
    shown = said(found)
    assert 'src="data:image/png;base64,' in shown
    assert [slot["end_s"] for slot in found.as_dict()["slots"]][-1] == found.answer.duration_s


# -- what comes in


def test_a_clip_in_bounds_is_taken(clips: Manifest) -> None:
    assert require_clip(str(clips.clips[0].path), SETTINGS) == Path(clips.clips[0].path)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_minutes": 0.1}, "lasts 0.1 minutes, and this page takes up to 0.1"),
        ({"max_mb": 0.01}, "is larger than 0.01 MB"),
    ],
)
def test_a_clip_beyond_the_bounds_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(MediaError, match=f"^early.mp4 {reason}"):
        require_clip(str(EXAMPLES[1].path), replace(SETTINGS, **settings))


def test_a_picture_beyond_the_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_checks, "MAX_PIXELS", 64 * 64)
    with pytest.raises(MediaError, match="has 192 x 192 pixels at 25 frames per second"):
        require_clip(str(EXAMPLES[0].path), SETTINGS)


@pytest.mark.parametrize(
    "text", ["", "#EXTM3U\nfile:///etc/passwd", "ffconcat version 1.0\nfile /etc/passwd", "<MPD>"]
)
def test_files_that_name_other_files_are_never_opened(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.mp4").write_text(text)
    monkeypatch.setattr(upload_checks, "probe", lambda _path: pytest.fail("it was opened"))
    with pytest.raises(MediaError, match=r"^list\.mp4 is not a video file"):
        require_clip(str(tmp_path / "list.mp4"), SETTINGS)


def test_no_clip_and_a_clip_that_is_gone_are_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="there is no clip yet"):
        require_clip(None, SETTINGS)
    with pytest.raises(MediaError, match=r"gone\.mp4 is not here any more"):
        require_clip(str(tmp_path / "gone.mp4"), SETTINGS)


def test_a_bound_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="--keep-minutes 0 is not above 0"):
        Settings(keep_minutes=0)


# -- models


def test_models_are_loaded_once_and_shared(predictor: OffsetPredictor) -> None:
    loaded = []
    cache = ModelCache(load_model=lambda name, _device: loaded.append(name) or predictor)
    assert cache.take("tiny-synthetic") is cache.take("tiny-synthetic")
    assert loaded == ["tiny-synthetic"]


def test_the_longest_unused_model_goes_when_memory_runs_short(predictor: OffsetPredictor) -> None:
    left = [10 * KEEP_FREE]
    names = ["tiny-synthetic", "tiny-synthetic-sync"]
    cache = ModelCache(load_model=lambda _name, _device: predictor, free=lambda: left[0])
    for name in [*names, names[0]]:
        cache.take(name)
    assert cache.names == names[::-1]
    sizes = iter([0.5 * KEEP_FREE, 10 * KEEP_FREE])
    cache._free = lambda: next(sizes)
    cache.relieve()
    assert cache.names == names[:1]


def test_there_is_an_end_to_the_number_of_models(
    predictor: OffsetPredictor, model_folder: Path
) -> None:
    for number in range(MOST_MODELS + 2):
        add_model(model_folder, f"m{number}", "")
    cache = ModelCache(load_model=lambda _name, _device: predictor, free=lambda: 1e15)
    for number in range(MOST_MODELS + 2):
        cache.take(f"m{number}")
    assert len(cache.names) == MOST_MODELS
    cache.relieve()
    assert cache.names[-1] == f"m{MOST_MODELS + 1}"


def test_a_model_that_was_trained_again_is_loaded_again(
    predictor: OffsetPredictor, model_folder: Path
) -> None:
    folder = add_model(model_folder, "mine", "")
    loaded = []
    cache = ModelCache(load_model=lambda name, _device: loaded.append(name) or predictor)
    cache.take("mine")
    os.utime(folder / "model.safetensors", (1, 1))
    cache.take("mine")
    assert loaded == ["mine", "mine"]


def test_the_memory_of_this_machine_is_known() -> None:
    assert 0 < memory.free_bytes() < memory.total_bytes()


def test_models_with_a_head_are_offered() -> None:
    found = available_models.available_models()
    finders = {"tiny-synthetic", "synchformer-lrs3", "sparsesync-audioset"}
    others = {"tiny-synthetic-trust", "synchformer-synchronizability"}
    assert all(found[name].finds_offsets for name in finders)
    assert not any(found[name].finds_offsets for name in others)
    assert {"synchformer-avclip-lrs3", "motionformer-ssv2"}.isdisjoint(found)
    assert found["tiny-synthetic"].is_ready
    assert not found["synchformer-lrs3"].is_here


def test_a_model_of_ones_own_is_offered(model_folder: Path) -> None:
    add_model(model_folder, "mine", "my <own> model")
    model = available_models.find_model("mine")
    assert model.is_ready
    assert "my &lt;own&gt; model" in card(model)


def test_a_model_says_why_it_cannot_run_here(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add_model(model_folder, "mine", "")
    monkeypatch.setattr(available_models, "total_bytes", lambda: 100.0)
    with pytest.raises(ModelError, match="'mine' cannot run here: its weights take"):
        available_models.find_model("mine")
    (folder / "model.json").write_text("{")
    assert available_models.available_models()["mine"].problem == "its folder is damaged"
    user_catalog().write_text("models: {away: {summary: s, folder: nowhere}}")
    assert "is not there" in available_models.available_models()["away"].problem


# -- files


def test_old_files_are_swept_and_new_ones_and_examples_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(demo_folder.VARIABLE, str(tmp_path))
    orphan = tmp_path / f"{demo_folder.PREFIX}{2**22 + 1}-killed"  # above every process's number
    orphan.mkdir()
    folder = demo_folder.make_folder()
    assert list(tmp_path.iterdir()) == [folder] == [demo_folder.make_folder()]
    (folder / "hash").mkdir()
    for name in ("hash/upload.mp4", "examples/early.mp4", "results/left.json"):
        (folder / name).touch()
    demo_folder.sweep(folder, 60.0)
    assert (folder / "hash/upload.mp4").exists()
    demo_folder.sweep(folder, -1.0)
    demo_folder.sweep(folder, -1.0)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == ["examples", "examples/early.mp4", "results"]


def test_an_answer_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(demo_folder.VARIABLE, str(tmp_path))

    def fail() -> None:
        with demo_folder.results() as folder:
            (folder / "half.mp4").touch()
            raise MediaError("no")

    with pytest.raises(MediaError, match="no"):
        fail()
    assert list((tmp_path / demo_folder.RESULTS).iterdir()) == []


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("/tmp/a/b/clip.mp4 is damaged", "clip.mp4 is damaged"),
        ("cannot read '/tmp/a/x.json': no", "cannot read 'x.json': no"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("12 and/or 3/4 of it", "12 and/or 3/4 of it"),
    ],
)
def test_messages_name_files_without_their_folders(message: str, told: str) -> None:
    assert without_folders(message) == told


# -- work


def run_job(work: Any, act: Any = None) -> Any:
    """Run work as an event of a session; ``act(jobs, task)`` is called once it has begun."""

    async def main() -> Any:
        jobs, begun = Jobs(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def begin(steps: Steps) -> Any:
            loop.call_soon_threadsafe(begun.set)
            return work(steps)

        request = SimpleNamespace(session_hash="me")
        task = asyncio.ensure_future(jobs.run(begin, lambda *_a, **_k: None, request))
        await begun.wait()
        if act is not None:
            act(jobs, task)
        return await task

    return asyncio.run(main())


def work_until_unwanted(ended: threading.Event) -> Any:
    def work(steps: Steps) -> None:
        try:
            while True:
                steps(1, 2)
                time.sleep(0.005)
        except StoppedError:
            ended.set()
            raise

    return work


def test_work_ends_when_its_event_is_cancelled() -> None:
    ended = threading.Event()
    with pytest.raises(asyncio.CancelledError):
        run_job(work_until_unwanted(ended), lambda _jobs, task: task.cancel())
    assert ended.wait(10)


def test_work_ends_when_its_visitor_has_left() -> None:
    ended = threading.Event()
    with pytest.raises(gr.Error, match="stopped"):
        run_job(
            work_until_unwanted(ended),
            lambda jobs, _task: jobs.leave(SimpleNamespace(session_hash="me")),
        )
    assert ended.is_set()


def test_mistakes_of_visitors_and_of_ours_are_told_apart() -> None:
    def damaged(_steps: Steps) -> None:
        raise MediaError("/srv/secret/<b>.mp4 is damaged")

    def broken(_steps: Steps) -> None:
        raise RuntimeError("/srv/secret")

    with pytest.raises(gr.Error) as told:
        run_job(damaged)
    assert told.value.message == "&lt;b&gt;.mp4 is damaged"
    with pytest.raises(gr.Error) as told:
        run_job(broken)
    assert told.value.message == "something went wrong on this server; its log says what"


def ask_filter(
    path: str,
    behind: Any = None,
    parts: tuple[bytes, ...] = (b"",),
    headers: tuple[tuple[bytes, bytes], ...] = (),
    **options: Any,
) -> tuple[int, str]:
    """Return the status and text of an answer; 200 is of the application behind the filter."""
    sent: list[Any] = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return waiting.pop(0)

    scope = {"type": "http", "path": path, "method": "POST", "headers": list(headers)}
    options = {"max_bytes": 5_000_000, "keep_free": 0} | options
    app = RequestFilter(behind or PlainTextResponse("behind"), **options)
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return int(sent[0]["status"]), sent[1]["body"].decode()


def test_uploads_are_refused_when_the_disk_is_nearly_full(tmp_path: Path) -> None:
    assert ask_filter("/gradio_api/upload", folder=tmp_path)[0] == 200
    assert ask_filter("/gradio_api/upload", folder=tmp_path, keep_free=2**62)[0] == 507
    assert ask_filter("/gradio_api/queue/join", folder=tmp_path, keep_free=2**62)[0] == 200


def test_requests_for_what_lies_elsewhere_are_refused(tmp_path: Path) -> None:
    for path in ("file=http://a/", "file=https://a/", "proxy=http://a/", "file= HTTP://a/"):
        assert ask_filter(f"/gradio_api/{path}", folder=tmp_path)[0] == 403
    assert ask_filter("/gradio_api/file=/tmp/a.mp4", folder=tmp_path)[0] == 200


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of bytes and the headers that came through."""
    num, more = 0, True
    while more:
        message = await receive()
        num, more = num + len(message["body"]), message["more_body"]
    names = [name.decode() for name, _ in scope["headers"]]
    await PlainTextResponse(f"{num} {names}")(scope, receive, send)


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("this request should not have come through")


def test_requests_are_bounded_before_they_are_parsed(tmp_path: Path) -> None:
    join, upload, part = "/gradio_api/queue/join", "/gradio_api/upload", bytes(400_000)
    assert ask_filter(join, reads_all, (part, part), folder=tmp_path) == (200, "800000 []")
    large = (part,) * 3
    status, told = ask_filter(join, never, large, folder=tmp_path)
    assert (status, told) == (413, "a request may have 1,000,000 bytes; this one is larger")
    declared = ((b"content-length", b"1200000"),)
    assert ask_filter(join, never, large, declared, folder=tmp_path)[0] == 413
    assert ask_filter(upload, reads_all, large, declared, folder=tmp_path)[0] == 200
    assert ask_filter(upload, never, large, declared, folder=tmp_path, max_bytes=1_000)[0] == 413


def test_what_gradio_cannot_cope_with_is_a_sentence(tmp_path: Path) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise TypeError("/srv/secret")

    status, told = ask_filter("/gradio_api/upload", fails, folder=tmp_path)
    assert (status, json.loads(told)) == (
        400,
        {"detail": "this upload cannot be read: send a file with a name"},
    )
    assert ask_filter("/gradio_api/queue/join", fails, folder=tmp_path)[0] == 500


def test_no_client_says_what_the_server_is_called(tmp_path: Path) -> None:
    given = ((b"x-gradio-server", b"http://evil"), (b"accept", b"*/*"))
    assert ask_filter("/", reads_all, headers=given, folder=tmp_path) == (200, "0 ['accept']")


# -- the command


def test_without_gradio_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("demo.cli.find_spec", lambda _name: None)
    assert run(["demo"]) == 2
    assert "pip install 'avsync-zoo[demo]'" in " ".join(capsys.readouterr().err.split())


def test_a_password_may_hold_colons() -> None:
    assert parse_auth("ann:a:b") == ("ann", "a:b")
    assert parse_auth("") is None


def test_any_free_port_will_do() -> None:
    assert free_port("127.0.0.1", 0) > 0
