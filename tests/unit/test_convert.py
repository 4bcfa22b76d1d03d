"""Published checkpoints to model folders and back, by the command line."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import AVCLIP, SYNC, SYNCHRONIZABILITY, fake_checkpoint, needs_golden
from torch import Tensor

from plugins.synchformer.layout import Sizes, build_config, write
from plugins.synchformer.names import Kind
from zoo.catalog.convert import convert_checkpoint, export_checkpoint
from zoo.catalog.entries import read_description
from zoo.catalog.model_folder import load_model, save_model
from zoo.cli.app import run
from zoo.errors import ModelError
from zoo.files import sha256_of
from zoo.models.model import Model
from zoo.models.segments import Tokens
from zoo.registry.manager import registry
from zoo.testing import check_format

SMALL = Sizes(
    audio_dim=64,
    audio_depth=1,
    vision_dim=128,
    vision_depth=2,
    pixels=48,
    head_dim=96,
    head_depth=1,
)
FORMATS: dict[str, Kind] = {
    "synchformer": "sync",
    "synchformer-synchronizability": "synchronizability",
    "synchformer-avclip": "avclip",
}


def stand_in(kind: Kind, sizes: Sizes = SMALL) -> dict[str, Any]:
    """Return a small checkpoint in the published structure, of random weights."""
    torch.manual_seed(0)
    model = Model(build_config(kind, sizes))
    (structure,) = write(kind, model).items()
    others = {"epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(())}}}, "metrics": {}}
    return {**others, structure[0]: structure[1]}


@pytest.fixture
def checkpoint() -> dict[str, Any]:
    return stand_in("sync")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def refused(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """Convert what cannot be converted; nothing may be left of it."""
    before = sorted(tmp_path.iterdir())
    capsys.readouterr()
    assert run(["convert", str(path), "-o", str(tmp_path / "model"), *more]) == 2
    shown = said(capsys)
    assert shown.startswith("error: ")
    assert "Traceback" not in shown
    assert sorted(tmp_path.iterdir()) == before
    return shown


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_comes_back_key_for_key_and_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    theirs = stand_in(FORMATS[name])
    key = "state_dict" if name == "synchformer-avclip" else "model"
    source, folder, back = tmp_path / "a.pt", tmp_path / "model", tmp_path / "back.pt"
    torch.save(theirs, source)
    assert run(["convert", str(source), "-o", str(folder)]) == 0
    assert f"({name}, " in said(capsys)
    assert run(["convert", str(folder), "--to", "published", "-o", str(back)]) == 0
    assert f"in the layout {name}" in said(capsys)
    ours = torch.load(back, weights_only=True)
    assert list(ours) == [key]
    assert_same(ours[key], theirs[key])
    check_format(name, theirs[key])


@pytest.mark.parametrize("name", FORMATS)
def test_a_converted_model_answers_as_the_one_it_was_written_from(
    tmp_path: Path, name: str
) -> None:
    kind = FORMATS[name]
    torch.manual_seed(0)
    model = Model(build_config(kind, SMALL)).eval()
    torch.save(write(kind, model), tmp_path / "a.pt")
    assert convert_checkpoint(tmp_path / "a.pt", tmp_path / "model") == name
    again = load_model(tmp_path / "model")
    segments = torch.randn(2, 128, 66)
    with torch.no_grad():
        assert torch.equal(again.separable.audio(segments), model.separable.audio(segments))
        if kind == "avclip":
            assert again.head is None
            return
        num = model.config.layout.num_segments
        tokens = [
            Tokens.of_segments(torch.randn(2 * num, *shape), num, part.tokens)
            for shape, part in (((6, 64), model.io.audio), ((8, 128), model.io.vision))
        ]
        assert torch.equal(again.answer(*tokens), model.answer(*tokens))
    assert again.config.task is not None
    assert again.config.task.name == ("offset" if kind == "sync" else "synchronizability")


def test_the_folder_says_what_it_was_converted_from(
    tmp_path: Path, checkpoint: dict[str, Any]
) -> None:
    torch.save(checkpoint, tmp_path / "a.pt")
    (tmp_path / "model").mkdir()
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "model", scores={"theirs": 1})
    described = read_description(tmp_path / "model")
    assert described["converted_from"] == {
        "file": "a.pt",
        "sha256": sha256_of(tmp_path / "a.pt"),
        "format": "synchformer",
    }
    assert described["scores"] == {"theirs": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "model"]


def test_bare_wrapped_and_safe_state_dicts_are_read(
    tmp_path: Path, checkpoint: dict[str, Any]
) -> None:
    from safetensors.torch import save_file

    state = checkpoint["model"]
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "bare.pth")
    torch.save(checkpoint, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    stage1 = stand_in("avclip")["state_dict"]
    wrapped = {f"module.{name}": tensor for name, tensor in stage1.items()}
    torch.save({"epoch": 1, "state_dict": wrapped}, tmp_path / "ddp.pt")
    torch.save({"state_dict": stage1}, tmp_path / "single.pt")
    for file in ("a.safetensors", "bare.pth", "old.pt"):
        assert convert_checkpoint(tmp_path / file, tmp_path / f"{file}-model") == "synchformer"
    for file in ("ddp.pt", "single.pt"):
        convert_checkpoint(tmp_path / file, tmp_path / f"{file}-model")
        export_checkpoint(tmp_path / f"{file}-model", tmp_path / f"back-{file}")
        back = torch.load(tmp_path / f"back-{file}", weights_only=True)["state_dict"]
        assert_same(back, stage1)


def test_the_temperature_of_stage_one_is_kept(tmp_path: Path) -> None:
    theirs = stand_in("avclip")
    theirs["state_dict"]["logit_scale"] = torch.tensor(0.0234567)
    torch.save(theirs, tmp_path / "a.pt")
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "model")
    export_checkpoint(tmp_path / "model", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)["state_dict"]
    assert torch.equal(back["logit_scale"], theirs["state_dict"]["logit_scale"])


def test_every_format_says_where_it_is_from() -> None:
    for name, spec in registry().formats.items():
        assert spec.summary, name
        assert spec.source, name
        assert registry().format(name) is spec


# --- what is refused ---


def drop(state: dict[str, Tensor]) -> None:
    del state["transformer.ln_f.weight"], state["vproj.bias"]


def add(state: dict[str, Tensor]) -> None:
    state["transformer.extra"] = state["queue"] = torch.ones(2)


def reshape(state: dict[str, Tensor]) -> None:
    state["vproj.weight"] = state["vproj.weight"][:, :-1].contiguous()


def reshape_the_first(state: dict[str, Tensor]) -> None:
    state["afeat_extractor.ast.embeddings.cls_token"] = torch.ones(1, 1, 65)


def flatten(state: dict[str, Tensor]) -> None:
    state["vfeat_extractor.pos_embed"] = torch.tensor(1.0)


def poison(state: dict[str, Tensor]) -> None:
    state["aproj.weight"][3, 4] = torch.nan


def overflow(state: dict[str, Tensor]) -> None:
    state["transformer.OFF_tok"][0, 0, 5] = -torch.inf


def halve(state: dict[str, Tensor]) -> None:
    state["aproj.bias"] = state["aproj.bias"].half()


def count_up(state: dict[str, Tensor]) -> None:
    state["aproj.bias"] = state["aproj.bias"].long()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (drop, "it lacks the tensor 'vproj.bias' (and so is 1 more)"),
        (add, "it holds an unknown tensor 'transformer.extra' (and so is 1 more)"),
        (reshape, "the tensor 'vproj.weight' is 96 x 127 and should be 96 x 128"),
        (reshape_the_first, "'afeat_extractor.ast.embeddings.cls_token' is 1 x 1 x 65"),
        (flatten, "the tensor 'vfeat_extractor.pos_embed' is a scalar and should be"),
        (poison, "the tensor 'aproj.weight' holds NaN or infinity"),
        (overflow, "the tensor 'transformer.OFF_tok' holds NaN or infinity"),
        (halve, "the tensor 'aproj.bias' is float16 and should be float32"),
        (count_up, "the tensor 'aproj.bias' is int64 and should be float32"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    checkpoint: dict[str, Any],
    change: Any,
    sentence: str,
) -> None:
    change(checkpoint["model"])
    torch.save(checkpoint, tmp_path / "a.pt")
    shown = refused(tmp_path / "a.pt", tmp_path, capsys)
    assert sentence in shown
    assert "a.pt does not fit the layout 'synchformer': " in shown


@pytest.mark.parametrize("value", [0.0, -0.07, float("nan")])
def test_a_temperature_is_above_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    theirs = stand_in("avclip")
    theirs["state_dict"]["logit_scale"] = torch.tensor(value)
    torch.save(theirs, tmp_path / "a.pt")
    assert "'logit_scale'" in refused(tmp_path / "a.pt", tmp_path, capsys)
    del theirs["state_dict"]["logit_scale"]
    torch.save(theirs, tmp_path / "a.pt")
    assert "lacks the tensor 'logit_scale'" in refused(tmp_path / "a.pt", tmp_path, capsys)


def write_malicious(path: Path, checkpoint: dict[str, Any], trace: Path, place: str) -> None:
    """Hide a command in a whole checkpoint: beside the weights, or among them."""

    class Malicious:
        def __reduce__(self) -> Any:
            import os

            return os.system, (f"touch {trace}",)

    if place == "plain":
        path.write_bytes(pickle.dumps({"model": Malicious()}))
        return
    if place == "args":
        torch.save({**checkpoint, "args": Malicious()}, path)
    elif place == "old":
        content = {**checkpoint, "args": Malicious()}
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        checkpoint["model"] |= {"vproj.bias": Malicious()}
        torch.save(checkpoint, path)


@pytest.mark.parametrize("place", ["args", "weights", "old", "plain"])
@pytest.mark.parametrize("command", ["convert", "train"])
def test_a_checkpoint_that_would_run_a_command_runs_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    checkpoint: dict[str, Any],
    place: str,
    command: str,
) -> None:
    (tmp_path / "in").mkdir()
    file, trace = tmp_path / "in" / "a.pt", tmp_path / "in" / "trace"
    write_malicious(file, checkpoint, trace, place)
    if command == "convert":
        shown = refused(file, tmp_path, capsys)
    else:
        given = ["--init", str(file), "--data", "none.parquet", "--out", str(tmp_path / "run")]
        assert run(["train", *given]) == 2
        shown = said(capsys)
    assert "asks to run posix.system; it was not run; do not trust this file" in shown
    assert not trace.exists()
    if place == "plain":  # the same file does run where pickles are trusted
        pickle.load(io.BytesIO(file.read_bytes()))
        assert trace.exists()


def test_files_that_are_no_models_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: dict[str, Any]
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    torch.save(checkpoint, files / "whole.pt")
    cut = (files / "whole.pt").read_bytes()[:-1000]
    (files / "cut.pt").write_bytes(cut)
    (files / "page.pt").write_text("<!doctype html><title>404</title>")
    (files / "empty.pt").touch()
    torch.save({"weights": {"conv.weight": torch.ones(2), "b": torch.ones(1)}}, files / "other.pt")
    torch.save({"epoch": 3}, files / "nothing.pt")
    with zipfile.ZipFile(files / "archive.pt", "w") as archive:
        archive.writestr("a/readme", "")
    for name, sentence in {
        "cut.pt": "damaged or cut short",
        "page.pt": "is a web page, not a checkpoint",
        "empty.pt": "is empty",
        "other.pt": "is of no known layout (it holds 2 tensors, the first is 'conv.weight')",
        "nothing.pt": "holds no tensors",
        "archive.pt": "an archive, but not one of torch.save",
        "none.pt": "No such file",
        "": "is a folder; to write its model",
    }.items():
        assert sentence in refused(files / name, tmp_path, capsys), name
    for wanted, sentence in {
        "synchformer-avclip": "is not of the layout 'synchformer-avclip'",
        "synchformr": "did you mean 'synchformer'",
    }.items():
        assert sentence in refused(files / "whole.pt", tmp_path, capsys, "--format", wanted)


def test_nothing_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: dict[str, Any]
) -> None:
    torch.save(checkpoint, tmp_path / "a.pt")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").touch()
    assert "exists already" in refused(tmp_path / "a.pt", tmp_path, capsys)
    assert run(["convert", str(tmp_path / "a.pt"), "-o", "/dev/null/model"]) == 2
    assert "cannot write /dev/null/model" in said(capsys)


def test_models_that_are_not_of_the_family_are_not_written_as_such(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "b.pt")
    assert run(["convert", str(model_folder), "--to", "published", "-o", out]) == 2
    assert "its head is 'correlation', not 'sync'" in said(capsys)
    config = build_config("sync", SMALL)
    config.encoder.config["vision"]["extractor"]["config"]["motion_gain"] = 2.0
    save_model(tmp_path / "other", Model(config))
    with pytest.raises(ModelError, match=r"its '.*vision.*motion_gain' is 2\.0, not None"):
        export_checkpoint(tmp_path / "other", tmp_path / "b.pt", "synchformer")
    with pytest.raises(ModelError, match="its head is 'sync', not None"):
        export_checkpoint(tmp_path / "other", tmp_path / "b.pt", "synchformer-avclip")
    assert not (tmp_path / "b.pt").exists()


# --- the published sizes ---


@needs_golden
@pytest.mark.slow
@pytest.mark.parametrize(
    ("inventory", "name", "key"),
    [
        (SYNC, "synchformer", "model"),
        (SYNCHRONIZABILITY, "synchformer-synchronizability", "model"),
        (AVCLIP, "synchformer-avclip", "state_dict"),
    ],
)
def test_the_published_layouts_come_back_at_full_size(
    tmp_path: Path, inventory: str, name: str, key: str
) -> None:
    theirs = fake_checkpoint(inventory)
    torch.save({"args": None, "epoch": 1, key: theirs}, tmp_path / "a.pt")
    assert convert_checkpoint(tmp_path / "a.pt", tmp_path / "model") == name
    config = json.loads((tmp_path / "model" / "model.json").read_text())["config"]
    assert config["layout"]["num_segments"] == (13 if name.endswith("bility") else 14)
    export_checkpoint(tmp_path / "model", tmp_path / "back.pt")
    shutil.rmtree(tmp_path / "model")
    assert_same(torch.load(tmp_path / "back.pt", weights_only=True, mmap=True)[key], theirs)
