"""Audiovisual MAE as published, small: written, pulled, fine-tuned as MBT, written back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from served import serve

from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from plugins.synthetic.labelled import CLASSES
from zoo.catalog.entries import read_catalog
from zoo.catalog.model_folder import load_model
from zoo.cli.app import run

NAME = "avmae-vggsound"
SIZES = ("width=24", "depth=3", "heads=2", "fusion=separate")
DECODER = ("width=16", "depth=1", "heads=2")


def settings(group: str, *given: str) -> list[str]:
    return [word for setting in given for word in ("--set", f"{group}.{setting}")]


@pytest.mark.usefixtures("in_process")
def test_a_published_avmae_is_pulled_and_becomes_an_mbt(tmp_path: Path) -> None:
    config = SyntheticConfig(kind="labelled", seed=5, seconds=3.0)
    render_folder(tmp_path, config, 16, {"train": 0.5, "valid": 0.5}, workers=1)
    data = ("--data", str(tmp_path / "manifest.parquet"))
    here = settings("data", "loader_workers=0")
    first, file, tuned = (tmp_path / name for name in ("first", "checkpoint", "tuned"))
    sizes = settings("encoder", *SIZES) + settings("objective.decoder", *DECODER)
    short = settings("stage1", "steps=1", "clips=2", "valid_clips=2")
    begun = ("--extractor", "avmae", "--preset", "paper", "--stage", "1", *sizes, *short, *here)
    assert run(["train", *begun, *data, "--out", str(first)]) == 0
    assert run(["convert", str(first), "--to", "published", "--out", str(file)]) == 0

    download = read_catalog()[NAME][0].download
    assert download is not None
    path = "/" + download.url.split("/", 3)[3]
    with serve({path: file.read_bytes()}) as server:
        assert run(["pull", NAME, "--mirror", server.address]) == 0
    back = tmp_path / "back"
    assert run(["convert", NAME, "--to", "published", "--out", str(back)]) == 0
    assert back.read_bytes() == file.read_bytes()

    answers = ("--task", "classification", "--head", "linear_shared", "--features", "online", *here)
    short = settings("stage2", "encoder=trained", "steps=1", "batch=2", "valid_rounds=1")
    fine_tuning = ("--extractor", "mbt", "--init", NAME, "--preset", "paper", *answers, *short)
    assert run(["train", *fine_tuning, *data, "--stage", "2", "--out", str(tuned)]) == 0
    report, once = tmp_path / "report.json", ("--rounds", "1", "--split", "valid", "--no-controls")
    asked = (str(tuned), *data, *once, "--views", "2", "--out", str(report))
    assert run(["evaluate", *asked]) == 0
    assert json.loads(report.read_text())["num_clips"] == len(CLASSES)

    written, again = tmp_path / "mbt", tmp_path / "again"
    assert run(["convert", str(tuned), "--to", "published", "--out", str(written)]) == 0
    assert run(["convert", str(written), "--out", str(again)]) == 0
    model = load_model(tuned).state_dict()
    for name, tensor in load_model(again).state_dict().items():
        assert torch.equal(tensor, model[name]), name
