"""Checkpoints of CAV-MAE and AVSiam to model folders and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden import fake_checkpoint
from published_weights import published_cavmae
from ssl_golden import needs_ssl
from torch import Tensor

from plugins.cavmae.layout import Kind, write
from zoo.catalog.convert import convert_checkpoint, export_checkpoint
from zoo.catalog.model_folder import load_model
from zoo.checkpoints.layouts import unwrapped
from zoo.cli.app import run
from zoo.inference.reconstruction import Rebuilder
from zoo.models.reconstruction import Hiding
from zoo.testing import check_format

KINDS: dict[str, Kind] = {"cavmae": "pretrained", "cavmae-finetuned": "finetuned"}
INVENTORIES = {"cavmae": "cavmae_pretrain_keys.csv", "cavmae-finetuned": "cavmae_finetune_keys.csv"}


@pytest.mark.parametrize("name", KINDS)
def test_the_layout_keeps_its_promises(name: str) -> None:
    check_format(name, unwrapped(published_cavmae(KINDS[name])))


@pytest.mark.parametrize("name", KINDS)
def test_a_checkpoint_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    theirs = published_cavmae(KINDS[name])
    torch.save(theirs, tmp_path / "audio_model.21.pth")
    folder, again = tmp_path / "model", tmp_path / "again.pth"
    assert convert_checkpoint(tmp_path / "audio_model.21.pth", folder) == name
    assert export_checkpoint(folder, again) == name
    check_same(torch.load(again, weights_only=True), theirs)
    if name == "cavmae":  # with the decoder that was published
        assert Rebuilder(str(folder)).trained == Hiding(0.75, 0.75)


@needs_ssl
@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_published_inventory_fits(name: str, tmp_path: Path) -> None:
    theirs = fake_checkpoint(INVENTORIES[name])
    torch.save({f"module.{key}": tensor for key, tensor in theirs.items()}, tmp_path / "a.pth")
    folder = tmp_path / "model"
    assert convert_checkpoint(tmp_path / "a.pth", folder) == name
    model = load_model(folder)
    check_same(unwrapped(write(KINDS[name], model)), theirs)
    if name == "cavmae":
        assert model.objective is not None  # with the decoder that was published


def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = published_cavmae("pretrained")
    del theirs["module.blocks_v.0.attn.qkv.weight"]
    torch.save(theirs, tmp_path / "a.pth")
    assert run(["convert", str(tmp_path / "a.pth"), "-o", str(tmp_path / "model")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "does not fit the layout 'cavmae': it lacks the tensor 'blocks_v.0.attn.qkv" in said
    assert not (tmp_path / "model").exists()


def check_same(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert given.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(given[name], tensor), name
