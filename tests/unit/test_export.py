"""Models as torch.export programs and ONNX files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from torch import nn
from torch.export import ExportedProgram

from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, MediaError, ModelError
from zoo.export import METADATA, export, formats
from zoo.export.inputs import crop_of_clip, made_up_crop, random_crops
from zoo.models.config import ModelConfig
from zoo.models.model import Model, require_offsets
from zoo.training.recipe_builder import build_recipe

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra 'export' is not installed",
)


@pytest.fixture(autouse=True)
def _no_shape_checks() -> Iterator[None]:
    """Shapes checked at run time would fix the batch size of what is traced."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def model(model: Model) -> Model:
    """The small model with a single block per extractor and three segments: it traces faster."""
    config = model.config.model_dump(mode="json")
    for modality in ("audio", "vision"):
        config["encoder"]["config"][modality]["extractor"]["config"]["depth"] = 1
    config["layout"]["num_segments"] = 3
    torch.manual_seed(0)
    return Model(ModelConfig.model_validate(config)).eval()


@pytest.fixture(scope="module")
def model_folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a folder."""
    folder = tmp_path_factory.mktemp("models") / "shallow"
    save_model(folder, model)
    return folder


@pytest.fixture(scope="module")
def traced(model: Model) -> tuple[ExportedProgram, bool]:
    """The same model, traced; tracing takes most of the time."""
    jaxtyping_config.update("jaxtyping_disable", True)
    return formats.trace(model, "shallow")


@pytest.fixture
def _traced_before(traced: tuple[ExportedProgram, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.export.write_export.trace", lambda _model, _name: traced)


def assert_same(model: Model, answer: object, num: int) -> None:
    inputs = random_crops(model, num)
    with torch.no_grad():
        torch.testing.assert_close(answer(inputs), model(*inputs), rtol=1e-4, atol=1e-3)  # type: ignore[operator]


def test_a_torch_program_answers_as_the_model_for_any_batch(
    model: Model, model_folder: Path, clips: Manifest, tmp_path: Path
) -> None:
    clip = clips.clips[0].path
    done = export(model_folder, tmp_path / "model.pt2", clip=clip)
    assert done.batch
    assert list(done.differences) == [str(clip), "random, batch of 2"]
    assert max(done.differences.values()) <= 1e-4 * max(1, done.largest_logit)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    kept = {METADATA: ""}
    program = torch.export.load(done.path, extra_files=kept).module()
    assert json.loads(kept[METADATA]) == json.loads(json.dumps(done.metadata))
    assert_same(model, lambda inputs: program(*inputs), 5)


@needs_onnx
@pytest.mark.usefixtures("_traced_before")
def test_an_onnx_file_answers_as_the_model_for_any_batch(
    model: Model, model_folder: Path, tmp_path: Path
) -> None:
    import onnx

    done = export(model_folder, tmp_path / "model.onnx", format="onnx")
    assert done.batch
    assert list(done.differences) == ["a made-up flash and click", "random, batch of 2"]
    assert_same(model, formats.load_onnx(done.path), 3)
    written = onnx.load(done.path)
    about = {entry.key: entry.value for entry in written.metadata_props}
    assert json.loads(about["inputs"]) == done.metadata["inputs"]
    assert json.loads(about["classes"]) == list(require_offsets(model, "shallow").offsets_s)
    assert [value.name for value in written.graph.input] == ["audio", "vision"]
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("head", ["correlation", "sync"])
@pytest.mark.parametrize("pair", ["ast_motionformer", "resnet18_s3d"])
def test_tiny_models_of_both_pairs_can_be_exported(
    pair: str, head: str, kind: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Model(build_recipe(extractor=pair, head=head, preset="tiny").model).eval()
    save_model(tmp_path / "model", model)
    suffix, load = {
        "torch": (".pt2", formats.load_torch),
        "onnx": (".onnx", formats.load_onnx),
    }[kind]
    done = export(tmp_path / "model", tmp_path / f"model{suffix}", format=kind)
    assert done.batch
    assert_same(model, load(done.path), 3)


@pytest.mark.usefixtures("_traced_before")
def test_a_file_that_answers_otherwise_is_not_left(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_file: Path) -> object:
        return lambda inputs: torch.full((len(inputs[0]), 21), torch.nan)

    monkeypatch.setattr("zoo.export.write_export.load_torch", wrong)
    with pytest.raises(ModelError, match=r"answers otherwise .* nothing was written"):
        export(model_folder, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_a_model_that_looks_at_its_batch_size_is_written_for_one_crop(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Model.forward

    def fixed(self: Model, audio: torch.Tensor, vision: torch.Tensor) -> torch.Tensor:
        return forward(self, audio, vision) + 0.0 * len(audio)

    monkeypatch.setattr(Model, "forward", fixed)
    done = export(model_folder, tmp_path / "model.pt2")
    assert not done.batch
    assert done.metadata["inputs"]["audio"][0] == 1


def test_made_up_crops_have_the_shape_of_real_ones(model: Model, clips: Manifest) -> None:
    real = crop_of_clip(model, clips.clips[0].path)
    for crops in (made_up_crop(model), random_crops(model, 1)):
        assert [x.shape for x in crops] == [x.shape for x in real]


@pytest.mark.parametrize(
    ("out", "options", "sentence"),
    [
        ("model.pt2", {"format": "tensorflow"}, "format 'tensorflow' is not one of torch, onnx"),
        ("model.onnx", {"format": "torch"}, "format torch writes .pt2 files, not model.onnx"),
        ("there.pt2", {}, "exists already"),
        ("no/model.pt2", {}, "there is no folder"),
    ],
)
def test_bad_requests_are_one_sentence(
    out: str, options: dict[str, str], sentence: str, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.pt2").write_text("mine")
    with pytest.raises(ConfigError, match=sentence):
        export(model_folder, tmp_path / out, **options)  # type: ignore[arg-type]
    assert (tmp_path / "there.pt2").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_packages_are_named_with_the_command_that_brings_them(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs onnx, .*pip install 'avsync-zoo\[export\]'"):
        export(model_folder, tmp_path / "model.onnx", format="onnx")


def test_a_model_without_a_head_is_refused(model: Model, tmp_path: Path) -> None:
    headless = Model(model.config.model_copy(update={"head": None}))
    save_model(tmp_path / "headless", headless)
    with pytest.raises(ConfigError, match="has no head yet"):
        export(tmp_path / "headless", tmp_path / "model.pt2")


def test_a_model_that_cannot_be_traced_is_refused(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wilful(nn.Module):
        def forward(self, _segments: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not today")

    monkeypatch.setattr("zoo.models.two_tower.ExtractorEncoder.forward", Wilful.forward)
    with pytest.raises(ConfigError, match="cannot be traced: not today"):
        export(model_folder, tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()


def test_the_command_prints_one_sentence_about_a_clip_that_is_not_there(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(model_folder), "-o", str(tmp_path / "m.pt2"), "--clip", "missing.mp4"]
    assert run(["export", *arguments]) == 2
    assert "error: there is no file missing.mp4" in capsys.readouterr().err
    with pytest.raises(MediaError):
        export(model_folder, tmp_path / "m.pt2", clip="missing.mp4")


@pytest.mark.usefixtures("_traced_before")
def test_the_command_prints_the_differences(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(model_folder), "-o", str(tmp_path / "m.pt2")]) == 0
    printed = capsys.readouterr().out
    assert "audio (batch, 3, 128, 66)" in printed
    assert "a made-up flash and click" in printed
