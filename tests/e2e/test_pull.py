"""`zoo pull` against a real server: broken connections, wrong files, two pulls at once, no net."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from served import Answer, Server, serve

from zoo.catalog.entries import read_catalog, resolve, user_catalog, zoo_home
from zoo.catalog.model_folder import load_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ModelError
from zoo.models.model import Model
from zoo.registry.manager import add_plugin_file, registry

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
PATH = "/models/24-01-04/24-01-04.pt"
PLUGIN = '''
"""A layout for the smallest of models: our own names, in a checkpoint of torch."""
from pathlib import Path
import zoo

def read(tensors):
    from zoo.models.config import ModelConfig
    return ModelConfig.model_validate_json(Path(__file__).with_suffix(".json").read_text()), tensors

@zoo.hookimpl
def register_formats():
    name = "head.classifier.weight"
    return [zoo.FormatSpec(name="small", summary="", task="offset",
                           recognises=lambda names: "head" in str(names), read=read,
                           write=lambda model: model.state_dict())]
'''
Zoo = Callable[..., str]


@pytest.fixture
def small(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A checkpoint as its authors would publish it, with a plugin that knows its layout."""
    (tmp_path / "small.py").write_text(PLUGIN)
    (tmp_path / "small.json").write_text(model.config.model_dump_json())
    save_as_published(model.state_dict(), tmp_path / "small.pt")
    monkeypatch.setenv("ZOO_PLUGINS", "")
    add_plugin_file(tmp_path / "small.py")
    yield (tmp_path / "small.pt").read_bytes()
    monkeypatch.undo()
    registry.cache_clear()


@pytest.fixture
def server(small: bytes) -> Iterator[Server]:
    with serve({PATH: small}) as server:
        publish("small", small)
        yield server


@pytest.fixture
def zoo(capfd: pytest.CaptureFixture[str]) -> Zoo:
    """Run a command line that must end with a code; return what it printed."""

    def call(*arguments: object, code: int = 0) -> str:
        capfd.readouterr()
        got = run([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        assert got == code, printed.err
        assert "Traceback" not in printed.err
        assert printed.err.count("error:") == (code == 2)
        return " ".join((printed.out + printed.err).split())

    return call


def save_as_published(state: dict[str, torch.Tensor], file: Path) -> None:
    """Save a state dict as the published training script does, with `args` of omegaconf."""
    dictconfig, nodes = (
        types.ModuleType("omegaconf.dictconfig"),
        types.ModuleType("omegaconf.nodes"),
    )
    for module, name in ((dictconfig, "DictConfig"), (nodes, "AnyNode")):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
    args = dictconfig.DictConfig()
    node = nodes.AnyNode()
    node.__dict__.update(_parent=args, _val=2e-6)
    args.__dict__.update(_content={"learning_rate": node, "action": "train_sync_model"})
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    checkpoint = {
        "args": args,
        "loss": 1.5,
        "metrics": {"accuracy_1": 0.47},
        "epoch": 61,
        "optimizer": optimizer.state_dict(),
        "model": state,
        "scaler": {"scale": 65536.0},
        "lr_scheduler": {"last_epoch": 7},
        "model_type": "sync",
    }
    modules = {module.__name__: module for module in (dictconfig, nodes)}
    with patch.dict(sys.modules, {"omegaconf": types.ModuleType("omegaconf"), **modules}):
        torch.save(checkpoint, file)


def publish(name: str, content: bytes, **facts: object) -> None:
    """Make an entry of the user's catalog; its address leads nowhere without a mirror."""
    entry = {
        "summary": "a test",
        "download": {
            "url": f"https://nowhere.invalid{PATH}",
            "format": "small",
            "md5": hashlib.md5(content).hexdigest()[:7],
        },
        "scores": {"a set": {"accuracy": 0.5}},
        **facts,
    }
    file = user_catalog()
    known = yaml.safe_load(file.read_text())["models"] if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"models": {**known, name: entry}}))


def downloads() -> list[str]:
    """Name the files in the folder of downloads, but for locks."""
    folder = zoo_home() / "downloads"
    return (
        sorted(f.name for f in folder.iterdir() if f.suffix != ".lock") if folder.exists() else []
    )


def models() -> list[str]:
    return sorted(file.name for file in (zoo_home() / "models").glob("*"))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "zoo.cli", *(str(argument) for argument in arguments)]


def test_a_model_is_pulled_over_a_connection_that_breaks(
    server: Server, zoo: Zoo, model: Model, clips: Manifest
) -> None:
    server.answers = [Answer(status=503, headers={"Retry-After": "0"}), Answer(stops_after=500_000)]
    said = zoo("pull", "small", "--mirror", server.address)
    assert "the connection broke at" in said
    assert f"'small' is here now: {zoo_home() / 'models' / 'small'}" in said
    assert server.ranges == ["", "", "bytes=500000-"]
    assert downloads() == []
    pulled = load_model(resolve("small"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(pulled.state_dict()[name], tensor)
    assert "offset" in zoo("predict", "small", clips.clips[0].path)


def test_a_model_that_is_here_is_not_pulled_again(server: Server, zoo: Zoo) -> None:
    zoo("pull", "small", "--mirror", server.address)
    assert "is already here" in zoo("pull", "small", "tiny-synthetic")
    assert len(server.requests) == 1


def test_a_damaged_model_is_pulled_again(server: Server, zoo: Zoo) -> None:
    zoo("pull", "small", "--mirror", server.address)
    weights = resolve("small") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "pulling it again" in zoo("pull", "small", "--mirror", server.address)
    load_model(resolve("small"))


def test_the_catalog_says_what_is_here(server: Server, zoo: Zoo) -> None:
    def is_here() -> bool:
        rows = {row["name"]: row for row in json.loads(zoo("list", "models", "--json"))["models"]}
        assert rows["tiny-synthetic"]["is_here"]
        return rows["small"]["is_here"]

    assert not is_here()
    card = zoo("info", "small")
    assert "not here yet: zoo pull small" in card
    assert "accuracy 0.5" in card
    zoo("pull", "small", "--mirror", server.address)
    assert is_here()
    card = zoo("info", "small")
    assert "correlation" in card
    assert "accuracy 0.5" in card


def test_what_is_not_here_is_asked_for_in_one_sentence(zoo: Zoo, tmp_path: Path) -> None:
    sentence = "'synchformer-lrs3' is not here yet; get it with: zoo pull synchformer-lrs3"
    assert sentence in zoo("predict", "synchformer-lrs3", "clip.mp4", code=2)
    data = ("--data", tmp_path / "m.parquet")
    assert sentence in zoo("evaluate", "synchformer-lrs3", *data, code=2)
    assert "did you mean 'synchformer-lrs3'" in zoo("pull", "synchformer-lsr3", code=2)


def test_the_published_address_is_kept_below_the_mirror(zoo: Zoo) -> None:
    with serve({}) as server:
        mirror = server.address + "/copy"
        said = zoo("pull", "synchformer-lrs3", "--mirror", mirror, code=2)
    run_id = "23-12-23T18-33-57"
    path = "swift/v1/AUTH_a235c0f452d648828f745589cde1219a/sync/sync_models"
    assert server.requests[0]["path"] == f"/copy/{path}/{run_id}/{run_id}.pt"
    assert "answers 404" in said


def test_the_mirror_may_come_from_the_environment(
    server: Server, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MIRROR", server.address)
    (pulled,) = json.loads(zoo("pull", "small", "--json"))
    assert pulled == {"name": "small", "path": str(resolve("small")), "was_here": False}


def test_a_kept_file_serves_without_net(server: Server, zoo: Zoo) -> None:
    zoo("pull", "small", "--keep", "--mirror", server.address)
    assert downloads() == ["small.pt"]
    shutil.rmtree(resolve("small"))
    zoo("pull", "small", "--offline")
    assert len(server.requests) == 1
    assert models() == ["small"]


def test_being_offline_is_one_sentence_that_says_where_to_put_the_file(
    server: Server, zoo: Zoo, small: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    file = zoo_home() / "downloads" / "small.pt"
    said = zoo("pull", "small", "--mirror", server.address, code=2)
    assert f"put https://nowhere.invalid{PATH} at {file} and pull again" in said
    assert server.requests == []
    file.write_bytes(small[:-1])
    assert "is not the file that was published: expected md5" in zoo("pull", "small", code=2)
    file.write_bytes(small)
    zoo("pull", "small")
    assert models() == ["small"]


def test_a_wrong_file_leaves_nothing(server: Server, zoo: Zoo, small: bytes) -> None:
    server.files[PATH] = small[::-1]
    said = zoo("pull", "small", "--mirror", server.address, code=2)
    assert "is not the file that was published: expected md5" in said
    assert (downloads(), models()) == ([], [])


def test_a_web_page_leaves_nothing(server: Server, zoo: Zoo) -> None:
    server.files[PATH] = b"<html><title>Please log in</title></html>"
    said = zoo("pull", "small", "--mirror", server.address, code=2)
    assert "expected a checkpoint, found a web page ('Please log in')" in said
    assert (downloads(), models()) == ([], [])


@pytest.mark.parametrize("md5", ["as published", ""])
def test_a_file_that_cannot_be_converted_is_one_sentence(zoo: Zoo, small: bytes, md5: str) -> None:
    broken = small[:-200]
    publish("small", broken)
    if not md5:
        text = user_catalog().read_text()
        user_catalog().write_text(text.replace(hashlib.md5(broken).hexdigest()[:7], "''"))
    with serve({PATH: broken}) as server:
        assert "damaged" in zoo("pull", "small", "--mirror", server.address, code=2)
    assert models() == []
    # Without a checksum it may be the wrong file, and the next pull gets another.
    assert downloads() == (["small.pt"] if md5 else [])


def test_one_model_that_cannot_be_had_does_not_stop_the_others(
    server: Server, zoo: Zoo, small: bytes
) -> None:
    publish("other", small[::-1])
    assert "'small' is here now" in zoo(
        "pull", "other", "small", "--mirror", server.address, code=2
    )
    assert models() == ["small"]


def test_weights_of_an_extractor_stay_as_they_are(zoo: Zoo) -> None:
    weights = bytes(range(256)) * 100
    publish("weights", weights, kind="extractor")
    with pytest.raises(ModelError, match="zoo pull weights"):
        resolve("weights")
    with serve({PATH: weights}) as server:
        zoo("pull", "weights", "--mirror", server.address)
    assert resolve("weights") == zoo_home() / "models" / "weights" / "24-01-04.pt"
    assert resolve("weights").read_bytes() == weights
    assert "24-01-04.pt" in zoo("info", "weights")
    assert "is not a model folder" in zoo("predict", "weights", "clip.mp4", code=2)


def test_two_pulls_at_once_download_once(server: Server) -> None:
    server.answers = [Answer(stops_after=500_000, stalls_s=3)]
    arguments = command("pull", "small", "--mirror", server.address)
    pulls = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [pull.communicate(timeout=120) for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], said
    assert sorted("is already here" in out for out, _ in said) == [False, True]
    assert sum("another process is pulling this model" in err for _, err in said) == 1
    assert [r for r in server.ranges if not r] == [""]
    load_model(resolve("small"))


def test_an_interrupted_pull_says_how_to_go_on(server: Server, zoo: Zoo) -> None:
    server.answers = [Answer(stops_after=500_000, stalls_s=5)]
    pull = subprocess.Popen(
        command("pull", "small", "--mirror", server.address), stderr=subprocess.PIPE, text=True
    )
    part = zoo_home() / "downloads" / "small.pt.part"
    while not part.exists() or part.stat().st_size < 400_000:
        assert pull.poll() is None
        time.sleep(0.01)
    pull.send_signal(signal.SIGINT)
    _, error = pull.communicate(timeout=30)
    assert pull.returncode == 130
    assert "Go on with: zoo pull small" in error
    assert "Traceback" not in error
    kept = part.stat().st_size
    zoo("pull", "small", "--mirror", server.address)
    assert server.ranges == ["", f"bytes={kept}-"]


def test_a_home_that_cannot_be_written_is_one_sentence(
    server: Server, zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = user_catalog().read_text()
    home = tmp_path / "home"
    home.mkdir()
    (home / "catalog.yaml").write_text(catalog)
    (home / "downloads").write_text("a file where the folder should be")
    monkeypatch.setenv("ZOO_HOME", str(home))
    said = zoo("pull", "small", "--mirror", server.address, code=2)
    assert f"cannot write {home / 'downloads'}" in said
    assert "ZOO_HOME" in said


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the recipe of the stand-in weights is not beside this checkout"
)
def test_a_full_size_model_is_pulled_evaluated_and_written_back(zoo: Zoo, tmp_path: Path) -> None:
    name = "synchformer-audioset"
    theirs = stand_in_weights("sync_model_keys.csv")
    save_as_published(theirs, tmp_path / "theirs.pt")
    content = (tmp_path / "theirs.pt").read_bytes()
    publish(name, content, download=published_as(name, content))
    path = urlsplit(read_catalog()[name][0].download.url).path  # type: ignore[union-attr]
    with serve({path: content}) as server:
        server.answers = [Answer(stops_after=600_000_000)]
        said = zoo("pull", name, "--mirror", server.address)
    assert "the connection broke at 600 MB" in said
    assert server.ranges == ["", "bytes=600000000-"]
    del content

    assert f"{resolve(name)}" in zoo("info", name)
    assert "237.46 M" in zoo("info", name)

    clips = tmp_path / "clips"
    zoo("data", "synth", clips, "--clips", 1, "--split", "test", "--size", 256)
    report = tmp_path / "report.json"
    options = ("--rounds", 1, "--features", "online", "--no-controls", "--out", report)
    zoo("evaluate", name, "--data", clips / "manifest.parquet", *options)
    assert json.loads(report.read_text())["num_clips"] == 1

    zoo("convert", name, "--to", "published", "-o", tmp_path / "ours.pt")
    ours = torch.load(tmp_path / "ours.pt", weights_only=True)["model"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def stand_in_weights(inventory: str) -> dict[str, torch.Tensor]:
    """Make the deterministic weights of an inventory of the published code."""
    file = REFERENCE / "fake_weights.py"
    spec = importlib.util.spec_from_file_location("fake_weights", file)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    arrays = recipe.fake_state_dict(REFERENCE / inventory, "public-v1")
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def published_as(name: str, content: bytes) -> dict[str, object]:
    """Describe a stand-in like a published file, but for its checksum."""
    download = read_catalog()[name][0].download
    assert download is not None
    return {**download.model_dump(), "md5": hashlib.md5(content).hexdigest()[:7]}
