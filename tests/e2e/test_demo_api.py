"""The demo's API: the same verbs as the page, and what it refuses."""

from __future__ import annotations

import concurrent.futures
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from demo_server import EXAMPLES, Demo, long_clip, running
from served import serve

from demo.actions import Actions
from demo.cli import free_port
from demo.demo_settings import Settings
from demo.jobs import Steps, StoppedError
from demo.model_cache import ModelCache
from zoo.catalog.entries import shipped_catalog, user_catalog
from zoo.cli.app import run
from zoo.errors import ModelError
from zoo.inference.load import load_offsets as load
from zoo.media import decode, encode, shift_audio

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")
Client, handle_file = gradio_client.Client, gradio_client.handle_file
EARLY = EXAMPLES / "early.mp4"
DOCS = shipped_catalog().parent / "docs" / "demo.md"
SECRET = "nobody may read this"
OPTIONS = ("--max-mb", "2", "--max-minutes", "0.7", "--keep-minutes", "0.1")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo"), *OPTIONS) as demo:
        (demo.home / "secret.mp4").write_text(SECRET)
        yield demo


@pytest.fixture(scope="module")
def client(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Client(demo.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def ask(client: Any, clip: Path, name: str = "/predict", **more: Any) -> Any:
    return client.predict(clip=handle_file(clip), api_name=name, **more)


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def post(demo: Demo, path: str, body: Any) -> tuple[int, str]:
    """Send a request as no client of good manners would."""
    request = urllib.request.Request(
        demo.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_offers_the_verbs_of_the_page_and_nothing_else(client: Any, demo: Demo) -> None:
    with urllib.request.urlopen(f"{demo.url}/gradio_api/info") as answer:
        endpoints = json.load(answer)
    verbs = "models predict fix evidence compare desynchronize reconstruct"
    assert set(endpoints["named_endpoints"]) == {f"/{verb}" for verb in verbs.split()}
    assert endpoints["unnamed_endpoints"] == {}


def test_the_answer_is_that_of_the_library_without_folders(client: Any) -> None:
    answer = ask(client, EARLY)
    expected = load("tiny-synthetic").predict(EARLY, 0.04)
    assert answer["refined_s"] == pytest.approx(expected.refined_s, abs=1e-5)
    assert answer["synchronizability"] == pytest.approx(expected.synchronizability, abs=1e-4)
    assert answer["clip"] == "early.mp4"
    assert not re.search(r"(?<!\w)/\w", json.dumps(answer))


def test_models_come_with_their_cards(client: Any) -> None:
    cards = {card["name"]: card for card in client.predict(api_name="/models")}
    assert cards["tiny-synthetic"]["trained_on"].startswith("3,326 synthetic clips")
    assert cards["tiny-synthetic"]["scores"]
    assert cards["synchformer-audioset"]["is_here"] is False
    assert cards["tiny-synthetic-trust"]["finds_offsets"] is False
    assert {"synchformer-avclip-lrs3", "ast-audioset"}.isdisjoint(cards)


def test_a_model_of_a_users_plugin_is_there_without_any_change(client: Any) -> None:
    cards = {card["name"]: card for card in client.predict(api_name="/models")}
    assert cards["patient"]["problem"] == ""
    assert "'gone'" in cards["orphan"]["problem"]
    answer = ask(client, EARLY, model="patient")
    assert answer["refined_s"] == pytest.approx(0.6, abs=0.05)


def test_a_copy_is_repaired(client: Any) -> None:
    file, answer = ask(client, EARLY, "/fix")
    assert abs(load("tiny-synthetic").predict(file).refined_s) < 0.05
    assert answer["delay_s"] == pytest.approx(0.6, abs=0.03)
    assert Path(file).name == answer["out"] == "early.repaired.mp4"


def test_a_doubtful_repair_is_refused_unless_forced(client: Any) -> None:
    clip = EXAMPLES / "foreign-sound.mp4"
    with pytest.raises(Exception, match=r"^foreign-sound.mp4 is not repaired: its sound"):
        ask(client, clip, "/fix")
    assert ask(client, clip, "/fix", force=True)[1]["warnings"]


def test_a_container_without_times_is_repaired_as_another_one(client: Any, tmp_path: Path) -> None:
    window = decode(EARLY)
    encode(
        tmp_path / "early.avi",
        window.frames,
        window.samples,
        video_codec="mpeg4",
        audio_codec="libmp3lame",
    )
    file, answer = ask(client, tmp_path / "early.avi", "/fix")
    assert Path(file).name == "early.repaired.mkv"
    assert abs(answer["residue_s"]) < 0.05
    assert "AVI records no presentation times" in answer["warnings"][0]


def test_two_models_are_compared(client: Any) -> None:
    answers = ask(client, EARLY, "/compare", other="tiny-synthetic-sync")
    assert [answer["model"] for answer in answers] == ["tiny-synthetic", "tiny-synthetic-sync"]
    with pytest.raises(Exception, match="choose two different models"):
        ask(client, EARLY, "/compare", other="tiny-synthetic")
    with pytest.raises(Exception, match="there is no model yet: choose one"):
        ask(client, EARLY, "/compare", other="")


def test_a_clip_is_desynchronized(client: Any) -> None:
    file, answer = ask(client, EXAMPLES / "in-sync.mp4", "/desynchronize", shift_s=-0.5)
    assert answer["seen_s"] == pytest.approx(-0.5, abs=0.04)
    offset_s = load("tiny-synthetic").predict(file).refined_s
    assert offset_s == pytest.approx(answer["after"]["refined_s"], abs=0.05)
    with pytest.raises(Exception, match="knows offsets of up to 2 s either way"):
        ask(client, EARLY, "/desynchronize", shift_s=7)
    with pytest.raises(Exception, match="say by how many seconds"):
        ask(client, EARLY, "/desynchronize", shift_s=None)


def test_the_evidence_is_a_picture_and_numbers(client: Any) -> None:
    file, facts = ask(client, EARLY, "/evidence")
    assert Path(file).read_bytes().startswith(b"\x89PNG")
    assert len(facts["audio"]["recorded"]) == len(facts["chunks_s"])
    assert facts["clip"] == "early.mp4"


def test_what_is_hidden_is_rebuilt_and_drawn(client: Any) -> None:
    hidden = {"hide_audio": 1.0, "hide_vision": 0.0}
    file, facts = ask(client, EARLY, "/reconstruct", model="rebuilder", **hidden)
    assert Path(file).read_bytes().startswith(b"\x89PNG")
    assert facts["clip"] == "early.mp4"
    assert facts["hiding"]["audio"] == 1
    assert facts["vision"]["num_hidden"] == 0
    with pytest.raises(gradio_client.exceptions.AppError, match="no model 'tiny-synthetic' with"):
        ask(client, EARLY, "/reconstruct", model="tiny-synthetic")


def make_bad_clip(folder: Path, kind: str) -> Path:
    clip = folder / f"{kind}.mp4"
    good = EARLY.read_bytes()
    if kind == "text":
        clip.write_text("a letter")
    elif kind == "playlist":
        clip.write_text("#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n")
    elif kind == "cut":
        clip.write_bytes(good[: len(good) // 2])
    elif kind == "noise":
        clip.write_bytes(good[:64] + bytes(range(256)) * 200)
    elif kind == "short":
        pictures = bytes(64 * 64 * 3 * 25)
        encode_short(clip, pictures)
    elif kind == "long":
        clip.write_bytes(long_clip(folder / "long", 60.0).read_bytes())
    elif kind == "empty":
        clip.touch()
    return clip


def encode_short(clip: Path, pictures: bytes) -> None:
    import numpy as np

    frames = np.frombuffer(pictures, np.uint8).reshape(25, 64, 64, 3)
    encode(clip, frames, np.zeros(16_000, np.float32))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", r"text\.mp4 is not a video file"),
        ("playlist", r"playlist\.mp4 is not a video file"),
        ("cut", r"cut\.mp4 "),
        ("noise", r"noise\.mp4 "),
        ("short", r"short\.mp4 is too short"),
        ("long", r"long\.mp4 lasts 1\.0 minutes, and this page takes up to 0\.7"),
        ("empty", r"empty\.mp4 is not a video file"),
    ],
)
def test_a_bad_clip_gets_one_sentence_and_the_server_goes_on(
    client: Any, tmp_path: Path, kind: str, reason: str
) -> None:
    with pytest.raises(Exception, match=reason) as refused:
        ask(client, make_bad_clip(tmp_path, kind))
    told = str(refused.value)
    assert not re.search(r"(?<!\w)/\w", told), told
    assert "Traceback" not in told
    assert ask(client, EARLY)["clip"] == "early.mp4"


def test_a_file_that_is_too_large_is_not_taken(client: Any, tmp_path: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(EARLY.read_bytes() + bytes(2_000_000))
    with pytest.raises(ValueError, match="exceeds the maximum file size"):
        ask(client, tmp_path / "large.mp4")


@pytest.mark.parametrize("model", ["no-such-model", "orphan", "published", "models/patient", "/"])
def test_only_models_of_the_catalog_that_can_run_are_used(client: Any, model: str) -> None:
    with pytest.raises(Exception, match=r"no model '.*' is offered|cannot run here|pull it first"):
        ask(client, EARLY, model=model)


def test_no_file_but_uploads_can_be_fetched(demo: Demo) -> None:
    secret = demo.home / "secret.mp4"
    package = shipped_catalog().parent / "pyproject.toml"
    up = "/".join([".."] * 12)
    for path in ("/etc/passwd", secret, package, f"{up}/etc/passwd", f"%2e%2e/{up}{secret}"):
        for route in ("file=", "file/", "static/", "assets/"):
            assert status_of(f"{demo.url}/gradio_api/{route}{path}") in (403, 404), path


def test_nothing_is_fetched_from_elsewhere(demo: Demo) -> None:
    inside = demo.origin.address + "/models/published.pt"
    for route in ("file=", "proxy="):
        assert status_of(f"{demo.url}/gradio_api/{route}{inside}") == 403
        assert status_of(f"{demo.url}/gradio_api/{route}HTTP://example.org/") == 403
    told = predict_with(demo, inside)
    assert "send the clip itself, not an address" in told
    assert demo.origin.requests == []


def predict_with(demo: Demo, path: str) -> str:
    """Ask for a prediction of a file that was not uploaded; return all that the server says."""
    clip = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return predict_with_data(demo, [clip, "tiny-synthetic"])


def predict_with_data(demo: Demo, data: list[Any]) -> str:
    """Ask for a prediction with any arguments; return all that the server says."""
    status, text = post(demo, "/gradio_api/call/predict", {"data": data})
    if status != 200:
        return text
    event = json.loads(text)["event_id"]
    with urllib.request.urlopen(f"{demo.url}/gradio_api/call/predict/{event}") as answer:
        return str(answer.read().decode())


def test_no_file_but_uploads_can_be_named_as_a_clip(demo: Demo) -> None:
    shift_audio(EARLY, demo.home / "private.mp4", 0.1)
    uploads = demo.temp / "uploads"
    for path in (
        "/etc/passwd",
        str(demo.home / "private.mp4"),
        str(demo.home / "secret.mp4"),
        f"{uploads}/../../home/private.mp4",
        "../home/private.mp4",
    ):
        told = predict_with(demo, path)
        assert "event: error" in told, told
        assert "refined_s" not in told
        assert SECRET not in told


@pytest.mark.parametrize(
    "data",
    [
        [],
        [None, "tiny-synthetic"],
        ["text", 3],
        [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "tiny-synthetic"],
        [{"url": "file:///etc/passwd"}, "tiny-synthetic"],
        [{"path": 3}, {"a": []}],
    ],
)
def test_every_error_reaches_a_client_as_a_sentence(demo: Demo, data: list[Any]) -> None:
    told = predict_with_data(demo, data)
    assert "null" not in told, told
    assert "/etc" not in told
    assert re.search(r"[a-z]+ [a-z]+ [a-z]+", told.replace("event: error", "")), told


def send_upload(demo: Demo, parts: list[tuple[str, bytes]]) -> tuple[int, str]:
    """Upload parts, given by what their Content-Disposition says beside form-data."""
    mark = b"--mark\r\n"
    body = b"".join(
        mark + f"Content-Disposition: form-data{said}\r\n\r\n".encode() + content + b"\r\n"
        for said, content in parts
    )
    request = urllib.request.Request(
        demo.url + "/gradio_api/upload",
        body + b"--mark--\r\n",
        {"Content-Type": "multipart/form-data; boundary=mark"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    "said",
    [
        '; name="files"; filename=""',
        '; name="files"; filename="."',
        '; name="files"; filename="a/../.."',
        '; name="files"',
        '; name=""; filename="a.mp4"',
        "",
    ],
)
def test_a_strange_upload_is_taken_or_refused_in_words(demo: Demo, said: str) -> None:
    status, told = send_upload(demo, [(said, b"abc")])
    assert status in (200, 400), told
    assert str(demo.home) not in told
    assert "Internal Server Error" not in told


def test_a_request_is_bounded_as_a_whole_and_before_it_is_parsed(demo: Demo) -> None:
    before_mb = demo.memory_mb
    status, told = post(demo, "/gradio_api/queue/join", {"data": ["x" * 60_000_000]})
    assert (status, told) == (413, "a request may have 1,000,000 bytes; this one is larger")
    file = ('; name="files"; filename="a.mp4"', bytes(700_000))
    assert send_upload(demo, [file] * 2)[0] == 200
    status, told = send_upload(demo, [file] * 4)
    assert status == 413
    assert "may have 2,100,000 bytes" in told
    assert demo.memory_mb < before_mb + 40


def test_the_page_does_not_repeat_what_a_client_calls_it(demo: Demo) -> None:
    request = urllib.request.Request(demo.url, headers={"X-Gradio-Server": "http://evil.example"})
    with urllib.request.urlopen(request) as answer:
        assert b"evil.example" not in answer.read()


def test_uploads_and_results_are_deleted(demo: Demo, client: Any) -> None:
    ask(client, EARLY, "/fix")
    assert demo.uploads()
    for _ in range(120):
        if not demo.uploads():
            break
        time.sleep(0.5)
    assert demo.uploads() == []
    assert ask(client, EARLY)["clip"] == "early.mp4"


def test_a_download_can_be_cancelled_and_goes_on_later(tmp_path: Path) -> None:
    with serve({"/a.pt": bytes(3_000_000)}) as server:
        download = {"url": f"{server.address}/a.pt", "format": "synchformer"}
        models = {"away": {"summary": "s", "download": download}}
        user_catalog().write_text(yaml.safe_dump({"models": models}))
        steps = Steps(lambda share, _phase, _unit: share and steps.is_unwanted.set())
        actions = Actions(Settings(), ModelCache())
        with pytest.raises(StoppedError):
            actions.pull("away", steps)
        with pytest.raises(ModelError):  # it has come, and is no checkpoint
            actions.pull("away", Steps())
        assert server.ranges[0] == ""
        assert server.ranges[-1].startswith("bytes=")
    with pytest.raises(ModelError, match="does not allow downloads"):
        Actions(Settings(allows_pull=False), ModelCache()).pull("away", Steps())


def test_cancelled_work_ends(client: Any, tmp_path: Path) -> None:
    clip = handle_file(long_clip(tmp_path))
    slow = client.submit(clip=clip, model="patient", api_name="/predict")
    while not slow.status().progress_data:
        time.sleep(0.05)
    slow.cancel()
    assert ask(client, EARLY)["clip"] == "early.mp4"


def test_a_password_guards_the_page_and_the_api(tmp_path: Path) -> None:
    with running(tmp_path, "--auth", "ann:secret", has_plugin=False) as demo:
        assert status_of(f"{demo.url}/config") == 401
        assert post(demo, "/gradio_api/call/models", {"data": []})[0] == 401
        with pytest.raises(Exception, match=r"401|[Cc]redentials|login"):
            Client(demo.url, verbose=False)
        known = Client(demo.url, auth=("ann", "secret"), verbose=False)
        assert ask(known, EARLY)["clip"] == "early.mp4"
    assert [path for path in demo.temp.rglob("*") if path.is_file()] == []  # all go with the server


@pytest.mark.slow
def test_gradios_own_command_starts_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(free_port("127.0.0.1", 0)))
    command = [str(Path(sys.executable).parent / "gradio"), "demo/app.py"]
    with running(tmp_path, has_plugin=False, command=command) as demo:
        client = Client(demo.url, verbose=False, download_files=tmp_path / "got")
        assert ask(client, EARLY)["clip"] == "early.mp4"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--auth", "nobody"], "--auth is not user:password"),
        (["--auth", ":secret"], "--auth is not user:password"),
        (["--model", "nothing"], "no model 'nothing' is offered here"),
        (["--model", "synchformer-lrs3"], "is not on this server yet"),
        (["--model", "ast-audioset"], "no model 'ast-audioset' is offered here"),
        (["--max-mb", "0"], "--max-mb 0 is not above 0"),
        (["--device", "abacus"], "--device abacus cannot be used"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)
def test_bad_options_are_one_sentence(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", *options]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert reason in error
    assert "Traceback" not in error


def test_a_port_that_is_taken_is_said(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    port = demo.url.rpartition(":")[2]
    assert run(["demo", "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in " ".join(capsys.readouterr().err.split())


def test_the_example_of_the_docs_works(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```python\n(from gradio_client.*?)```", DOCS.read_text(), re.DOTALL)
    assert example is not None
    code = example[1].replace("http://127.0.0.1:7860", demo.url).replace("clip.mp4", str(EARLY))
    exec(compile(code, str(DOCS), "exec"), {})
    assert capsys.readouterr().out == "the audio is 0.6 s early; to repair, delay it by 0.6 s\n"


@pytest.mark.slow
@pytest.mark.parametrize("waiting", [20, 40])
def test_32_visitors_at_once_are_answered_or_told_to_wait(tmp_path: Path, waiting: int) -> None:
    options = ("--keep-minutes", "0.1", "--max-waiting", str(waiting))
    with running(tmp_path, *options, has_plugin=False) as demo:
        clips = [tmp_path / f"clip-{number}.mp4" for number in range(32)]
        for number, clip in enumerate(clips):
            shift_audio(EXAMPLES / "in-sync.mp4", clip, -0.05 * number)

        def visit(number: int) -> tuple[str, float]:
            begin = time.monotonic()
            try:
                client = Client(demo.url, verbose=False, download_files=tmp_path / "got")
                answer = ask(client, clips[number])
                right = abs(answer["refined_s"] - 0.05 * number) < 0.1
                return ("right" if right else "wrong"), time.monotonic() - begin
            except Exception as error:
                return str(error), time.monotonic() - begin

        visit(0)
        memory_mb = [demo.memory_mb]
        for _ in range(3):
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                answers = list(pool.map(visit, range(32)))
            memory_mb.append(demo.memory_mb)
            told = [text for text, _ in answers]
            waits = sorted(seconds for text, seconds in answers if text == "right")
            sys.stderr.write(  # for docs/demo.md
                f"{told.count('right')} answered, the last after {waits[-1]:.1f} s, "
                f"{32 - told.count('right')} told to wait; memory {memory_mb[-1]:.0f} MB\n"
            )
            assert told.count("wrong") == 0
            assert told.count("right") >= min(32, waiting + 1)  # one is in work
            others = {text for text in told if text != "right"}
            assert all("Queue is full" in text for text in others), others
        assert memory_mb[-1] - memory_mb[1] < 50
        for _ in range(120):
            if not demo.uploads():
                break
            time.sleep(0.5)
        assert demo.uploads() == []
