"""Published checkpoints of Audiovisual MAE and MBT: read, run, written back bit for bit."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avmae_golden import check, fake_given, needs_avmae
from golden import REFERENCE, SALT, recipe
from torch import Tensor

from zoo.catalog.model_folder import load_model
from zoo.checkpoints.flax_file import write_flax
from zoo.checkpoints.layouts import read_model, read_tensors
from zoo.cli.app import run
from zoo.contracts import Modality
from zoo.models.patches import PatchGrid
from zoo.models.stream_block import sine_cosine_row
from zoo.testing import check_format

pytestmark = needs_avmae
Arrays = dict[str, np.ndarray]
FORMATS = {"mbt_av": "mbt", "mbt_a": "mbt", "mbt_v": "mbt"}
MODELS = ["separate_same", "early_separate", "mid_same", "early_same_modtok", *FORMATS]
TO_FLAX: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "T": lambda x: x.T,
    "conv2d": lambda x: x.transpose(2, 3, 1, 0),
    "conv3d": lambda x: x.transpose(2, 3, 4, 1, 0),
}


@cache
def published(model: str) -> dict[str, Tensor]:
    """Return the stand-in tensors of a small model, by the names of Flax."""
    made = {}
    with (REFERENCE / "golden_avmae" / "tiny_keys.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model]
    for row in rows:
        shape, fake_shape = (tuple(map(int, row[k].split("x"))) for k in ("shape", "fake_shape"))
        fake = recipe().fake_tensor(SALT, row["fake_key"], fake_shape)
        if row["to_flax"] in {"qkv", "out"}:
            fake = fake.T
        fake = TO_FLAX.get(row["to_flax"], lambda x: x)(fake)
        made[row["key"]] = torch.from_numpy(np.ascontiguousarray(fake.reshape(shape)))
    return made


def nested(tensors: dict[str, Tensor]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *groups, last = name.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = tensor
    return tree


@pytest.mark.parametrize("model", MODELS)
def test_layouts(model: str) -> None:
    check_format(FORMATS.get(model, "avmae"), published(model))


@pytest.mark.parametrize("place", ["params", "optimizer/target", "optimizer/target/params"])
def test_both_historic_files_are_read(place: str, tmp_path: Path) -> None:
    tree = nested(published("mid_same"))
    for group in reversed(place.split("/")):
        tree = {group: tree}
    path = tmp_path / "checkpoint"
    write_flax(path, {**tree, "global_step": torch.tensor(5)})
    name, model = read_model(path)
    assert name == "avmae"
    settings = model.config.encoder.config
    assert (settings["fusion"], settings["depth"], settings["joint_layers"]) == ("mid", 4, 2)
    assert settings["heads"] == 3


def test_a_converted_mbt_answers_as_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its file comes back, under either name of the embedding of audio."""
    tensors = published("mbt_av")
    renamed = {
        name.replace("embedding_spectrogram", "embedding_spec"): x for name, x in tensors.items()
    }
    path, folder, again = tmp_path / "checkpoint", tmp_path / "model", tmp_path / "again"
    write_flax(path, {"params": nested(renamed)})
    # What no shape tells: the first exchange, and what the small arrays were made with.
    settings = ["encoder.fusion_layer=2", "encoder.audio_frontend.n_mels=48"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert run(["convert", str(path), "--out", str(folder), *words]) == 0
    assert "caution: how the authors made their spectrograms is not" in capsys.readouterr().out
    assert run(["info", str(folder)]) == 0
    assert "how the authors made their spectrograms is not published" in capsys.readouterr().out
    model = load_model(folder).eval()
    encoder = model.encoder
    given = fake_given(("", "/b"), (6, 48, 64), (72, 48), "tiny_mbt_spec")
    found = {m: hidden(encoder, m, x) for m, x in given.items()}
    with torch.no_grad():
        audio, vision = encoder.fuse(found["audio"], found["vision"])  # type: ignore[operator]
        answers = [model.head.classifier(x.mean(1)) for x in (audio, vision)]  # type: ignore[union-attr]
    check("tiny_mbt/av.logits", torch.stack(answers).mean(0), 1e-5)
    assert run(["convert", str(folder), "--to", "published", "--out", str(again)]) == 0
    back = max(read_tensors(again), key=len)
    back = {name.removeprefix("params/"): tensor for name, tensor in back.items()}
    assert set(back) == set(tensors)
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


def hidden(encoder: Any, modality: Modality, given: Tensor) -> Tensor:
    """Encode patches of another grid than the encoder was made for: positions are computed."""
    grids: dict[Modality, PatchGrid] = {
        "audio": PatchGrid(4, 3, 16, 16, is_time_first=True),
        "vision": PatchGrid(3, 4, 16, 16, channels=3, frames=3, depth=2),
    }
    encoder.grids = {**encoder.grids, modality: grids[modality]}
    table = sine_cosine_row(encoder.width, grids[modality].num_patches)
    setattr(encoder, f"positions_{modality}", table[None])
    with torch.no_grad():
        return encoder.encode_modality(modality, encoder.patchify(modality, given))


def test_what_is_wrong_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = published("mid_same") | {"embedding_rgb/bias": torch.full((48,), torch.nan)}
    path = tmp_path / "checkpoint"
    write_flax(path, {"params": nested(tensors)})
    assert run(["convert", str(path), "--out", str(tmp_path / "model")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'embedding_rgb.bias' holds NaN" in said
