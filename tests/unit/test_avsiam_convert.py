"""AVSiam's checkpoints to model folders and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden import fake_checkpoint
from published_weights import published_avsiam
from ssl_golden import needs_ssl
from torch import Tensor

from plugins.avsiam import layout
from zoo.catalog.convert import convert_checkpoint, export_checkpoint
from zoo.catalog.model_folder import load_model
from zoo.checkpoints.layouts import unwrapped
from zoo.cli.app import run
from zoo.models.model import LEFTOVER, OBJECTIVE
from zoo.testing import check_format


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A small checkpoint in the published structure, of random weights."""
    monkeypatch.setattr(layout, "IMAGENET_CLASSES", 7)
    return published_avsiam()


def test_the_layout_keeps_its_promises(small: dict[str, Tensor]) -> None:
    check_format("avsiam", unwrapped(small))


def test_a_checkpoint_comes_back_bit_for_bit(small: dict[str, Tensor], tmp_path: Path) -> None:
    """Aliases, the second transformer and the class token's position included."""
    torch.save(small, tmp_path / "as2m_pretrained.20.pth")
    folder, again = tmp_path / "model", tmp_path / "again.pth"
    assert convert_checkpoint(tmp_path / "as2m_pretrained.20.pth", folder) == "avsiam"
    assert export_checkpoint(folder, again) == "avsiam"
    check_same(torch.load(again, weights_only=True), small)


def test_a_folder_that_keeps_the_second_transformer_unused_is_written_too(
    small: dict[str, Tensor], tmp_path: Path
) -> None:
    """As folders of earlier versions do."""
    torch.save(small, tmp_path / "a.pth")
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "model")
    model = load_model(tmp_path / "model")
    unused, own = (dict(model.beside[name]()) for name in (LEFTOVER, OBJECTIVE))
    second = [name for name in own if name.startswith("audio_encoder.")]
    assert second
    for name in second:
        unused[name.replace("audio_encoder", "ast_base")] = own.pop(name)
    objective = model.config.objective
    assert objective is not None
    settings = {
        k: v for k, v in objective.config.items() if k not in {"audio_encoder", "alternating"}
    }
    older = objective.model_copy(update={"config": settings})
    model.config = model.config.model_copy(update={"objective": older})
    model.beside = {OBJECTIVE: lambda: own, LEFTOVER: lambda: unused}
    check_same(layout.write(model), small)


def test_a_copy_that_differs_is_one_sentence(
    small: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "module.my_blocks.0.mlp.fc1.bias"
    torch.save({**small, name: small[name] + 1}, tmp_path / "a.pth")
    assert run(["convert", str(tmp_path / "a.pth"), "-o", str(tmp_path / "model")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'my_blocks.0.mlp.fc1.bias' is not equal to 'vit_base.blocks.0.mlp.fc1.bias'" in said


@needs_ssl
@pytest.mark.slow
def test_the_published_inventory_fits(tmp_path: Path) -> None:
    theirs = fake_checkpoint("avsiam_pretrain_keys.csv")
    for name in theirs:  # aliases are the same tensors
        if name.startswith("my_blocks."):
            theirs[name] = theirs[f"vit_base.blocks.{name.removeprefix('my_blocks.')}"]
    torch.save({f"module.{key}": tensor for key, tensor in theirs.items()}, tmp_path / "a.pth")
    folder = tmp_path / "model"
    assert convert_checkpoint(tmp_path / "a.pth", folder) == "avsiam"
    check_same(unwrapped(layout.write(load_model(folder))), theirs)


def check_same(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert given.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(given[name], tensor), name
